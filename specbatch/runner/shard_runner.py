"""Runs one attempt at a shard: rows go from the prefetcher through the engines to the files, and progress is saved."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from msgspec.structs import replace

from specbatch.engine.stats import EngineStats
from specbatch.errors import SpecbatchError, StoppedError
from specbatch.redact import redact
from specbatch.results.attempts import Outcome
from specbatch.results.latency import bucket
from specbatch.results.protocol import Progress, PublishState
from specbatch.results.shard.shard import ShardResults
from specbatch.results.summary import RunSummary
from specbatch.runner.budget import ErrorBudget
from specbatch.runner.display import Display
from specbatch.runner.output.output_processor import OutputProcessor
from specbatch.runner.output.writer import ResultWriter
from specbatch.runner.progress_meter import LoadedInfo, ProgressMeter, progress_of, summarize
from specbatch.runner.replicas import EngineProtocol, decode_all
from specbatch.runner.requests import RequestMaker, RequestSource
from specbatch.runner.rows.prefetcher import RowPrefetcher
from specbatch.runner.rows.row import BadRow
from specbatch.runner.stopping import StopNow, StopSignals, stopped


@dataclass(frozen=True, slots=True)
class Loaded:
    """Engines that are ready, and what their loading says of the run."""

    engines: Sequence[EngineProtocol]
    make_request: RequestMaker
    info: LoadedInfo


class ShardRunner:
    """Decodes what is left of a shard, and saves it whatever happens.

    Args:
        store: the shard's files, open.
        make_prefetcher: makes the prefetcher, given where its bad rows go.
        outputs: makes lines of rows.
        budget: of bad rows.
        signals: stop signals.
        display: shows how it goes.
        publish: how far publishing is.

    Attributes:
        complete: whether every row of the shard has ended, within the error budget.
        prefetcher: of its rows; it counts what it passed over.
    """

    def __init__(
        self,
        store: ShardResults,
        make_prefetcher: Callable[[Callable[[BadRow], None]], RowPrefetcher],
        outputs: OutputProcessor,
        *,
        budget: ErrorBudget,
        signals: StopSignals,
        display: Display,
        publish: Callable[[], PublishState | None] = lambda: None,
    ) -> None:
        self._store = store
        self._outputs = outputs
        self._budget = budget
        self._signals = signals
        self._display = display
        self._engines: Sequence[EngineProtocol] = ()
        self._info = LoadedInfo()
        self._told = False
        self.prefetcher = make_prefetcher(lambda row: self._writer.put(partial(outputs.bad, row)))
        self._writer = ResultWriter(
            store,
            budget=budget,
            save_progress=partial(self._save_progress, "running"),
            on_failure=self.prefetcher.stop,
        )
        self._found = store.ended
        self._latency: Counter[str] = Counter()
        self._meter = ProgressMeter(self._count, self._show, lambda: self._info.gpu_mib())  # noqa: PLW0108 - it changes with loading
        self._publish = publish
        self._outcome: Outcome = "running"
        self._reason = ""  # why it failed
        self.complete = False

    def run(self, load: Callable[[], Loaded]) -> RunSummary:
        """Decodes every row that is not finished. Models are loaded only if there is one.

        Raises:
            SpecbatchError: of any kind; StoppedError after a stop signal. What was finished is saved before.
        """
        outcome: Outcome = "failed"
        self._save_progress("running")
        self._writer.start()
        self.prefetcher.start()
        try:
            if self.prefetcher.wait_for_row():
                self._decode(load())
            self._end_of_rows()
            outcome = "done"
        except (StopNow, StoppedError):
            outcome = "stopped"
            raise
        except Exception as error:
            self._reason = redact(str(error)) or type(error).__name__
            raise
        finally:
            self._signals.finish()
            self._save(outcome)
        return self._summary()

    def fail(self, error: SpecbatchError) -> None:
        """Every row has ended, and still the run has not succeeded: the progress file says why."""
        self._outcome, self._reason = "failed", str(error)
        self._save_progress(self._outcome)

    def save_last_progress(self) -> None:
        """Saves the progress once more: publishing has gone on since the end."""
        self._meter.last = replace(self._meter.last, publish=self._publish())
        with contextlib.suppress(SpecbatchError):  # it is for people: the rows are safe
            self._save_progress(self._outcome)

    def _decode(self, loaded: Loaded) -> None:
        self._engines, self._info = loaded.engines, loaded.info
        self._signals.start_draining(self.prefetcher.stop)
        self._meter.start()
        for decoded in decode_all(loaded.engines, RequestSource(self.prefetcher, loaded.make_request)):
            if all(completion.finish_reason != "error" for completion in decoded.completions):
                self._latency[bucket(decoded.seconds)] += 1
            self._writer.put(partial(self._outputs.decoded, decoded))
            if self._writer.failure is not None:
                return

    def _end_of_rows(self) -> None:
        """All that could be decoded is queued for writing: was that everything?"""
        exhausted = self.prefetcher.exhausted
        self.prefetcher.close()
        self._writer.close()
        if self._signals.requested.is_set() and not exhausted:
            raise stopped()
        self._budget.check_count(self._store.totals.errors)  # also those of earlier attempts alone
        self._budget.check_share(self._store.totals.errors, self._store.totals.rows)
        self.complete = exhausted

    def _save(self, outcome: Outcome) -> None:
        """Writes what is finished and lets go of the files; after a failure, as far as that goes."""
        failing = contextlib.suppress(SpecbatchError) if outcome == "failed" else contextlib.nullcontext()
        self._outcome = outcome
        self.prefetcher.stop()
        self._meter.close()
        with failing:
            self._writer.close()
        with failing:
            self._save_progress(outcome)
        with failing:
            self._store.close()

    def _stats(self) -> EngineStats:
        return EngineStats.merged([engine.stats for engine in self._engines])

    def _count(self, seconds: float) -> Progress:
        """What a snapshot has besides the speed; may be asked from any thread at any time."""
        stats = self._stats()
        dataset_rows = self.prefetcher.dataset_rows  # first: once it is known, the total is exact
        total = self.prefetcher.total_rows()
        return replace(
            progress_of(stats, self._store.written, self._found, seconds=seconds, ceiling=self._info.ceiling(stats)),
            total_rows=total,
            total_rows_estimated=total is not None and dataset_rows is None,
            dataset_rows=dataset_rows,
            publish=self._publish(),
            waiting=self.prefetcher.waiting,
        )

    def _summary(self) -> RunSummary:
        return summarize(
            self._stats(),
            written=self._store.written,
            totals=self._store.totals,
            skipped=self.prefetcher.skipped,
            seconds=self._meter.seconds,
            loaded=self._info,
            row_latency=dict(self._latency),
            ended=self._store.ended,
            dataset_rows=self.prefetcher.dataset_rows,
        )

    def _save_progress(self, outcome: Outcome) -> None:
        waiting = self.prefetcher.waiting if self._outcome == "running" else ""
        now = replace(self._meter.last, waiting=waiting)
        self._store.save_progress(self._summary(), self._meter.timeline, outcome, now, self._reason)

    def _show(self, progress: Progress, last: bool) -> None:
        if self._signals.requested.is_set() and not self._told:
            self._told = True
            self._display.step(
                f"stopping: {progress.active} rows in flight have {self._signals.drain_seconds:.0f} s to finish"
            )
        self._display.show(progress, last=last)
