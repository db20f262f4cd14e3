"""GPU benchmark: a pair of real size with a known continuation, for batch sizes and k, every token checked.

    python -m benchmarks.gpu [--target 8b] [--drafter 1.7b] [--acceptance 0.8] [--rows 1,32,128,512] [--k auto,0,4]
    python -m benchmarks.gpu --mixed [--k auto,0]              1,000 rows of mixed lengths, up to 512 at once
    python -m benchmarks.gpu --rows 1 --k 5 --profile          the kernels of a round
    python -m benchmarks.gpu --rows 1,32 --transformers        beside generate and assisted decoding
    python -m benchmarks.gpu --placement separate              or 2:1: the target on two GPUs, the drafter on a third
    python -m benchmarks.gpu --acceptance 0.3,0.6,0.8,0.95     lines of each
    python -m benchmarks.gpu --sampling 0.6,0.95,0             temperature, top-p, top-k in place of greedy
    python -m benchmarks.gpu --drafter eagle3 --k auto,0       an EAGLE-3 head of the target's size
    python -m benchmarks.gpu --quantization int8 --k auto,0    the draft model's weights in fewer bits
    python -m benchmarks.gpu --prompt 4096 --window 256        a draft model that sees the last 256 to 512 tokens of a row
    python -m benchmarks.gpu --prompt 128,2048 --rows 1,8      lines of each
    python -m benchmarks.gpu --kv-dtype auto,target,fp8        keys and values in the models' dtype; the target's in FP8; both models'
    python -m benchmarks.gpu --rows 256 --shared-prefix        rows that begin alike, what they share computed once and not

`match` is the share of rows whose every token is right; the command ends with 1 where one is wrong. Speeds include prefill, and
leave out warm-up (captures among it), which has a column.
"""

from __future__ import annotations

import argparse
import datetime as dt
import itertools
import json
import platform
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks import shared_prefix
from benchmarks.arguments import choices_of_k, floats, integers, sampling
from benchmarks.device_speed import Ceiling, Speed, ceiling, measured, nominal
from benchmarks.gpu_lines import GB, Line, Pair, measure, warmed_engine, weight_bytes
from benchmarks.inputs.synthetic import SHAPES, Order, build, even_split
from benchmarks.inputs.synthetic_pair import EAGLE3, drafter_shape, inner_tokens, paired, set_acceptance
from benchmarks.inputs.workloads import Rows, equal_lengths, mixed_lengths
from benchmarks.peers.gpu_peers import transformers_table
from benchmarks.profile_rounds import profile_rounds
from specbatch.engine.quantization.linears import quantize_linears
from specbatch.engine.request import SamplingParams

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
_ENOUGH = 2048  # tokens of a line: with fewer, how often drafts stand is left to chance


def main(argv: Sequence[str] | None = None) -> int:
    """Builds the pair once, prints a line for each engine, returns the exit code."""
    asked = _arguments(argv)
    transformers.utils.logging.set_verbosity_error()
    first = torch.device("cuda:0" if asked.device == "cuda" else "cpu")
    about = about_run(asked)
    speeds = nominal(about["device"]), measured(first)
    about |= {"nominal": speeds[0] and asdict(speeds[0]), "measured": asdict(speeds[1])}
    print("\n".join(f"{key}: {value}" for key, value in about.items()), flush=True)

    order = Order(SHAPES[asked.target].vocab, asked.seed, inner_tokens(asked.target, asked.drafter))
    target, drafter = _build(asked, order)
    works = _workloads(asked, order.inner)
    if asked.transformers:  # before the engine puts its own attention into the models
        about["transformers"] = transformers_table(target, drafter, order, [work[0] for work in works])
    pair = paired(asked, target, drafter, order)
    pair.window = asked.window
    print(f"\nweights: {weight_bytes(pair) / GB:.2f} GB on {', '.join(map(str, pair.devices))}")
    if asked.profile:
        for rows, k in ((work[0], k) for work in works for k in asked.k):
            profile_rounds(pair, k, rows)
        return 0
    if asked.shared_prefix:
        return 0 if shared_prefix.run(asked, pair) else 1
    lines: list[Line] = []
    for line in _table(asked, pair, works, speeds):
        lines.append(line)
        if asked.json:  # after every line: a run that is cut off leaves what it has
            asked.json.write_text(json.dumps({**about, "lines": [asdict(line) for line in lines]}, indent=1) + "\n")
    print(f"\nengines: {', '.join(sorted({line.engine for line in lines}))}")
    return 0 if all(line.match == 1.0 for line in lines) else 1


