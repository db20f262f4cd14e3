"""What two GPUs give: a pair on one, a replica on each, target and drafter apart, a target in two stages; with one group of rows in flight and with as many as pay.

    python -m benchmarks.two_gpus --json FILE                                                  on two GPUs, within ten minutes
    python -m benchmarks.two_gpus --rows 128,256 --placements separate --new 256 --k auto,2
    python -m benchmarks.two_gpus --device cpu --target tiny --drafter tiny --rows 4,8 --prompt 8 --new 8         a dry run

The pair is synthetic, of real size, every token is checked (benchmarks/inputs/synthetic.py). Each placement is built and warmed up once, for the most rows. Of the columns: `steady` are the tokens a second
of rounds alone, without prefill; `over one` compares with one group of the same placement, replicas with one of them alone; `over same` and `over replicas` those with as many rows in all, all by tokens/s; `off` is what a round took beyond
the predicted time (benchmarks/predictions/predicted_lines.py); `busy` each GPU's share of the time between the ends of rounds; `host` what the host works a round and group, in ms.

Ends with 1 where a token is wrong.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Thread

import torch
import transformers

from benchmarks.arguments import choices_of_k, integers
from benchmarks.gpu import DTYPES, about_run, repeated
from benchmarks.gpu_lines import Line, Pair, Warmed, free, measure, warmed_engine
from benchmarks.inputs.synthetic import SHAPES, Order, build, even_split
from benchmarks.inputs.workloads import Rows
from benchmarks.pipeline import host_of
from benchmarks.predictions.beside_predictions import COLUMNS, cells, steady
from specbatch.engine.general.model import CausalLM
from specbatch.engine.graphs.runner import GraphModelRunner
from specbatch.engine.make_engine import describe
from specbatch.engine.pipeline import PipelineCosts, assumed_tokens, best_groups, speeds_by_groups
from specbatch.engine.regrouping import Regrouping

# GPUs of the target and of each drafter, of each replica.
PLACEMENTS: dict[str, list[tuple[list[int], list[list[int]]]]] = {
    "same": [([0], [[0]])],
    "replicas": [([0], [[0]]), ([1], [[1]])],
    "separate": [([0], [[1]])],
    "2:1 on two": [([0, 1], [[1]])],
    "two drafters": [([0], [[0], [1]])],
    "2:2 on two": [([0, 1], [[0], [1]])],
    "target in two": [([0, 1], [])],
}
_COLUMNS = (
    "placement",
    "rows",
    "k",
    "groups",
    "tokens/s",
    "over one",
    "over same",
    "over replicas",
    *COLUMNS,
    "k used",
    "host",
    "match",
)


@dataclass
class Measured:
    """A line of the table. asked: groups, None for as many as pay; host_ms: of the engine's steps, None of replicas."""

    placement: str
    asked: int | None
    line: Line
    host_ms: float | None


def main(argv: Sequence[str] | None = None) -> int:
    """Measures one placement after the other; returns the exit code."""
    asked = _arguments(argv)
    transformers.utils.logging.set_verbosity_error()
    about = about_run(asked)
    print("\n".join(f"{key}: {value}" for key, value in about.items()), flush=True)
    order, found, began = Order(SHAPES[asked.target].vocab, asked.seed), [], time.perf_counter()
    for name in asked.placements:
        for one in _placement(asked, name, order):
            found.append(one)
            print("| " + " | ".join(_cells(one, found)) + " |", flush=True)
            if asked.json:
                lines = [
                    {**asdict(each), "steady": steady(each.line, len(PLACEMENTS[each.placement]))} for each in found
                ]
                asked.json.write_text(json.dumps({**about, "lines": lines}, indent=1) + "\n")
    print("\n| " + " | ".join(_COLUMNS) + " |\n" + "|---" * len(_COLUMNS) + "|")
    print("\n".join("| " + " | ".join(_cells(one, found)) + " |" for one in found))
    print(f"\n{time.perf_counter() - began:.0f} s in all")
    return 0 if all(one.line.match == 1.0 for one in found) else 1


