"""Linears of quantized weights beside those of bfloat16 on one GPU, for the shapes of Qwen3 1.7B.

    python -m benchmarks.quantized_linear                 every shape at 1 to 512 tokens: about a minute
    python -m benchmarks.quantized_linear --sweep int8    the best configurations: about two

A figure is microseconds a call, measured as in benchmarks.linear, with its norm, gate or residual; `bfloat16` is whatever TritonOps takes.
"""

from __future__ import annotations

import argparse
import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks.inputs.linear_cases import COLD, EPS, Call, Shape, shapes
from benchmarks.linear import compile_all, measured
from specbatch.engine.graphs.kernels.linears import linear
from specbatch.engine.graphs.kernels.linears.linear_configs import Config, padded
from specbatch.engine.graphs.triton_ops import TritonOps
from specbatch.engine.quantization import QuantizedWeight, Weight, quantize

TOKENS = (1, 2, 8, 16, 32, 64, 128, 256, 512)
KINDS = ("bfloat16", "int8", "fp8", "int4")


def weights(shape: Shape, kind: str) -> list[Weight]:
    """So many that caches do not help."""
    dense = torch.randn(shape.outs, shape.ins, device="cuda", dtype=torch.bfloat16) * shape.ins**-0.5
    if kind == "bfloat16":
        return [dense.clone() for _ in range(-(-COLD // dense.nbytes))]
    few = quantize(dense, kind)  # type: ignore[arg-type]  # one of KINDS
    return [QuantizedWeight(few.values.clone(), few.scales.clone()) for _ in range(-(-COLD // few.nbytes))]


def call(shape: Shape, tokens: int, copies: list[Weight], config: Config | None = None) -> Call:
    """The op with its norm, gate or residual; of a given configuration the bare linear."""
    ops = TritonOps()
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


def table() -> Iterator[str]:
    """All shapes."""
    yield "| | T | " + " | ".join(KINDS) + " |\n" + "|---" * (len(KINDS) + 2) + "|"
    for shape in shapes(["1.7B"]):
        of_kind = {kind: weights(shape, kind) for kind in KINDS}
        compile_all([call(shape, tokens, copies) for copies in of_kind.values() for tokens in TOKENS])
        for tokens in TOKENS:
            times = [measured(call(shape, tokens, copies), len(copies)) for copies in of_kind.values()]
            yield f"| {shape.name} | {tokens} | " + " | ".join("" if us is None else f"{us:.1f}" for us in times) + " |"


def candidates(shape: Shape, tokens: int) -> Iterator[Config]:
    """Configurations that may suit."""
    gated = shape.op == "norm_gated"
    if tokens <= 2:
        for n, warps in itertools.product((1, 2, 4, 8, 16), (1, 2, 4, 8)):
            if 32 <= (1 + gated) * n * shape.ins // (32 * warps) <= 512:
                yield Config(n, 1 << (shape.ins.bit_length() - 1), warps, fma=True)
    if tokens == 1:
        return
    block_t = padded(tokens)
    for n, k, warps, stages in itertools.product((16, 32, 64, 128), (128, 256, 512), (2, 4, 8), (3, 5)):
        shared = stages * k * (n * (1 + gated) + 2 * block_t)
        for split in (1,) if gated or shape.outs > 8192 else (1, 2, 4):
            tiles = shape.outs // (1 + gated) // n * split
            fits = shared <= 220 << 10 and n * k >= 32 * 32 * warps and n * block_t <= 128 * 32 * warps
            if fits and tiles >= 96 and shape.ins % (k * split) == 0:
                yield Config(n, k, warps, stages, split)


def sweep(kind: str, seconds: float) -> Iterator[str]:
    """The best three of each shape and number of tokens, beside the table's own."""
    deadline = time.monotonic() + seconds
    for tokens, shape in itertools.product((1, 16, 32, 128), shapes(["1.7B"])):
        if time.monotonic() > deadline:
            yield f"{shape.name}, T {tokens}: no time left"
            continue
        copies = weights(shape, kind)
        tried = {config: call(shape, tokens, copies, config) for config in candidates(shape, tokens)}
        compile_all(list(tried.values()))
        found = [(us, config) for config, one in tried.items() if (us := measured(one, len(copies))) is not None]
        found.sort(key=lambda pair: pair[0])
        own = measured(call(shape, tokens, copies), len(copies))
        best = "; ".join(f"{us:.1f} {config}" for us, config in found[:3])
        yield f"{shape.name}, T {tokens}, ours {own and round(own, 1)}, of {len(tried)}: {best}"


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sweep", choices=KINDS[1:])
    parser.add_argument("--seconds", type=float, default=100, help="after which a sweep starts nothing new")
    args = parser.parse_args()
    lines = []
    for line in sweep(args.sweep, args.seconds) if args.sweep else table():
        print(line, flush=True)
        lines.append(line)
    if os.environ.get("OUT"):
        (Path(os.environ["OUT"]) / "quantized_linear.txt").write_text("\n".join(lines))


if __name__ == "__main__":
    main()