def about_run(asked: argparse.Namespace) -> dict[str, Any]:
    """Date, device, versions and arguments of a run, which stand above its lines and in its JSON."""
    return {
        "date": f"{dt.datetime.now(tz=dt.UTC):%Y-%m-%d %H:%M}",
        "device": torch.cuda.get_device_name(0) if asked.device == "cuda" else f"{platform.machine()} CPU",
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "cuda": torch.version.cuda}
        | {"transformers": transformers.__version__},
        "arguments": {key: str(value) for key, value in vars(asked).items()},
    }


def _build(asked: argparse.Namespace, order: Order) -> tuple[Any, Any]:
    """Target and drafter, on the devices that the placement gives them."""
    dtype = DTYPES[asked.dtype]
    of_target, of_drafter = {"same": (1, 0), "separate": (1, 1)}.get(asked.placement) or map(
        int, asked.placement.split(":")
    )
    if asked.device == "cuda":
        every = [torch.device("cuda", index) for index in range(of_target + of_drafter)]
    else:
        every = [torch.device("cpu")] * (of_target + of_drafter)
    shape, devices = SHAPES[asked.target], every[:of_target]
    target = build(shape, order.next, even_split(shape, devices), dtype, asked.seed)
    if asked.drafter in {"none", EAGLE3}:
        return target, None
    shape, devices = SHAPES[asked.drafter], every[of_target:] or every
    following = order.agreeing(asked.acceptance[0])
    drafter = build(shape, following, even_split(shape, devices), dtype, asked.seed + 1)
    if asked.quantization:
        quantize_linears(drafter, asked.quantization, asked.drafter)
    return target, drafter


def _workloads(asked: argparse.Namespace, vocab: int) -> list[list[Rows]]:
    """Of each line: rows to decode, as often as it takes to measure them, other ones each time."""
    if asked.mixed:
        works = [[mixed_lengths(vocab, min(512, asked.mixed_rows), asked.mixed_rows)] * (asked.repeats or 1)]
    else:
        works = [repeated(asked, vocab, rows, prompt) for prompt in asked.prompt for rows in asked.rows]
    return [[replace(rows, sampling=asked.sampling) for rows in work] for work in works]


