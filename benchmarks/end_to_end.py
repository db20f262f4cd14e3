"""A whole run beside the engine alone: what reading, tokenising, writing and showing cost while rows are decoded.

    python -m benchmarks.end_to_end [--pair embedded] [--pair smollm2] [--repeats 5] [--times 5] [--gpus 1]

First `specbatch run`'s own code decodes the rows, timed as its summary times it (loading and warm-up excluded, the last fsync included);
then an engine of the same models and settings decodes the very requests that the run gave to its engine. In turns, since the machine's
speed changes; the last line shows the best of each, and the ratio of the two. One CPU thread computes, so that `waited` is the share of the
time in which it did not: on a machine that is otherwise idle, what the run's other threads took from it. SmolLM2 needs `make smollm2` first.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch: spinning threads starve each other on busy cores

from specbatch.api import load_spec
from specbatch.engine.config import EngineConfig
from specbatch.engine.engine import Engine
from specbatch.engine.general.drafter import Drafter
from specbatch.engine.general.model import CausalLM
from specbatch.engine.make_engine import make_engine
from specbatch.engine.memory import release
from specbatch.engine.request import Completion, Request
from specbatch.runner import engine_set
from specbatch.runner.display import JsonDisplay
from specbatch.runner.job import run_job

SPECS = {"embedded": "job/quickstart.yaml", "smollm2": "job/smollm2.yaml"}


def repeat_rows(source: Path, folder: Path, times: int) -> Path:
    """The dataset several times over, under other names: short runs measure their ends."""
    rows = source.read_bytes().splitlines()
    copied = folder / "rows.jsonl"
    copied.write_bytes(
        b"".join(row.replace(b'"id": "', b'"id": "%d-' % n, 1) + b"\n" for n in range(times) for row in rows)
    )
    return copied


@dataclass
class Run:
    """A whole run: tokens/s, what its engine was made of and got, and the share of the time its thread waited."""

    tokens_per_second: float
    made_of: tuple[CausalLM, Drafter | None, EngineConfig]
    requests: list[Request]
    waited: float


def whole_run(spec: str, rows: Path, folder: Path, gpus: int) -> Run:
    """Runs a spec on other rows."""
    taken: list[Request] = []
    clock = {"wall": 0.0, "cpu": 0.0}
    made_of: list[tuple[CausalLM, Drafter | None, EngineConfig]] = []
    load, generate = engine_set.load_engines, Engine.generate

    def remember(*arguments: Any) -> list[Engine]:
        engines = load(*arguments)
        made_of.extend((engine.target, engine.drafter, engine.config) for engine in engines)
        return engines

    def record(engine: Engine, requests: Iterable[Request]) -> Iterator[Completion]:
        wall, cpu = time.perf_counter(), time.thread_time()
        yield from generate(engine, _Recorder(requests, taken))
        clock["wall"] += time.perf_counter() - wall
        clock["cpu"] += time.thread_time() - cpu

    engine_set.load_engines = remember
    Engine.generate = record  # type: ignore[method-assign]  # notes what goes through
    try:
        changes = [f"dataset.uri={rows}", f"results.dir={folder}", "results.report=false", f"placement.gpus={gpus}"]
        changes.append("placement.cpuThreads=1")
        job = load_spec(spec, changes)
        with (folder / "progress").open("w") as log:
            summary = run_job(job, display=JsonDisplay(log), fresh=True)
    finally:
        engine_set.load_engines = load
        Engine.generate = generate  # type: ignore[method-assign]
    assert summary.results == len(taken), (summary.results, len(taken))
    return Run(summary.tokens_per_second, made_of[0], taken, 1 - clock["cpu"] / clock["wall"])


class _Recorder:
    """Not a generator: an iterator that ends for now is asked again later."""

    def __init__(self, requests: Iterable[Request], taken: list[Request]) -> None:
        self._requests = iter(requests)
        self._taken = taken

    def __iter__(self) -> Iterator[Request]:
        return self

    def __next__(self) -> Request:
        self._taken.append(request := next(self._requests))
        return request


def engine_alone(made_of: tuple[CausalLM, Drafter | None, EngineConfig], requests: list[Request]) -> float:
    """tokens/s of a fresh engine with the models and settings of one that is gone."""
    release(made_of[0].input_device)
    engine = make_engine(*made_of)
    engine.warmup()
    start = time.perf_counter()
    tokens = sum(len(completion.token_ids) for completion in engine.generate(requests))
    return tokens / (time.perf_counter() - start)


def main() -> None:
    """Prints a line a pair."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pair", action="append", choices=SPECS)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--gpus", type=int, default=0, help="0 is the CPU")
    arguments = parser.parse_args()
    for pair in arguments.pair or ["embedded"]:
        runs, alone = [], []
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            source = Path(load_spec(SPECS[pair], ()).spec.dataset.uri)
            rows = repeat_rows(source, folder, arguments.times)
            for _ in range(arguments.repeats):
                run = whole_run(SPECS[pair], rows, folder, arguments.gpus)
                runs.append(run.tokens_per_second)
                alone.append(engine_alone(run.made_of, run.requests))
                speeds = f"run {runs[-1]:,.1f}  engine {alone[-1]:,.1f}  {runs[-1] / alone[-1]:.3f}"
                print(f"  {pair}: {speeds}  waited {run.waited:.3f}", flush=True)
        print(
            f"{pair}: run {max(runs):,.1f} tokens/s, engine {max(alone):,.1f} tokens/s, ratio {max(runs) / max(alone):.3f}"
        )


if __name__ == "__main__":
    main()
