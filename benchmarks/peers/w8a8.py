"""Linears of FP8 weights and inputs, for the shapes of Qwen3-8B-FP8: tiles, and layers of them beside bfloat16's.

    python -m benchmarks.peers.w8a8 [--tokens 1 32 64 128] [--seconds 50]

Each tile is timed as layers have it: the kernel that rounds its inputs (a norm in it before qkv and gate_up), then the linear, going round over
so many weights that caches do not help. Of each number of tokens: the best three of each linear, the table's own, then a chain
of whole layers without attention, by the table, by the best tiles, and in bfloat16.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import time
from collections.abc import Iterator
from typing import Any

import torch

from benchmarks.linear import measured
from specbatch.engine.fp8.w8a8 import FP8
from specbatch.engine.graphs.linears import w8a8
from specbatch.engine.graphs.linears.w8a8 import Config, Rounded
from specbatch.engine.graphs.linears.w8a8_ops import W8A8Ops
from specbatch.engine.graphs.precompile import compiling_only
from specbatch.engine.quantization import QuantizedWeight

SHAPES = {"qkv": (6144, 4096), "o": (4096, 4096), "gate_up": (24576, 4096), "down": (4096, 12288)}
LAYERS = 3
EPS = 1e-6
Tiles = dict[str, Config | None]


def weight(outs: int, ins: int) -> QuantizedWeight:
    """Of any numbers."""
    values = torch.randn(outs, ins, device="cuda").clamp(-3, 3).to(FP8)
    return QuantizedWeight(values, torch.rand(outs // 128, ins // 128, device="cuda"), 128, 128, 128)


def candidates(name: str, tokens: int) -> Iterator[Config | None]:
    """Tiles that may suit; None is the table's."""
    yield None
    if tokens <= 2:
        return
    block_t = next(size for size in (8, 16, 32, 64, 128) if tokens <= size)
    gated = name == "gate_up"
    if gated:
        tiles = [(128, 8, 4, 1), (128, 8, 3, 1), (128, 8, 4, 2), (128, 4, 4, 1), (64, 4, 5, 1), (64, 4, 4, 2)]
        tiles = tiles if block_t < 128 else [(64, 8, 4, 1), (64, 8, 3, 1), (64, 4, 3, 1), (128, 8, 3, 1)]
    else:
        tiles = [(64, 4, 5, split) for split in (1, 2, 4)] + [(64, 4, 4, 8), (64, 4, 3, 4), (64, 4, 8, 4), (128, 8, 4, 4), (128, 8, 4, 2), (128, 4, 4, 4)]  # fmt: skip
        if block_t == 128:
            tiles += [(64, 8, 4, 2), (64, 8, 4, 1), (128, 8, 3, 1)]
        if block_t <= 16:
            tiles += [(16, 2, 8, 1), (16, 2, 8, 4), (32, 4, 6, 4)]
    outs, _ = SHAPES[name]
    for block_n, warps, stages, split in tiles:
        cells = (outs // (1 + gated)) * block_t * split * (1 + gated)
        if split == 1 or cells <= 1 << 21:
            yield Config(block_n, block_t, warps, stages, split)


class Layers:
    """Weights of some layers, and what goes through them."""

    def __init__(self) -> None:
        self.weights = [{name: weight(*sizes) for name, sizes in SHAPES.items()} for _ in range(LAYERS)]
        self.wide = [{name: torch.randn(*sizes, device="cuda").bfloat16() for name, sizes in SHAPES.items()} for _ in range(LAYERS)]  # fmt: skip
        self.norm = torch.ones(4096, device="cuda").bfloat16()

    def one(self, name: str, tokens: int, tile: Config | None) -> Any:
        """A linear, as layers have it."""
        outs, ins = SHAPES[name]
        x = torch.randn(tokens, ins, device="cuda").bfloat16()
        residual = torch.randn(tokens, outs, device="cuda").bfloat16()

        def call(i: int) -> None:
            matrix = self.weights[i % LAYERS][name]
            self.step(name, self.inputs(name, x, matrix, tile), matrix, residual, tile)

        return call

    def inputs(self, name: str, x: torch.Tensor, matrix: QuantizedWeight, tile: Config | None) -> Rounded:
        """As its linear takes them; a tile's are rounded before it."""
        norm = self.norm if name in ("qkv", "gate_up") else None
        if tile is not None:
            return w8a8.rounded(x, 128, norm, EPS)
        return w8a8.inputs(x, matrix, norm, EPS, gated=name == "gate_up" and w8a8.gates(len(x)))

    def step(self, name: str, x: Rounded, matrix: QuantizedWeight, residual: torch.Tensor, tile: Config | None) -> Any:
        """The linear alone."""
        if name == "gate_up":
            if w8a8.gates(len(x.values)):
                return w8a8.gated(x, matrix, group=128, config=tile)
            return W8A8Ops().gate(w8a8.linear(x, matrix, config=tile)), None
        return w8a8.linear(x, matrix, residual=None if name == "qkv" else residual, config=tile), None

    def linear(
        self, name: str, x: torch.Tensor, weights: dict[str, QuantizedWeight], residual: torch.Tensor, tiles: Tiles,
        rounded: Rounded | None = None,
    ) -> Any:  # fmt: skip
        """One, with the kernel that rounds its inputs, where there is one."""
        inputs = rounded or self.inputs(name, x, weights[name], tiles[name])
        return self.step(name, inputs, weights[name], residual, tiles[name])

    def chain(self, tokens: int, tiles: Tiles | None) -> Any:
        """All linears of a layer; None: in bfloat16."""
        ops = W8A8Ops()
        hidden = torch.randn(tokens, 4096, device="cuda").bfloat16()

        def call(i: int) -> None:
            x, weights = hidden, (self.wide if tiles is None else self.weights)[i % LAYERS]
            if tiles is None:
                q = ops.norm_linear(x, self.norm, EPS, weights["qkv"])[:, :4096].contiguous()
                x, ahead = ops.linear_add_ahead(q, weights["o"], x.clone(), self.norm, weights["gate_up"])
                fed = ops.norm_gated(x, self.norm, EPS, weights["gate_up"], ahead, weights["down"])
                ops.linear_add(fed, weights["down"], x)
                return
            q, _ = self.linear("qkv", x, weights, x, tiles)
            x, _ = self.linear("o", q[:, :4096].contiguous(), weights, x.clone(), tiles)
            fed, rounded = self.linear("gate_up", x, weights, x, tiles)
            self.linear("down", fed, weights, x, tiles, rounded)

        return call


def shown(tile: Config | None) -> str:
    """In brief."""
    if tile is None:
        return "table"
    return f"{tile.block_n}x{tile.block_t} w{tile.warps} s{tile.stages} k{tile.split}"


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, nargs="+", default=[32, 1, 128, 64])
    parser.add_argument("--seconds", type=float, default=50, help="after which nothing new is timed")
    args = parser.parse_args()
    deadline, layers = time.monotonic() + args.seconds, Layers()
    for tokens in args.tokens:
        if time.monotonic() > deadline:
            print(f"T {tokens}: no time left")
            continue
        jobs = {(name, tile): layers.one(name, tokens, tile) for name in SHAPES for tile in candidates(name, tokens)}
        table: Tiles = dict.fromkeys(SHAPES)
        with compiling_only(os.cpu_count() or 1):
            for call in (*jobs.values(), layers.chain(tokens, table), layers.chain(tokens, None)):
                with contextlib.suppress(Exception):  # measured() says so
                    call(0)
        best: Tiles = {}
        for name, (outs, ins) in SHAPES.items():
            timed = [(measured(call, LAYERS), tile) for (of, tile), call in jobs.items() if of == name]
            found = sorted(((us, tile) for us, tile in timed if us is not None), key=lambda pair: pair[0])
            best[name] = found[0][1]
            own = next((us for us, tile in found if tile is None), 0.0)
            rates = f"{outs * ins / found[0][0] / 1e6:.2f} TB/s"
            print(f"T {tokens} {name}: table {own:.1f} us; best {rates}:", "; ".join(f"{us:.1f} {shown(tile)}" for us, tile in found[:4]), flush=True)  # fmt: skip
        chains = {"table": table, "best": best, "bfloat16": None}
        parts = [f"{who} {measured(layers.chain(tokens, tiles), LAYERS) or 0:.1f}" for who, tiles in chains.items()]
        print(f"T {tokens} a layer without attention, us: {', '.join(parts)}", flush=True)


if __name__ == "__main__":
    main()
