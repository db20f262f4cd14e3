"""The status of a run, read from its small files while it may be running.

Reads only, takes no lock, and of rows only those that no count has yet: files may be half-written, or gone between listing and reading.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec

from specbatch.errors import ResultsError
from specbatch.results.attempts import Attempt, read_attempts
from specbatch.results.ended import Ended, grown
from specbatch.results.layout import SUCCESS, ShardFile, parse_names
from specbatch.results.manifest import Manifest
from specbatch.results.protocol import Progress
from specbatch.results.speedup import Speedup, speedup_of
from specbatch.results.splits import no_run, read_split
from specbatch.results.status.shard_status import ShardStatus
from specbatch.results.status.verdict import AT_WORK
from specbatch.results.storage.folder import Folder
from specbatch.results.storage.process import seen_locked
from specbatch.results.storage.typed import load_json
from specbatch.results.summary import RunSummary, combine
from specbatch.results.totals import Totals
from specbatch.results.verification import Verification, verification_of


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatus:
    """A run and its shards.

    Args:
        name: metadata.name.
        where: its folder.
        success: whether _SUCCESS is there.
        shards: in order.
    """

    name: str
    where: str
    success: bool
    shards: Sequence[ShardStatus]

    @property
    def summary(self) -> RunSummary:
        """All attempts at all shards as one."""
        return combine((one.summary for one in self.shards), Totals(), at_once=True)

    @property
    def verification(self) -> Verification | None:
        """What `specbatch verify` found; None before it ran."""
        return verification_of(one.manifest.verification for one in self.shards if one.manifest)

    @property
    def speedup(self) -> Speedup | None:
        """Over the target alone; None where nothing was drafted."""
        parts = [attempt.summary for one in self.shards for attempt in one.attempts]
        return speedup_of(self.summary, parts, self.verification)

    @property
    def now(self) -> Progress:
        """That of all shards together. Speed and time left are those of the shards at work, and of all once none is."""
        at_work = Progress.merged(
            [one.now for one in self.shards if one.verdict in AT_WORK] or [one.now for one in self.shards]
        )
        summary = self.summary
        return msgspec.structs.replace(
            Progress.of_run([one.now for one in self.shards]),
            tokens_per_second=at_work.tokens_per_second,
            eta_seconds=at_work.eta_seconds,
            acceptance_rate=summary.acceptance_rate,
            mean_acceptance_length=summary.mean_acceptance_length,
        )

    @property
    def complete(self) -> bool:
        """Whether every shard is."""
        return all(shard.verdict == "complete" for shard in self.shards)


def read_status(folder: Folder, clock: float) -> RunStatus:
    """The run in a folder at `clock`, the Unix time now. Of a published run the manifests tell.

    Raises:
        ResultsError: no run is there, or the folder cannot be reached.
    """
    names = folder.sizes()
    count = read_split(folder, names)
    if count is None or not parse_names(names):
        raise no_run(folder)
    shards = tuple(_shard(folder, names, shard, count, clock) for shard in range(count))
    manifest = next((one.manifest for one in shards if one.manifest), None)
    known = (rows for one in shards if (rows := one.known_dataset_rows) is not None)
    dataset_rows = next(known, None)
    shards = tuple(replace(one, dataset_rows=dataset_rows) for one in shards)
    return RunStatus(
        name=manifest.name if manifest else folder.name,
        where=folder.uri,
        success=SUCCESS in names,
        shards=shards,
    )


def _shard(folder: Folder, names: Mapping[str, int], shard: int, shards: int, clock: float) -> ShardStatus:
    manifest: Manifest | None = None
    attempts: tuple[Attempt, ...] = ()
    locked = False
    if (name := ShardFile("manifest", shard, shards).name) in names:
        with contextlib.suppress(ResultsError, ValueError, KeyError, TypeError, AttributeError):
            manifest = Manifest.from_json(load_json(folder.read(name)))
    if ShardFile("progress", shard, shards).name in names:
        attempts = read_attempts(folder, shard, shards)
    if folder.local is not None:
        locked = seen_locked(folder.local / ShardFile("part", shard, shards).name)
    recorded = tuple(manifest.attempts) if manifest else ()
    attempts = attempts or recorded
    ended = attempts[-1].summary.ended if attempts else None
    more = (0, 0)
    if folder.local is not None:
        more = grown(folder.local, ShardFile("part", shard, shards), ended or Ended())
    return ShardStatus(
        shard=shard,
        shards=shards,
        clock=clock,
        attempts=attempts,
        manifest=manifest,
        locked=locked,
        grown=more,
    )