def repeated(asked: argparse.Namespace, vocab: int, rows: int, prompt: int) -> list[Rows]:
    """So many rows of one length, after prompts of another, as often as it takes to measure them, other ones each time."""
    repeats = asked.repeats or max(1, -(-_ENOUGH // (rows * asked.new)))
    return [equal_lengths(vocab, rows, prompt, asked.new, seed) for seed in range(repeats)]


def _table(
    asked: argparse.Namespace,
    pair: Pair,
    works: Sequence[Sequence[Rows]],
    speeds: tuple[Speed | None, Speed],
) -> Iterator[Line]:
    """Prints and gives the lines of this project's engine."""
    number_bytes = DTYPES[asked.dtype].itemsize
    target, drafter = SHAPES[asked.target], drafter_shape(asked.target, asked.drafter)

    def ceilings(rows: Rows, rate: float, k: int | None, kv_dtype: str) -> list[Ceiling | None]:
        of_target = replace(target, fp8_kv=kv_dtype != "auto")
        of_drafter = drafter and replace(drafter, fp8_kv=kv_dtype == "fp8")
        return [
            ceiling(speed, of_target, of_drafter, rows, rate, k, number_bytes) if speed else None for speed in speeds
        ]

    print(f"\n{asked.target}, drafter {asked.drafter}, placement {asked.placement}\n")
    print("| " + " | ".join(_COLUMNS) + " |\n" + "|---" * len(_COLUMNS) + "|")
    ks = asked.k if pair.drafter is not None else [0]
    for work, kv_dtype in itertools.product(works, asked.kv_dtype):
        pair.keep_kv(kv_dtype)
        with warmed_engine(pair, ks, work) as warmed:
            for acceptance in asked.acceptance:
                set_acceptance(pair, acceptance)
                for k in ks:
                    line = measure(pair, warmed, k, work)
                    line.acceptance, line.prompt, line.kv_dtype = acceptance, max(map(len, work[0].prompts)), kv_dtype
                    line.of_nominal, line.of_measured = (
                        line.tokens_per_second / top.tokens_per_second if top else None
                        for top in ceilings(work[0], acceptance, k, kv_dtype)
                    )
                    print(_cells(line), flush=True)
                    yield line
                tops = ceilings(work[0], acceptance, None, kv_dtype)
                for top, by in zip(tops, ("data sheet", "measured speed"), strict=True):
                    if top is not None:
                        print(
                            f"| {work[0].at_once} | {max(map(len, work[0].prompts))} | {acceptance} | {top.k} | {top.tokens_per_second:,.0f}: ceiling by {by}"
                            + " |" * (len(_COLUMNS) - 4)
                        )


_COLUMNS = (
    "rows",
    "prompt",
    "pair's",
    "k",
    "tokens/s",
    "ms a round",
    "waited",
    "accepted length",
    "acceptance",
    "k used",
    "prefill s",
    "warm-up s",
    "of nominal",
    "of measured",
    "match",
    "KV GB",
    "other GB",
)


def _cells(line: Line) -> str:
    """A line under _COLUMNS."""

    def number(value: float | None) -> str:
        return "-" if value is None else f"{value:.2f}"

    used = " ".join(f"{k}:{share:.0%}" for k, share in line.k_shares.items())
    rows = f"{line.rows}" if line.fitting == line.rows else f"{line.rows} ({line.fitting} fit)"
    cells = [
        rows,
        str(line.prompt),
        "-" if line.acceptance is None else str(line.acceptance),
        "auto" if line.k is None else str(line.k),
        f"{line.tokens_per_second:,.1f}",
    ]
    cells += [
        number(line.round_ms),
        number(line.waited),
        number(line.accepted_length),
        f"{line.acceptance_rate:.3f}",
        used,
    ]
    cells += [number(line.prefill_seconds), f"{line.warmup_seconds:.1f}"]
    cells += [number(line.of_nominal), number(line.of_measured), f"{line.match:.3f}"]
    kv = number(line.kv_gb) if line.kv_dtype == "auto" else f"{number(line.kv_gb)} ({line.kv_dtype})"
    return "| " + " | ".join([*cells, kv, number(line.overhead_gb)]) + " |"


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="8b", choices=list(SHAPES))
    parser.add_argument("--drafter", default="1.7b", choices=[*SHAPES, EAGLE3, "none"])
    parser.add_argument("--quantization", choices=["fp8", "int8", "int4"], help="of the draft model's weights")
    parser.add_argument("--window", type=int, help="of the draft model: last tokens of a row that it sees at least")
    parser.add_argument(
        "--kv-dtype", type=lambda text: text.split(","), default=["auto"], help="of auto, target, fp8: lines of each"
    )
    parser.add_argument("--acceptance", type=floats, default=[0.8], help="of each draft; several: a line each")
    parser.add_argument("--rows", type=integers, default=[1, 32, 128, 512], help="at once, a line each")
    parser.add_argument(
        "--k", type=choices_of_k, default=[None], help="tokens drafted a round, a line each; 0: the target alone"
    )
    parser.add_argument("--prompt", type=integers, default=[128], help="tokens a row, lines of each")
    parser.add_argument("--new", type=int, default=128, help="tokens a row")
    parser.add_argument("--mixed", action="store_true", help="the rows of mixed lengths instead")
    parser.add_argument("--mixed-rows", type=int, default=1000, help="only the first of them")
    parser.add_argument(
        "--sampling",
        type=sampling,
        default=SamplingParams(),
        metavar="T,P,K",
        help="temperature, top-p, top-k; default: greedy",
    )
    parser.add_argument("--transformers", action="store_true", help="also generate and assisted decoding")
    parser.add_argument("--shared-prefix", action="store_true", help="see benchmarks/shared_prefix.py")
    parser.add_argument(
        "--cascade",
        action="store_true",
        help="there, also rows of one beginning without cascade attention, with it, and where it pays, in turn",
    )
    parser.add_argument("--shared-rows", type=int, default=2000)
    parser.add_argument(
        "--shared-only", default="", help="of the short rows, those in whose name this expression is found"
    )
    parser.add_argument("--shared-documents", type=int, default=100)
    parser.add_argument("--profile", action="store_true", help="the kernels of a round instead of speeds")
    parser.add_argument("--repeats", type=int, help=f"of a line; default: as many as make {_ENOUGH:,} tokens")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--placement", default="same", help="same, separate, or N:M GPUs for target and drafter")
    parser.add_argument("--dtype", default="bfloat16", choices=list(DTYPES))
    parser.add_argument("--seed", type=int, default=0, help="of weights and permutations")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