def _placement(asked: argparse.Namespace, name: str, order: Order) -> Iterator[Measured]:
    replicas = PLACEMENTS[name]
    works = {
        rows: [
            replace(work, at_once=rows) for work in repeated(asked, len(order.next), rows * asked.batches, asked.prompt)
        ]
        for rows in sorted({*asked.rows, *_shares(asked, name)})
    }
    most = works[max(_shares(asked, name))]
    free()  # the placement before; no name refers to its models now
    pairs = [_build(asked, order, *gpus) for gpus in replicas]
    ks: list[int | None] = [None, *asked.k] if pairs[0].drafter is not None else [0]
    with ExitStack() as stack:
        warmed = [stack.enter_context(warmed_engine(pair, ks, most)) for pair in pairs]
        runners = {describe(each.engine) for each in warmed}
        print(f"{name}: warmed up in {sum(each.seconds for each in warmed):.0f} s; {', '.join(runners)}", flush=True)
        several = len(pairs) == 1 and len(_lanes(warmed[0])) > 1
        for rows in asked.rows:
            for k in asked.k if pairs[0].drafter is not None else [0]:
                for groups in asked.groups if several else [1]:
                    if len(pairs) > 1:
                        if rows % len(pairs) == 0:
                            yield Measured(name, 1, _at_once(pairs, warmed, k, works[rows // len(pairs)]), None)
                    elif groups is None or groups <= rows:
                        _set_groups(warmed[0], rows, groups)
                        with host_of(warmed[0].engine) as host:
                            line = measure(pairs[0], warmed[0], k, works[rows])
                        yield Measured(name, groups, line, 1e3 * host.of_a_step)


def _shares(asked: argparse.Namespace, name: str) -> list[int]:
    """Rows of a replica."""
    return [max(1, rows // len(PLACEMENTS[name])) for rows in asked.rows]


def _build(asked: argparse.Namespace, order: Order, target: Sequence[int], drafters: Sequence[Sequence[int]]) -> Pair:
    def model(size: str, following: torch.Tensor, gpus: Sequence[int], seed: int) -> CausalLM:
        devices = [torch.device("cuda", gpu) if asked.device == "cuda" else torch.device("cpu") for gpu in gpus]
        places = even_split(SHAPES[size], devices)
        return CausalLM(build(SHAPES[size], following, places, DTYPES[asked.dtype], seed), size)

    drafting = [model(asked.drafter, order.agreeing(asked.acceptance), gpus, asked.seed + 1) for gpus in drafters]
    of_target = model(asked.target, order.next, target, asked.seed)
    return Pair(of_target, drafting[0] if drafting else None, order, more_drafters=tuple(drafting[1:]))


def _lanes(warmed: Warmed) -> Sequence[object]:
    runner = warmed.engine.runner
    return runner.pair.lanes if isinstance(runner, GraphModelRunner) else ()


def _set_groups(warmed: Warmed, rows: int, groups: int | None) -> None:
    """A fixed number of groups, or as many as warm-up's times say of so many rows, to be changed as a run shows otherwise."""
    runner = warmed.engine.runner
    costs = runner.costs if isinstance(runner, GraphModelRunner) else None
    if not isinstance(costs, PipelineCosts):
        return
    warmed.groups = groups or best_groups(speeds_by_groups(costs, rows, assumed_tokens))
    warmed.regrouping = None if groups else Regrouping(copy.deepcopy(costs))


def _at_once(pairs: Sequence[Pair], warmed: Sequence[Warmed], k: int | None, works: Sequence[Rows]) -> Line:
    """Replicas in threads, each with its own rows: the line of the slowest, with the tokens of all."""
    lines: dict[int, Line] = {}

    def run(number: int) -> None:
        lines[number] = measure(pairs[number], warmed[number], k, works)

    threads = [Thread(target=run, args=(number,)) for number in range(len(pairs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    slowest = min(lines.values(), key=lambda line: line.tokens_per_second)
    slowest.tokens_per_second *= len(pairs)
    slowest.rows *= len(pairs)
    slowest.match = min(line.match for line in lines.values())
    return slowest


def _cells(one: Measured, found: Sequence[Measured]) -> list[str]:
    line = one.line

    def over(placement: str, rows: int = line.rows) -> str:
        """A line of one group."""
        wanted = placement, 1, rows, line.k
        ones = [
            each.line.tokens_per_second
            for each in found
            if (each.placement, each.asked, each.line.rows, each.line.k) == wanted
        ]
        return f"{line.tokens_per_second / ones[0]:.2f}" if ones else "-"

    replicas = len(PLACEMENTS[one.placement])
    alone = over("same", line.rows // replicas) if replicas > 1 else over(one.placement)
    used = " ".join(f"{k}:{share:.0%}" for k, share in list(line.k_shares.items())[:3])
    k, groups = ("auto" if line.k is None else str(line.k)), f"{line.groups}{'' if one.asked else ' (auto)'}"
    host = "-" if one.host_ms is None else f"{one.host_ms:.2f}"
    return [
        *(one.placement, str(line.rows), k, groups, f"{line.tokens_per_second:,.0f}", alone),
        *(over("same"), over("replicas"), *cells(line, replicas), used, host, f"{line.match:.3f}"),
    ]


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--placements", type=lambda text: text.split(","), default=list(PLACEMENTS))
    parser.add_argument("--rows", type=integers, default=[1, 32, 64, 128, 256, 512], help="at once in all, a line each")
    parser.add_argument("--batches", type=int, default=1, help="so many times as many rows, which join as others end")
    parser.add_argument("--k", type=choices_of_k, default=[None], help="tokens drafted a round, a line each")
    parser.add_argument("--groups", type=choices_of_k, default=[1, None], help="of rows in flight, a line each")
    parser.add_argument("--acceptance", type=float, default=0.8, help="of each draft")
    parser.add_argument("--target", default="8b", choices=list(SHAPES))
    parser.add_argument("--drafter", default="1.7b", choices=list(SHAPES))
    parser.add_argument("--dtype", default="bfloat16", choices=list(DTYPES))
    parser.add_argument("--prompt", type=int, default=128, help="tokens a row")
    parser.add_argument("--new", type=int, default=128, help="tokens a row")
    parser.add_argument("--repeats", type=int, help="of a line; default: as many as make 2,048 tokens")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"], help="cpu: a dry run")
    parser.add_argument("--seed", type=int, default=0, help="of weights and permutations")
    asked = parser.parse_args(argv)
    unknown = set(asked.placements) - set(PLACEMENTS)
    if unknown:
        parser.error(f"--placements {', '.join(sorted(unknown))}: known are {', '.join(PLACEMENTS)}")
    return asked


if __name__ == "__main__":
    sys.exit(main())
