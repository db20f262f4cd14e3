"""Where a round's time goes: the kernels of two runs that differ in their number of rounds alone, one taken from the other."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu_lines import Pair, wait_all, warmed_engine
from benchmarks.inputs.workloads import Rows
from specbatch.engine.engine import Engine

_NAME = 60  # letters
_SHOWN = 40  # kernels
_FEWEST = 8  # new tokens of the shorter run
_ROUNDS = 12  # more rounds in the longer one, where each commits all that it may


def profile_rounds(pair: Pair, k: int | None, rows: Rows) -> None:
    """Prints the kernels of a round by the time they take, in all calls of a round together.

    Args:
        pair: the models.
        k: as in `measure`.
        rows: their new tokens are replaced by as many as a few rounds need.
    """
    short = replace(rows, new_tokens=[_FEWEST] * len(rows.prompts))
    long = replace(rows, new_tokens=[_FEWEST + _ROUNDS * (1 + (k or 8 * (k is None)))] * len(rows.prompts))
    with warmed_engine(pair, [k], [long]) as warmed:
        engine = warmed.engine
        _run(pair, engine, long)
        plain = [_run(pair, engine, work) for work in (short, long)]
        with_short, with_long = (_profiled(pair, engine, work) for work in (short, long))
    rounds = plain[1][1] - plain[0][1]
    wall_us = 1e6 * (plain[1][0] - plain[0][0]) / rounds
    profiled_rounds = with_long[2] - with_short[2]
    times, calls = with_long[0], with_long[1]
    times.subtract(with_short[0])
    calls.subtract(with_short[1])
    _show(f"{rows.at_once} rows, k {'auto' if k is None else k}", times, calls, profiled_rounds, wall_us)


def _run(pair: Pair, engine: Engine, rows: Rows) -> tuple[float, int]:
    """Seconds and rounds of one generate()."""
    wait_all(pair)
    before, start = engine.stats.rounds, time.perf_counter()
    for _ in engine.generate(rows.requests()):
        pass
    wait_all(pair)
    return time.perf_counter() - start, engine.stats.rounds - before


def _profiled(pair: Pair, engine: Engine, rows: Rows) -> tuple[Counter[str], Counter[str], int]:
    """Microseconds and calls by kernel (by operator on a CPU), and rounds."""
    on_gpu = bool(wait_all(pair))
    with profile(activities=[ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU]) as profiler:
        _, rounds = _run(pair, engine, rows)
    times: Counter[str] = Counter()
    calls: Counter[str] = Counter()
    for event in profiler.key_averages():
        name = " ".join(event.key.split())[:_NAME]
        times[name] += event.self_device_time_total if on_gpu else event.self_cpu_time_total
        calls[name] += event.count
    return times, calls, rounds


def _show(title: str, times: Counter[str], calls: Counter[str], rounds: int, wall_us: float) -> None:
    total = sum(times.values()) / rounds
    print(
        f"\n### {title}: {total / 1e3:.2f} ms of kernels a round, {sum(calls.values()) / rounds:.0f} calls; "
        f"a round takes {wall_us / 1e3:.2f} ms without the profiler\n"
    )
    print("| kernel | calls a round | us each | ms a round | share |")
    print("|---|---|---|---|---|")
    shown: Sequence[tuple[str, float]] = [(name, us) for name, us in times.most_common(_SHOWN) if us > 0]
    for name, us in shown:
        count = max(calls[name], 1)
        print(
            f"| {name.replace('|', '/')} | {count / rounds:.1f} | {us / count:.1f} | {us / rounds / 1e3:.3f} | {us / rounds / total:.3f} |"
        )
    rest = total - sum(us for _, us in shown) / rounds
    print(f"| others | - | - | {rest / 1e3:.3f} | {rest / total:.3f} |", flush=True)
