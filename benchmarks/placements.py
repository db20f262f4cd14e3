"""A job's placement on real GPUs: planned, built, read back, timed and weighed, with pairs of real size and a known continuation.

    python -m benchmarks.placements job/qwen3-8b-ratio-6-2.yaml                       the job's own: 6:2
    python -m benchmarks.placements JOB.yaml --placements 6:2,4:4,separate,same       on eight GPUs; on four 3:1,2:2,separate,same
    python -m benchmarks.placements JOB.yaml --placements 6:2,6:1+1                   one drafter over two GPUs; two drafters
    python -m benchmarks.placements JOB.yaml --rows 32,512 --k auto,0 --json FILE
    python -m benchmarks.placements JOB.yaml --placements same,separate --groups 1,auto        one group of rows in flight beside as many as pay
    python -m benchmarks.placements JOB.yaml --device cpu --target tiny --drafter tiny --rows 4      a dry run

The job gives placement and dtypes. Its models are replaced by synthetic ones (benchmarks/inputs/synthetic.py), whose head is never tied: the
plan has one more matrix than that of a hub model with a tied head, such as Qwen3-1.7B. One replica is planned and run, on as few of
the GPUs as it takes, for as many rows and tokens as the line has. The placement variables of the environment (TARGET_GPU, ...) count for nothing here.

Ends with 1 where a tensor is not where the plan puts it, or a token is wrong. In a dry run all devices are the CPU.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks.arguments import choices_of_k, integers
from benchmarks.gpu import DTYPES, about_run, repeated
from benchmarks.gpu_lines import Line, Pair, free, measure, warmed_engine
from benchmarks.inputs.synthetic import SHAPES, Order, build, config_of
from benchmarks.inputs.workloads import Rows
from benchmarks.predictions import beside_predictions
from benchmarks.predictions.placement_checks import COLUMNS, DeviceMemory, memory_of, read_back
from specbatch.api import load_spec
from specbatch.engine.config import EngineConfig
from specbatch.engine.engine import Engine
from specbatch.engine.general.model import CausalLM
from specbatch.engine.graphs.runner import GraphModelRunner
from specbatch.engine.graphs.sizes import bucket
from specbatch.engine.make_engine import describe
from specbatch.plan.advice.render import render
from specbatch.plan.gpu_products import visible_gpu_shape
from specbatch.plan.gpus import parse_gpus
from specbatch.plan.planner import make_plan
from specbatch.plan.shapes.model_shape import ModelShape
from specbatch.plan.shapes.read_shape import shape_from_config
from specbatch.plan.types import GpuShape, ModelPlacement, Plan

_DRY_GPUS = "8xH100-80GB"
_LINE_COLUMNS = (
    "placement",
    "rows",
    "k",
    "groups",
    "tokens/s",
    *beside_predictions.COLUMNS,
    "accepted length",
    "k used",
    "match",
)


@dataclass
class Record:
    """What is known so far. It is written after every line: a run that is cut off leaves what it has."""

    about: dict[str, Any]
    file: Path | None
    placements: list[dict[str, Any]] = field(default_factory=list)
    lines: list[tuple[str, Line, list[DeviceMemory]]] = field(default_factory=list)

    def write(self) -> None:
        """As JSON, where that is asked for."""
        if self.file is None:
            return
        lines = [
            {"placement": name, **asdict(line), "memory": [one.to_dict() for one in memory]}
            for name, line, memory in self.lines
        ]
        self.file.write_text(json.dumps({**self.about, "placements": self.placements, "lines": lines}, indent=1) + "\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Plans every line before anything is built, then measures one placement after the other; returns the exit code."""
    asked = _arguments(argv)
    transformers.utils.logging.set_verbosity_error()
    gpus = _gpus(asked)
    record = Record({**about_run(asked), "gpus": [gpu.name for gpu in gpus]}, asked.json)
    print("\n".join(f"{key}: {value}" for key, value in record.about.items()))

    order = Order(SHAPES[asked.target].vocab, asked.seed)
    works = [repeated(asked, len(order.next), rows, asked.prompt) for rows in sorted(asked.rows)]
    plans = {name: [_plan(asked, name, work[0], gpus) for work in works] for name in asked.placements}
    for name, of_rows in plans.items():
        print(f"\n## {name}\n\n" + "\n".join(render(of_rows[-1])))
    print(flush=True)
    placed = all(_measure(asked, name, order, list(zip(plans[name], works, strict=True)), record) for name in plans)
    _print_tables(record)
    return 0 if placed and all(line.match == 1.0 for _, line, _ in record.lines) else 1


