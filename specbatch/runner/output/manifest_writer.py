"""Writes the manifest of a shard when its attempt ends, however it ends."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from specbatch.api.job import SpecBatchJob
from specbatch.errors import ResultsError
from specbatch.plan.advice.render import render
from specbatch.results.hardware import Hardware
from specbatch.results.manifest import Manifest, read_manifests, write_manifest
from specbatch.results.shard.shard import ShardResults
from specbatch.runner.dataset.lines import Shard
from specbatch.runner.inputs import RunInputs
from specbatch.runner.shard_runner import ShardRunner
from specbatch.runner.versions import versions


class ManifestWriter:
    """Writes the manifest of one shard. What an earlier one says of placement and verification stays true where nothing is loaded.

    Args:
        job: the spec.
        run_dir: the run's directory.
        shard: which rows are ours.
        fresh: earlier results do not count.

    Attributes:
        placement, hardware: what was loaded, and onto what.
        prompts: how they are read from the dataset's rows, for people.
        warnings: what the target's folder asks for and the run does not do.
    """

    def __init__(self, job: SpecBatchJob, run_dir: Path, shard: Shard, *, fresh: bool) -> None:
        self._job = job
        self._run_dir = run_dir
        self._shard = shard
        self._earlier: Manifest | None = None
        if not fresh:
            with contextlib.suppress(ResultsError):  # a broken one is about to be replaced
                found = read_manifests(run_dir)
                mine = [one for one in found if (one.shard, one.shards) == (shard.number, shard.count)]
                self._earlier = next(iter(mine or found), None)  # or anyone's: this shard may be new
        self.placement: Mapping[str, Mapping[str, str]] = self._earlier.placement if self._earlier else {}
        self.hardware: Hardware | None = self._earlier.hardware if self._earlier else None
        self.prompts = ""
        self.warnings: Sequence[str] = ()

    @contextlib.contextmanager
    def after(self, store: ShardResults, runner: ShardRunner, inputs: RunInputs) -> Iterator[None]:
        """Writes it after the block; on a disk that is full, say, what came first is the error to show."""
        try:
            yield
        except BaseException:
            with contextlib.suppress(ResultsError):
                self.write(store, runner, inputs)
            raise
        store.check_whole()
        self.write(store, runner, inputs)

    def write(self, store: ShardResults, runner: ShardRunner, inputs: RunInputs) -> None:
        """Writes it as of now.

        Raises:
            ResultsError: it cannot be written.
        """
        manifest = Manifest(
            name=self._job.metadata.name,
            shard=self._shard.number,
            shards=self._shard.count,
            complete=runner.complete,
            identity=store.identity,
            files=store.files,
            totals=store.totals,
            attempts=store.attempts,
            skipped=runner.prefetcher.skipped,
            spec=self._job.public(),
            versions=versions(),
            placement=self.placement,
            placement_tree="\n".join(render(inputs.plan)),
            env=inputs.plan.env_strings,
            hardware=self.hardware,
            other_models=runner.prefetcher.other_models,
            dataset_rows=runner.prefetcher.dataset_rows,
            prompts=self.prompts,
            warnings=tuple(self.warnings),
            verification=self._earlier.verification if self._earlier and not store.written.rows else None,
        )
        write_manifest(self._run_dir, manifest)
