"""A run from its spec to its manifest: devices, models, plan, results, rows, report. Imports torch: job.py calls it last."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from specbatch.api.job import SpecBatchJob
from specbatch.engine.make_engine import describe
from specbatch.errors import OutOfMemoryError, ResultsError
from specbatch.plan.plan_request import PlanRequest
from specbatch.plan.planner import make_plan
from specbatch.plan.render import render
from specbatch.plan.types import Plan
from specbatch.results.hardware import Hardware
from specbatch.results.identity import Identity
from specbatch.results.layout import run_directory
from specbatch.results.manifest import Manifest, read_manifests, success_of, write_manifest, write_success
from specbatch.results.protocol import Finished, Started
from specbatch.results.report.report import write_report
from specbatch.results.shard.shard import ShardResults
from specbatch.results.shard.unanswered import unanswered
from specbatch.results.storage.folder import Folder
from specbatch.results.summary import RunSummary
from specbatch.runner.budget import ErrorBudget
from specbatch.runner.ceiling import CeilingOfRun
from specbatch.runner.dataset.dataset import Dataset, Shard
from specbatch.runner.devices import visible_gpus
from specbatch.runner.display import WARNING, Display
from specbatch.runner.environment import SMALL_STEP_BYTES
from specbatch.runner.identity import run_identity, run_instant
from specbatch.runner.models.defaults import ModelDefaults
from specbatch.runner.models.load import (
    Pair,
    find_pair,
    load_engines,
    load_shared_tokenizer,
    placements_of,
    read_shapes,
)
from specbatch.runner.models.tokenizer import Detokenizer, Tokenizer
from specbatch.runner.output_processor import OutputProcessor
from specbatch.runner.progress_meter import LoadedInfo
from specbatch.runner.publishing import Publishing
from specbatch.runner.requests import RequestMaker
from specbatch.runner.retry import Retrier
from specbatch.runner.rows.prefetcher import RowPrefetcher
from specbatch.runner.rows.reading import Reading
from specbatch.runner.rows.row import RowReader
from specbatch.runner.rows.templates import ChatTemplate, choose_template
from specbatch.runner.shard_runner import Loaded, ShardRunner
from specbatch.runner.stopping import StopSignals
from specbatch.runner.versions import hardware, versions

_READY_ROWS = 4  # batches of rows held ready


class Session:
    """One call of `run`: everything that is decided before rows are decoded, and what is written after.

    Args:
        job: the spec.
        shard: which rows are ours.
        display: shows how it goes.
        env: environment variables.
        signals: whether we are told to stop.
        few_threads: whether a model too small for several CPU threads may go down to one.
    """

    def __init__(
        self,
        job: SpecBatchJob,
        shard: Shard,
        display: Display,
        env: Mapping[str, str],
        signals: StopSignals,
        *,
        few_threads: bool = False,
    ) -> None:
        self._job = job
        self._shard = shard
        self._display = display
        self._env = env
        self._signals = signals
        self._few_threads = few_threads
        self._run_dir = run_directory(job.spec.results.dir, job.results_name)
        self._placements: Mapping[str, Mapping[str, str]] = {}
        self._hardware: Hardware | None = None
        self._warnings: Sequence[str] = ()
        self._earlier: Manifest | None = None

    def run(self, *, fresh: bool) -> RunSummary:
        """Runs the shard to its end.

        Raises:
            SpecbatchError: of any kind; what was finished is saved.
        """
        spec = self._job.spec
        dataset = self._dataset()
        gpus = visible_gpus(spec.placement.gpus, self._env)
        pair = find_pair(spec, self._env, self._display.step)
        target, drafter = read_shapes(spec, pair)
        if self._few_threads and target.step_bytes < SMALL_STEP_BYTES:
            torch.set_num_threads(1)
        plan = make_plan(self._job, target, drafter, gpus, self._env)
        if not plan.fits:
            raise OutOfMemoryError(
                f"the placement does not fit: {'; '.join(plan.problems)}",
                where="spec.placement",
                remedy="`specbatch plan FILE` shows by how much, and what else would fit",
            )
        tokenizer = load_shared_tokenizer(spec, pair)
        template = choose_template(spec.dataset, tokenizer)
        self._display.show(Started(self._job.metadata.name, str(self._run_dir)))
        self._warn(pair, tokenizer)
        instant = run_instant(self._job, self._run_dir, self._shard, template, self._env, fresh=fresh)
        if instant:
            self._display.step(f"the chat template reads the clock: every row of this run is shown {instant}")
        identity = run_identity(self._job, dataset, pair, template, instant=instant)
        with self._publishing(identity, fresh=fresh) as publishing:
            self._earlier = self._earlier_manifest(fresh=fresh)
            self._placements = self._earlier.placement if self._earlier else {}
            with ShardResults.open(
                self._run_dir,
                shard=self._shard.number,
                shards=self._shard.count,
                identity=identity,
                policy=replace(publishing.policy, on_cut=self._display.step),
                fresh=fresh,
                known_splits=publishing.known_splits,
                read_elsewhere=publishing.read_elsewhere,
            ) as store:
                publishing.start()
                attempt = self._attempt(store, dataset, tokenizer, template, pair, plan, publishing)
                ceiling = CeilingOfRun(plan, PlanRequest.of(self._job, target, drafter, gpus))
                try:
                    summary = attempt.run(lambda: self._load(pair, plan, Detokenizer(tokenizer), ceiling))
                except BaseException:
                    with contextlib.suppress(
                        ResultsError
                    ):  # on a disk that is full, say: what came first is the error to show
                        write_manifest(self._run_dir, self._manifest(store, attempt, plan))
                    raise
                store.check_whole()
                write_manifest(self._run_dir, self._manifest(store, attempt, plan))
            nothing = unanswered(Folder(self._run_dir))
            if nothing is not None:
                attempt.fail(nothing)
                write_manifest(self._run_dir, self._manifest(store, attempt, plan))
            complete = success_of(read_manifests(self._run_dir)) is not None
            report = self._report() if complete or self._shard.count == 1 else None
            write_success(self._run_dir)
            try:
                publishing.finish(attempt.save_last_progress)
            finally:
                for warning in self._warnings:  # once more, beside the summary
                    self._display.step(f"{WARNING}{warning}")
                self._display.show(Finished(summary, str(self._run_dir), str(report) if report else None))
            nothing = nothing or publishing.unanswered()
            if nothing is not None:
                raise nothing
        return summary

    def _warn(self, pair: Pair, tokenizer: Tokenizer) -> None:
        """Says what the target's folder asks for and the run does not do."""
        defaults = ModelDefaults(pair.target.path, pair.target.name)
        self._warnings = defaults.warnings(tokenizer, self._job.spec.decoding)
        for warning in self._warnings:
            self._display.step(f"{WARNING}{warning}")
        if defaults.sampling:
            self._display.step(f"the target's own sampling ({defaults.sampling}) is not used: spec.decoding counts")

    def _dataset(self) -> Dataset:
        """The dataset, which can be read as far as a look at its files tells."""
        spec = self._job.spec.dataset
        dataset = Dataset(
            spec.uri,
            limit=spec.limit,
            form=spec.format,
            expected=spec.expect_rows,
            retrier=Retrier(spec.retry_seconds, say=self._display.step),
        )
        if dataset.left_out:
            self._display.step(dataset.left_out)
        dataset.check_readable()
        return dataset

    def _earlier_manifest(self, *, fresh: bool) -> Manifest | None:
        """What it says of placement and verification stays true where every row is finished and nothing is loaded."""
        with contextlib.suppress(ResultsError):  # a broken one is about to be replaced
            found = read_manifests(self._run_dir) if not fresh else ()
            mine = [one for one in found if (one.shard, one.shards) == (self._shard.number, self._shard.count)]
            return next(iter(mine or found), None)  # after a change of split, anyone's
        return None

    def _publishing(self, identity: Identity, *, fresh: bool) -> Publishing:
        return Publishing(
            self._job.spec.results,
            self._run_dir,
            self._shard,
            identity,
            fresh=fresh,
            signals=self._signals,
            say=self._display.step,
        )

    def _attempt(
        self,
        store: ShardResults,
        dataset: Dataset,
        tokenizer: Tokenizer,
        template: ChatTemplate | None,
        pair: Pair,
        plan: Plan,
        publishing: Publishing,
    ) -> ShardRunner:
        spec = self._job.spec
        reading = Reading.of(
            spec,
            tokenizer,
            template,
            target=store.identity.models["target"],
            max_length=self._max_length(pair, plan),
            instant=store.identity.instant,
            embedded=pair.target.vocab_size,
        )
        first = store.attempts[0].started_at if store.attempts else time.time()
        return ShardRunner(
            store,
            lambda on_bad: RowPrefetcher(
                dataset,
                RowReader(reading.rules),
                reading.encoder,
                shard=self._shard,
                finished=store.finished,
                on_bad=on_bad,
                capacity=max(64, _READY_ROWS * plan.max_sequences * len(plan.replicas)),
            ),
            OutputProcessor(
                Detokenizer(tokenizer),
                spec.target.model,
                created=int(first),
                include_prompt=spec.results.include_prompt,
            ),
            budget=ErrorBudget(spec.dataset.error_budget),
            signals=self._signals,
            display=self._display,
            publish=publishing.state,
        )

    def _max_length(self, pair: Pair, plan: Plan) -> int:
        """Past the target's last position its text would be worthless: longer rows are refused instead."""
        positions = pair.target.max_positions
        if positions is None or positions >= plan.max_length:
            return plan.max_length
        self._display.step(f"rows may have {positions} tokens: the target's positions, fewer than batching.maxLength")
        return positions

    def _load(self, pair: Pair, plan: Plan, detokenizer: Detokenizer, ceiling: CeilingOfRun) -> Loaded:
        began = time.monotonic()
        engines = load_engines(self._job.spec, pair, plan, self._display.step)
        self._placements = placements_of(engines)
        self._hardware = hardware(plan)
        warmup = sum(engine.stats.warmup_seconds for engine in engines)
        return Loaded(
            engines=engines,
            make_request=RequestMaker(detokenizer, engines[0].target.eos_token_ids),
            info=LoadedInfo(
                engine=describe(engines[0]), load_seconds=time.monotonic() - began - warmup, ceiling=ceiling
            ),
        )

    def _manifest(self, store: ShardResults, attempt: ShardRunner, plan: Plan) -> Manifest:
        return Manifest(
            name=self._job.metadata.name,
            shard=self._shard.number,
            shards=self._shard.count,
            complete=attempt.complete,
            identity=store.identity,
            files=store.files,
            totals=store.totals,
            attempts=store.attempts,
            generation=store.generation,
            moved=store.moved,
            skipped=attempt.skipped,
            spec=self._job.public(),
            versions=versions(),
            placement=self._placements,
            placement_tree="\n".join(render(plan)),
            env=plan.env_strings,
            hardware=self._hardware or (self._earlier.hardware if self._earlier else None),
            other_models=attempt.other_models,
            dataset_rows=attempt.dataset_rows,
            warnings=self._warnings,
            verification=self._earlier.verification if self._earlier and not store.written.rows else None,
        )

    def _report(self) -> Path | None:
        if not self._job.spec.results.report:
            return None
        try:
            return write_report(self._run_dir)
        except ResultsError as error:  # the results are whole without it
            self._display.step(f"no report: {error.message}")
            return None