def _plan(asked: argparse.Namespace, name: str, rows: Rows, gpus: Sequence[GpuShape]) -> Plan:
    """The plan of a job that has this placement, and is no longer than its rows."""
    first, *drafters = [int(part) for part in re.split("[:+]", name)] if ":" in name else [0]
    ratio = [first, sum(drafters)] if drafters else []
    count = sum(ratio) or {"same": 1, "separate": 2}[name]
    k = asked.k[0] if len(asked.k) == 1 else None  # as warmed_engine has it
    changes = {
        "placement.gpus": count,
        "placement.strategy": "multi_gpu_ratio" if ratio else name,
        "placement.ratio": dict(zip(("target", "drafter"), ratio, strict=True)) if ratio else None,
        "placement.replicas": 1,
        **({} if asked.own else {"placement.drafterReplicas": len(drafters) or "auto"}),
        "batching.maxSequences": rows.at_once,
        "batching.maxLength": rows.max_length,
        "decoding.maxNewTokens": max(rows.new_tokens),
        "decoding.numSpeculativeTokens": "auto" if k is None else k,
        "decoding.maxSpeculativeTokens": EngineConfig().max_k,
    }
    job = load_spec(asked.job, [f"spec.{path}={json.dumps(value)}" for path, value in changes.items()])
    target, drafter = _shape(asked.target, asked.dtypes[0]), _shape(asked.drafter, asked.dtypes[1])
    length = round(rows.mean_length)
    return make_plan(job, target, drafter, gpus[:count], acceptance_rate=asked.acceptance, mean_length=length)


def _measure(
    asked: argparse.Namespace, name: str, order: Order, works: Sequence[tuple[Plan, Sequence[Rows]]], record: Record
) -> bool:
    """Builds the pair by the plan and times its lines; whether every tensor stands where it should."""

    def real(device: str) -> torch.device:
        return torch.device("cpu" if asked.device == "cpu" else device)

    free()  # the placement before; no name refers to its models now
    plan = works[-1][0]  # of the most rows; how layers fall does not depend on them
    pair = _build(asked, plan, order, real)
    count, differences = read_back(pair, plan.replicas[0], real)
    print(f"{name}: read back: ", end="")
    print("; ".join(differences) or f"{count} tensors stand where the plan puts them", flush=True)
    record.placements.append({"placement": name, "tensors": count, "differences": differences, "plan": plan.to_dict()})
    record.write()
    if differences:
        return False
    several = len(set(pair.devices)) > 1 or asked.device == "cpu"
    for plan, work, groups in ((*each, groups) for each in works for groups in (asked.groups if several else [1])):
        with warmed_engine(pair, asked.k, work, groups) as warmed:
            print("\n".join(_what_groups_follow_from(warmed.engine)), flush=True)
            for k in asked.k:
                line = measure(pair, warmed, k, work)
                memory = list(memory_of(pair, warmed.engine, plan.devices, real))
                record.lines.append((name, line, memory))
                record.write()
                print("| " + " | ".join(_cells(name, line)) + " |", flush=True)
            engine = describe(warmed.engine)
    print(f"{name}: engine: {engine}", flush=True)
    return True


def _build(asked: argparse.Namespace, plan: Plan, order: Order, real: Callable[[str], torch.device]) -> Pair:
    """The pair, every module where the plan puts it."""

    def model(placement: ModelPlacement, size: str, dtype: str, following: torch.Tensor, seed: int) -> CausalLM:
        places = {module: real(device) for module, device in placement.device_map.items()}
        return CausalLM(build(SHAPES[size], following, places, DTYPES[dtype], seed), placement.model)

    replica, drafts = plan.replicas[0], order.agreeing(asked.acceptance)
    target = model(replica.target, asked.target, asked.dtypes[0], order.next, asked.seed)
    drafter, *more = (model(one, asked.drafter, asked.dtypes[1], drafts, asked.seed + 1) for one in replica.drafters)
    return Pair(target, drafter, order, more_drafters=more)


def _shape(size: str, dtype: str) -> ModelShape:
    config = config_of(SHAPES[size], DTYPES[dtype]).to_dict()
    return shape_from_config(
        config, f"synthetic-qwen3-{size}", dtype, source="benchmarks.inputs.synthetic, its head not tied"
    )


