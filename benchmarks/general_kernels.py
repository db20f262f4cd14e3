"""What the general path's kernels take beside PyTorch's, at the shapes of GPT-2 XL and OPT 1.3B in bfloat16, one GPU.

    python -m benchmarks.general_kernels [--rows 32] [--extent 192]

Microseconds a call, in a CUDA graph of calls that go round over copies, so many that the L2 cache never serves them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.linear import Call, measured
from specbatch.engine.general.kernels import norm, single_query, slots
from specbatch.engine.general.slot_write import SlotWrite
from specbatch.engine.graphs.kernels.linears import linear
from specbatch.engine.graphs.kernels.linears.linear_configs import Config

SHAPES = {"gpt2": (1600, 4800, 25), "opt": (2048, 2048, 32)}  # hidden, outputs of q, k, v or one of them, heads
COPIES = 24
CONFIGS = (
    Config(16, 256, 2, 4, 1), Config(16, 256, 4, 4, 2), Config(32, 128, 4, 5, 1), Config(32, 128, 4, 4, 2), Config(32, 128, 4, 4, 4),
    Config(64, 64, 4, 5, 2), Config(64, 128, 4, 4, 4), Config(32, 64, 4, 6, 5),
)  # fmt: skip


def normal(*shape: int) -> Tensor:
    """Random numbers."""
    return torch.randn(*shape, device="cuda").mul_(0.1).bfloat16()


def linears(hidden: int, queries: int, rows: int) -> Iterator[tuple[str, Call]]:
    """Each linear of a layer: by cuBLAS, by cuBLAS from weights that lie the other way round, and by ours."""
    for outs, ins in ((queries, hidden), (hidden, hidden), (4 * hidden, hidden), (hidden, 4 * hidden)):
        weights, bias, x = [normal(outs, ins) for _ in range(COPIES)], normal(outs), normal(rows, ins)
        turned = [weight.t().contiguous() for weight in weights]
        name = f"{outs} x {ins}"
        yield f"{name} cuBLAS", lambda i, w=weights, b=bias, x=x: F.linear(x, w[i], b)
        yield f"{name} addmm ", lambda i, w=turned, b=bias, x=x: torch.addmm(b, x, w[i])
        yield f"{name} ours  ", lambda i, w=weights, b=bias, x=x: linear.linear(x, w[i], b)
        for use in CONFIGS:
            if rows > 2 and ins % (use.block_k * use.split) == 0:
                yield f"{name} {use}", lambda i, w=weights, b=bias, x=x, c=use: linear.linear(x, w[i], b, config=c)


def norms(hidden: int, rows: int) -> Iterator[tuple[str, Call]]:
    """The layer norm."""
    x, weight = [normal(rows, 1, hidden) for _ in range(COPIES)], normal(hidden)
    yield "layer norm, PyTorch", lambda i: F.layer_norm(x[i], (hidden,), weight, weight)
    yield "layer norm, ours   ", lambda i: norm.layer_norm(x[i], weight, weight, 1e-5)


def attentions(heads: int, rows: int, extent: int) -> Iterator[tuple[str, Call]]:
    """One query a head and row."""
    query = normal(rows, 1, heads, 64).transpose(1, 2)
    kv = [(normal(rows, heads, extent + 65, 64)[:, :, :extent], normal(rows, heads, extent + 65, 64)[:, :, :extent]) for _ in range(COPIES // 4)]  # fmt: skip
    mask = torch.ones(rows, 1, 1, extent, dtype=torch.bool, device="cuda")
    many = len(kv)

    def single(tile: int, stages: int, registers: int) -> Call:
        def call(i: int) -> Tensor:
            kernel = single_query
            kernel.TILE, kernel.STAGES, kernel.REGISTERS = tile, stages, registers
            return slots.attend(query, *kv[i % many], mask, 0.125, write(i))

        return call

    key = normal(rows, heads, 1, 64)
    positions = torch.full((rows, 1), extent - 1, device="cuda")

    def write(i: int) -> SlotWrite:
        return SlotWrite(*kv[i % many], key, key, positions, kv[i % many])

    yield "attention, 2 queries of which one counts", lambda i: slots.attend(query.expand(-1, -1, 2, -1), *kv[i % many], mask.expand(-1, -1, 2, -1), 0.125)  # fmt: skip
    for tile, stages, registers in (
        (2048, 1, 255),
        (2048, 2, 64),
        (2048, 3, 64),
        (2048, 3, 80),
        (2048, 4, 64),
        (4096, 2, 96),
        (1024, 3, 64),
    ):
        yield f"attention, tile {tile}, stages {stages}, registers {registers}", single(tile, stages, registers)
    yield "write", lambda i: slots.write(*kv[i % many], key, key, positions)  # type: ignore[func-returns-value]


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--extent", type=int, default=192)
    parser.add_argument("--parts", nargs="+", default=["norms", "attentions", "linears"])
    args = parser.parse_args()
    for name, (hidden, queries, heads) in SHAPES.items():
        parts: dict[str, Callable[[], Iterator[tuple[str, Call]]]] = {
            "norms": lambda hidden=hidden: norms(hidden, args.rows),
            "attentions": lambda heads=heads: attentions(heads, args.rows, args.extent),
            "linears": lambda hidden=hidden, queries=queries: linears(hidden, queries, args.rows),
        }
        for part in args.parts:
            for what, call in parts[part]():
                time = measured(call, COPIES)
                print(f"{name}, {args.rows} rows, {what}: {time or float('nan'):.1f} us", flush=True)


if __name__ == "__main__":
    main()
