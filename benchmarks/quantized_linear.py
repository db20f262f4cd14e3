"""Linears of quantized weights beside those of bfloat16 on one GPU, for the shapes of Qwen3 1.7B, or of another of its sizes.

    python -m benchmarks.quantized_linear [--tokens 1,2,32,64]      every shape, else at 1 to 512 tokens: about a minute
    python -m benchmarks.quantized_linear --model 8B --kinds bfloat16,awq
    python -m benchmarks.quantized_linear --sweep int8 [--tokens 1,32,64] [--seconds 50]     the best configurations

A figure is microseconds a call, measured as in benchmarks.linear, with its norm, gate or residual; `bfloat16` is whatever TritonOps takes.
`fp8` is what drafter.quantization makes: blocks of 128 x 128, inputs rounded in groups of 128 (its tiles: benchmarks.peers.w8a8); `fp8-weights` is compressed-tensors'
with inputs left as they are. `awq` is int4 as AWQ checkpoints have it: groups of 128 with zero points. Configurations are of the bare linear, and printed as linear_configs.py has them.
"""

from __future__ import annotations

import argparse
import itertools
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.arguments import integers
from benchmarks.inputs.linear_cases import COLD, EPS, SHAPES, Call, Shape, shapes
from benchmarks.inputs.synthetic_int4 import in_groups
from benchmarks.linear import compile_all, measured
from specbatch.engine.fp8.w8a8 import FP8, LARGEST
from specbatch.engine.graphs.kernels.linears import linear
from specbatch.engine.graphs.kernels.linears.linear_configs import FMA_TOKENS, Config
from specbatch.engine.graphs.linears.w8a8_ops import W8A8Ops
from specbatch.engine.quantization.rounding import quantize
from specbatch.engine.quantization.weight import QuantizedWeight, Weight

TOKENS = [1, 2, 8, 16, 32, 64, 128, 256, 512]
KINDS = ("bfloat16", "int8", "fp8", "fp8-weights", "int4", "awq")
SWEPT = ("int8", "fp8-weights", "int4", "awq")


def weights(shape: Shape, kind: str) -> list[Weight]:
    """So many that caches do not help."""
    dense = torch.randn(shape.outs, shape.ins, device="cuda", dtype=torch.bfloat16) * shape.ins**-0.5
    if kind == "bfloat16":
        return [dense.clone() for _ in range(-(-COLD // dense.nbytes))]
    if kind in {"awq", "fp8-weights"}:
        few = in_groups(dense) if kind == "awq" else fp8_weights(dense)
    else:
        few = quantize(dense, kind)  # type: ignore[arg-type]  # one of KINDS
    return [replace(few, values=few.values.clone(), scales=few.scales.clone()) for _ in range(-(-COLD // few.nbytes))]


def fp8_weights(dense: Tensor) -> QuantizedWeight:
    """FP8 with a scale an output, for inputs that are not rounded."""
    scales = dense.float().abs().amax(-1, keepdim=True) / LARGEST
    return QuantizedWeight((dense.float() / scales).clamp(-LARGEST, LARGEST).to(FP8), scales)


def call(shape: Shape, tokens: int, copies: list[Weight], config: Config | None = None) -> Call:
    """The op with its norm, gate or residual; of a given configuration the bare linear."""
    ops = W8A8Ops()
    x = torch.randn(tokens, shape.ins, device="cuda").bfloat16()
    norm = torch.ones(shape.ins, device="cuda").bfloat16()
    residual = torch.randn(tokens, shape.outs, device="cuda").bfloat16()
    if config is not None:
        op = linear.gated if shape.op == "norm_gated" else linear.linear
        return lambda i: op(x, copies[i], config=config)
    if shape.op == "norm_gated":
        return lambda i: ops.norm_gated(x, norm, EPS, copies[i])
    if shape.op == "norm_linear":
        return lambda i: ops.norm_linear(x, norm, EPS, copies[i])
    return lambda i: ops.linear_add(x, copies[i], residual)


def table(model: str, kinds: list[str], counts: list[int]) -> Iterator[str]:
    """All shapes."""
    yield "| | T | " + " | ".join(kinds) + " |\n" + "|---" * (len(kinds) + 2) + "|"
    for shape in shapes([model]):
        of_kind = {kind: weights(shape, kind) for kind in kinds}
        compile_all([call(shape, tokens, copies) for copies in of_kind.values() for tokens in counts])
        for tokens in counts:
            times = [measured(call(shape, tokens, copies), len(copies)) for copies in of_kind.values()]
            yield f"| {shape.name} | {tokens} | " + " | ".join("" if us is None else f"{us:.1f}" for us in times) + " |"


def candidates(shape: Shape, tokens: int, kind: str) -> Iterator[Config]:
    """Configurations that may suit."""
    gates = 1 + (shape.op == "norm_gated")
    outs = shape.outs // gates
    if tokens <= FMA_TOKENS:
        words = shape.ins * (8 if kind in {"int8", "fp8-weights"} else 4) // 32
        for n, warps in itertools.product((2, 4, 8, 16, 32), (1, 2, 4, 8)):
            if 16 <= gates * n * words // (32 * warps) <= 128 and outs >= 128 * n:
                yield Config(n, 1 << (shape.ins.bit_length() - 1), warps, fma=True)
        return
    for n, k, warps in itertools.product((16, 32, 64, 128), (128, 256), (1, 2, 4, 8)):
        if not 16 * warps <= gates * n <= 64 * warps or gates * n * k > 1 << 14:
            continue
        splits = [split for split in (1, 2, 4) if outs // n * split >= 96 and shape.ins % (k * split) == 0]
        for split in splits[: 1 if gates > 1 or outs > 8192 else 2]:
            if split == 1 or gates == 1:
                yield Config(n, k, warps, 4, split)


def sweep(model: str, kind: str, counts: list[int], seconds: float) -> Iterator[str]:
    """The best three of each shape and number of tokens, beside the table's own."""
    deadline = time.monotonic() + seconds
    for tokens, shape in itertools.product(counts, shapes([model])):
        if time.monotonic() > deadline:
            yield f"{shape.name}, T {tokens}: no time left"
            continue
        copies = weights(shape, kind)
        tried = {config: call(shape, tokens, copies, config) for config in candidates(shape, tokens, kind)}
        compile_all(list(tried.values()))
        found = [(us, config) for config, one in tried.items() if (us := measured(one, len(copies))) is not None]
        found.sort(key=lambda pair: pair[0])
        own = measured(call(shape, tokens, copies), len(copies))
        yield f"# {shape.name}, T {tokens}: ours {own and round(own, 1)}, of {len(tried)}"
        yield from (f"    {config},  # {us:.1f}" for us, config in found[:3])


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sweep", choices=SWEPT)
    parser.add_argument("--model", default="1.7B", choices=[name for name, *_ in SHAPES])
    parser.add_argument("--kinds", default=",".join(KINDS), help="of the table")
    parser.add_argument("--tokens", type=integers, help="at once; of a sweep: 1, 32 and 64, unless said")
    parser.add_argument("--seconds", type=float, default=50, help="after which a sweep starts nothing new")
    args = parser.parse_args()
    lines = []
    for line in (
        sweep(args.model, args.sweep, args.tokens or [1, 32, 64], args.seconds)
        if args.sweep
        else table(args.model, args.kinds.split(","), args.tokens or TOKENS)
    ):
        print(line, flush=True)
        lines.append(line)
    if os.environ.get("OUT"):
        (Path(os.environ["OUT"]) / "quantized_linear.txt").write_text("\n".join(lines))


if __name__ == "__main__":
    main()
