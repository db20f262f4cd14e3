"""Measures a run while it goes on: a thread reads the engines' counters every half second."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from specbatch.engine.stats import EngineStats
from specbatch.results.ended import Ended
from specbatch.results.protocol import Progress
from specbatch.results.summary import Counters, RunSummary, thinned
from specbatch.results.timeline import Sample, Timeline
from specbatch.results.totals import Totals

_RATE_SECONDS = 10.0  # the speed shown is that of the last seconds
_SNAPSHOT_SECONDS = 0.5
_ENGINE_NAMES = {"completion_tokens": "emitted", "phase_seconds": "seconds"}  # of Counters; the others are the same


def counters_of(stats: EngineStats) -> dict[str, Any]:
    """The fields of Counters, as the engine has counted them."""
    found = {name: getattr(stats, _ENGINE_NAMES.get(name, name)) for name in Counters.__struct_fields__}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in found.items()}


def progress_of(
    stats: EngineStats, written: Totals, found: Ended, *, seconds: float, ceiling: float | None = None
) -> Progress:
    """A snapshot of an attempt as far as the counters tell.

    Args:
        stats: of all engines together.
        written: the rows of this attempt.
        found: the shard's count when the attempt began.
        seconds: since decoding began.
        ceiling: predicted tokens per second.
    """
    return Progress(
        **counters_of(stats),
        seconds=seconds,
        rows=written.rows + found.rows,
        errors=written.errors + found.errors,
        skipped=found.rows,
        active=stats.active,
        acceptance_rate=stats.acceptance_rate,
        mean_acceptance_length=stats.mean_acceptance_length,
        num_speculative_tokens=stats.num_speculative_tokens,
        fraction_of_ceiling=stats.emitted / seconds / ceiling if ceiling and seconds > 0 else None,
        target_only_tokens_per_second=_target_only(stats, seconds),
    )


def _target_only(stats: EngineStats, seconds: float) -> float | None:
    """Tokens per second of the target alone, estimated."""
    slowdown = stats.target_only_slowdown
    return stats.emitted / seconds / slowdown if slowdown and seconds > 0 else None


class ProgressMeter:
    """Takes a snapshot of a run every half second, until closed.

    Args:
        count: the counts at so many seconds since decoding began, all but the speed; called from any thread.
        show: called with every snapshot, and whether it is the last, in the meter's thread.
        gpu_mib: what is held of each GPU now.
        clock: seconds.

    Attributes:
        timeline: samples since decoding began.
        last: the last snapshot; nothing is decoded in it before the first.
    """

    def __init__(
        self,
        count: Callable[[float], Progress],
        show: Callable[[Progress, bool], None],
        gpu_mib: Callable[[], tuple[int, ...]] = tuple,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._count = count
        self._show = show
        self._gpu_mib = gpu_mib
        self._clock = clock
        self._began = clock()
        self._seconds: float | None = None
        self._recent: deque[tuple[float, int, int]] = deque()  # (seconds, tokens, rows)
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="specbatch-progress", daemon=True)
        self.timeline = Timeline()
        self.last = Progress()

    def start(self) -> None:
        """Decoding begins now."""
        self._began = self._clock()
        self._thread.start()

    def close(self) -> None:
        """Ends with a last snapshot; a second call does nothing."""
        if self._thread.ident is not None and not self._ended.is_set():
            self._ended.set()
            self._thread.join()
            self._seconds = self._clock() - self._began
            self._show(self.snapshot(), True)

    @property
    def seconds(self) -> float:
        """Since decoding began, until `close`; 0 before."""
        if self._seconds is not None or self._thread.ident is None:
            return self._seconds or 0.0
        return self._clock() - self._began

    def snapshot(self) -> Progress:
        """The numbers as of now, with the speed of the last seconds; also a sample of the timeline."""
        with self._lock:
            seconds = self.seconds
            now = self._count(seconds)
            rows = now.rows - now.skipped
            self.timeline.add(
                Sample(
                    t=round(seconds, 3),
                    rows=rows,
                    completion_tokens=now.completion_tokens,
                    drafted=now.drafted,
                    accepted=now.accepted,
                    k=now.num_speculative_tokens or 0,
                    active=now.active or 0,
                    gpu_mib=self._gpu_mib(),
                )
            )
            token_rate, row_rate = self._rates(seconds, now.completion_tokens, rows)
            left = None if now.total_rows is None else max(0, now.total_rows - now.rows)
            eta = 0.0 if left == 0 else left / row_rate if left and row_rate else None
            self.last = replace(now, tokens_per_second=token_rate, eta_seconds=eta)
            return self.last

    def _rates(self, seconds: float, tokens: int, rows: int) -> tuple[float, float]:
        """Tokens and rows a second, over the last seconds."""
        self._recent.append((seconds, tokens, rows))
        while len(self._recent) > 2 and seconds - self._recent[1][0] >= _RATE_SECONDS:
            self._recent.popleft()
        then, tokens_then, rows_then = self._recent[0] if len(self._recent) > 1 else (0.0, 0, 0)
        passed = seconds - then
        return ((tokens - tokens_then) / passed, (rows - rows_then) / passed) if passed > 0 else (0.0, 0.0)

    def _run(self) -> None:
        while not self._ended.wait(_SNAPSHOT_SECONDS):
            self._show(self.snapshot(), False)


@dataclass(frozen=True, slots=True)
class LoadedInfo:
    """What loading the engines says of the run."""

    engine: str = ""  # make_engine.describe
    load_seconds: float = 0.0
    ceiling: Callable[[EngineStats], float | None] = lambda _stats: None
    gpu_mib: Callable[[], tuple[int, ...]] = tuple
    gpus: int = 0  # that the placement uses
    price: float | None = None  # of one for an hour


def summarize(
    stats: EngineStats,
    *,
    written: Totals,
    totals: Totals,
    skipped: int,
    seconds: float,
    loaded: LoadedInfo,
    row_latency: Mapping[str, int] | None = None,
    ended: Ended | None = None,
    dataset_rows: int | None = None,
) -> RunSummary:
    """The attempt so far."""
    return RunSummary(
        **counters_of(stats),
        results=written.results,
        errors=written.errors,
        skipped=skipped,
        seconds=seconds,
        engine=loaded.engine,
        load_seconds=loaded.load_seconds,
        k_changes=thinned(stats.k_changes),
        predicted_tokens_per_second=loaded.ceiling(stats),
        target_only_tokens_per_second=_target_only(stats, seconds),
        row_latency=dict(row_latency or {}),
        gpu_seconds=loaded.gpus * seconds,
        gpu_seconds_before=loaded.gpus * (loaded.load_seconds + stats.warmup_seconds),
        price=loaded.price,
        totals=totals,
        ended=ended,
        dataset_rows=dataset_rows,
    )
