"""A pipeline's parts measured on one GPU, and what they give where each has a GPU of its own: a simulation.

    python -m benchmarks.pipeline --json TIMES.json [--rows 32,64,128,256] [--k 0,2]     on one GPU: stages, drafts, exactness, host time
    python -m benchmarks.pipeline --simulate TIMES.json                                  anywhere: tokens/s of placements by these times

The target's layers are cut into stages, the drafter stands beside them, and each has a lane of its own though they share the GPU. With one group
of rows in flight the lanes take turns: what each is busy for in a round is what it takes on a GPU of its own. With more groups the lanes
run at once: every token is checked, and what the host spends a round. Ends with 1 where a token is wrong.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks.arguments import integers
from benchmarks.gpu_lines import Pair, free, wait_all
from benchmarks.inputs.synthetic import SHAPES, Order, build
from benchmarks.inputs.workloads import Rows, equal_lengths
from benchmarks.predictions.simulate_pipeline import print_placements
from specbatch.engine.config import EngineConfig
from specbatch.engine.engine import Engine
from specbatch.engine.general.drafter import ModelDrafter
from specbatch.engine.general.model import CausalLM
from specbatch.engine.graphs import rounds, state
from specbatch.engine.graphs.rounds import BusyLanes
from specbatch.engine.graphs.runner import GraphModelRunner
from specbatch.engine.make_engine import graphs_engine
from specbatch.engine.memory import loaded_set_aside
from specbatch.engine.request import Request
from specbatch.engine.speculation.controller import FixedK
from specbatch.engine.speculation.depth import Speculation


@dataclass
class Host:
    """What the host spends.

    waited: seconds in all for devices
    steps: seconds of each of the engine's steps without what was waited in it
    """

    waited: float = 0.0
    steps: list[float] = field(default_factory=list)

    @property
    def of_a_step(self) -> float:
        """Seconds of a typical step, in which a round is launched and another one taken in."""
        return statistics.median(self.steps)


def main(argv: Sequence[str] | None = None) -> int:
    """Measures or simulates; returns the exit code."""
    asked = _arguments(argv)
    if asked.simulate is not None:
        print_placements(json.loads(asked.simulate.read_text()), asked.acceptance)
        return 0
    device = torch.device(asked.device, 0) if asked.device == "cuda" else torch.device("cpu")
    order = Order(SHAPES[asked.target].vocab)
    models = [
        CausalLM(build(SHAPES[size], following, {"": device}, torch.bfloat16, seed), size)
        for size, following, seed in (
            (asked.target, order.next, 0),
            (asked.drafter, order.agreeing(asked.acceptance), 1),
        )
    ]
    pair = Pair(models[0], models[1], order)
    times, right = [], True
    for stages, apart, groups in asked.shapes:
        with _engine(asked, pair, stages, groups, apart=apart) as engine:
            for rows in asked.rows:
                for k in asked.k:
                    if k > engine.runner.max_drafts(-(-rows // engine.runner.groups)):
                        continue
                    line = _line(asked, pair, engine, rows, k)
                    print(
                        f"stages {stages}, drafter apart {apart}, groups {engine.runner.groups}: {_show(line)}",
                        flush=True,
                    )
                    right &= line["match"] == 1.0
                    times.append({"stages": stages, "apart": apart, "groups": engine.runner.groups, **line})
                    if asked.json:
                        asked.json.write_text(json.dumps(times, indent=1) + "\n")
    if any(any(line["busy"]) and line["apart"] and line["groups"] == 1 for line in times):
        print_placements(times, asked.acceptance)
    return 0 if right else 1


@contextmanager
def _engine(asked: argparse.Namespace, pair: Pair, stages: int, groups: int, *, apart: bool) -> Iterator[Engine]:
    assert pair.drafter is not None, "see main"
    began = time.perf_counter()
    config = EngineConfig(
        max(asked.rows),
        asked.prompt + asked.new,
        Speculation.adaptive(max(asked.k)),
        micro_batches=groups,
        stages_per_device=stages,
        drafter_apart=apart,
        prefix_caching=False,  # a line's prompts are those of the line before
    )
    engine = graphs_engine(pair.target, ModelDrafter(pair.drafter), config)
    engine.warmup()
    wait_all(pair)
    print(f"\nstages {stages}, drafter apart {apart}, groups {groups}: warm-up {time.perf_counter() - began:.0f} s")
    yield engine
    engine.runner.synchronize()
    del engine
    pair.target.cache = pair.drafter.cache = None
    free()


def _line(asked: argparse.Namespace, pair: Pair, engine: Engine, rows: int, k: int) -> dict[str, Any]:
    """One run of rows that begin and end together."""
    runner = engine.runner
    assert isinstance(runner, GraphModelRunner), "see _engine"
    work = equal_lengths(len(pair.order.next), rows, asked.prompt, asked.new, seed=rows)
    best: dict[str, Any] = {}
    for _ in range(asked.repeats):
        engine.controller = FixedK(k)
        engine.stats.restart()
        runner.busy = BusyLanes(dict.fromkeys(runner.busy.seconds, 0.0))
        runner.timed_every = 1 if runner.groups == 1 else runner.timed_every
        found = _run(pair, engine, work, k)
        if not best or found["tokens_per_second"] > best["tokens_per_second"]:
            best = {**found, "match": min(found["match"], best.get("match", 1.0))}
    return best


def _run(pair: Pair, engine: Engine, work: Rows, k: int) -> dict[str, Any]:
    runner, stats = engine.runner, engine.stats
    assert isinstance(runner, GraphModelRunner), "see _engine"
    requests = work.requests()
    wait_all(pair)
    with loaded_set_aside(), host_of(engine) as host:
        start = time.perf_counter()
        completions = list(engine.generate(requests))
        wait_all(pair)
        seconds = time.perf_counter() - start
    each = 1e3 / max(1, stats.rounds)
    busy = runner.busy
    return {
        "rows": len(requests),
        "k": k,
        "rounds": stats.rounds,
        "tokens_per_second": work.new_total / seconds,
        "match": work.right(pair.order, completions) / len(requests),
        "accepted_length": stats.mean_acceptance_length,
        "round_ms": each * sum(stats.seconds[phase] for phase in ("draft", "verify", "accept")),
        "prefill_ms": 1e3 * stats.seconds["prefill"],
        "host_ms": 1e3 * host.of_a_step,
        "busy": [1e3 * spent / busy.rounds for spent in busy.seconds.values()] if busy.rounds else [],
    }


@contextmanager
def host_of(engine: Engine) -> Iterator[Host]:
    """Within, what the host waits for rounds is counted, and what else its steps take."""
    host, reach, step = Host(), rounds.reach, engine._step  # noqa: SLF001
    waiting = (rounds, state)  # where it waits

    def reached(mark: Any) -> None:
        start = time.perf_counter()
        reach(mark)
        host.waited += time.perf_counter() - start

    def stepped(source: Iterator[Request]) -> None:
        start, before = time.perf_counter(), host.waited
        step(source)
        host.steps.append(time.perf_counter() - start - (host.waited - before))

    for module in waiting:
        module.reach = reached
    engine._step = stepped  # type: ignore[method-assign]  # noqa: SLF001
    try:
        yield host
    finally:
        for module in waiting:
            module.reach = reach
        engine._step = step  # type: ignore[method-assign]  # noqa: SLF001


def _show(line: dict[str, Any]) -> str:
    busy = " ".join(f"{each:.2f}" for each in line["busy"])
    host = f"{line['host_ms']:.2f}"
    return (
        f"rows {line['rows']} k {line['k']}: {line['tokens_per_second']:,.0f} tokens/s, match {line['match']:.3f}, length {line['accepted_length']:.2f}, "
        f"round {line['round_ms']:.2f} ms, host {host} ms a round, prefill {line['prefill_ms']:.0f} ms, busy {busy}"
    )


def _shapes(text: str) -> list[tuple[int, bool, int]]:
    """`6+d:1,1:2` as stages, whether the drafter is apart, and groups."""
    shapes = []
    for part in text.split(","):
        name, groups = part.split(":")
        shapes.append((int(name.removesuffix("+d")), name.endswith("+d"), int(groups)))
    return shapes


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--shapes", type=_shapes, default=_shapes("6+d:1"), help="stages, +d for a drafter apart, : groups"
    )
    parser.add_argument("--rows", type=integers, default=[8, 16, 32, 64, 128, 256, 512])
    parser.add_argument("--k", type=integers, default=[0, 1, 2, 3])
    parser.add_argument("--acceptance", type=float, default=0.8)
    parser.add_argument("--target", default="8b", choices=list(SHAPES))
    parser.add_argument("--drafter", default="1.7b", choices=list(SHAPES))
    parser.add_argument("--prompt", type=int, default=128)
    parser.add_argument("--new", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=1, help="of a line, of which the fastest counts")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--simulate", type=Path, metavar="TIMES.json")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"], help="cpu: a dry run")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