def _gpus(asked: argparse.Namespace) -> Sequence[GpuShape]:
    """All that are visible."""
    if asked.device == "cpu":
        return parse_gpus(_DRY_GPUS)
    visible = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return [visible_gpu_shape(one.name, one.total_memory) for one in visible]


def _cells(name: str, line: Line) -> list[str]:
    """A line under _LINE_COLUMNS."""
    rows = f"{line.rows}" if line.fitting == line.rows else f"{line.rows} ({line.fitting} fit)"
    used = " ".join(f"{k}:{share:.0%}" for k, share in line.k_shares.items())
    cells = [name, rows, _k(line), str(line.groups), f"{line.tokens_per_second:,.1f}", *beside_predictions.cells(line)]
    return [*cells, f"{line.accepted_length:.2f}", used, f"{line.match:.3f}"]


def _what_groups_follow_from(engine: Engine) -> Iterator[str]:
    """The times of warm-up that the number of groups is chosen by."""
    runner = engine.runner
    if isinstance(runner, GraphModelRunner) and len(runner.pair.lanes) > 1:
        for groups in range(1, runner.pair.most_groups + 1):
            rows = bucket(runner.pair.buckets, -(-runner.slots // groups))
            for k in runner.pair.ks(rows)[::-1]:
                times = runner.times[rows, k]
                parts = " ".join(f"{1e3 * each:.2f}" for each in (*times.drafter, *times.target))
                yield f"  {groups} groups of {rows}, k = {k}: {parts} ms, a round every {1e3 * times.interval(groups):.2f}"


def _k(line: Line) -> str:
    return "auto" if line.k is None else str(line.k)


def _print_tables(record: Record) -> None:
    """Speeds, then memory: at the end, so that each is one table."""
    speeds = [_cells(name, line) for name, line, _ in record.lines]
    memory = [[name, str(line.rows), _k(line), *one.cells()] for name, line, devices in record.lines for one in devices]
    for columns, rows in ((_LINE_COLUMNS, speeds), (COLUMNS, memory)):
        print("\n| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|")
        print("\n".join("| " + " | ".join(cells) + " |" for cells in rows), flush=True)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("job", metavar="JOB.yaml")
    parser.add_argument(
        "--placements", type=_placements, help="same, separate, N:M, N:M+M, ...; default: the job's own"
    )
    parser.add_argument("--rows", type=integers, default=[1, 32, 128, 512], help="at once, a line each")
    parser.add_argument("--k", type=choices_of_k, default=[None], help="tokens drafted a round, a line each")
    parser.add_argument("--groups", type=choices_of_k, default=[None], help="of rows in flight, an engine each; auto,1")
    parser.add_argument("--acceptance", type=float, default=0.8, help="of each draft")
    parser.add_argument("--target", default="8b", choices=list(SHAPES))
    parser.add_argument("--drafter", default="1.7b", choices=list(SHAPES))
    parser.add_argument("--prompt", type=int, default=128, help="tokens a row")
    parser.add_argument("--new", type=int, default=128, help="tokens a row")
    parser.add_argument("--repeats", type=int, help="of a line; default: as many as make 2,048 tokens")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"], help=f"cpu: a dry run, of {_DRY_GPUS}")
    parser.add_argument("--seed", type=int, default=0, help="of weights and permutations")
    asked = parser.parse_args(argv)
    if asked.k == [0]:
        parser.error("--k 0 alone leaves the drafter out, which the plan places: ask for it beside another, as auto,0")
    spec = load_spec(asked.job).spec
    if spec.drafter is None or spec.drafter.model is None:
        parser.error(f"{asked.job} has no drafter model to place")
    asked.dtypes = ["bfloat16" if one.dtype == "auto" else one.dtype for one in (spec.target, spec.drafter)]
    asked.own = asked.placements is None
    if asked.own:
        strategy, ratio = spec.placement.strategy, spec.placement.ratio
        if strategy == "auto":
            parser.error(f"{asked.job} leaves the strategy open: name --placements")
        asked.placements = [f"{ratio.target}:{ratio.drafter}" if ratio else strategy]
    return asked


def _placements(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if not re.fullmatch(r"same|separate|[1-9]\d*:([1-9]\d*)(\+\1)*", name):
            raise argparse.ArgumentTypeError(f"{name!r} is not same, separate, N:M or N:M+M")
    return names


if __name__ == "__main__":
    sys.exit(main())
