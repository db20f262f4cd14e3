"""Linears of FP8 weights and inputs, for the shapes of Qwen3-8B-FP8: tiles, and layers of them beside bfloat16's.

    python -m benchmarks.peers.w8a8 [--tokens 1 32 64 128 1024] [--seconds 50]

Each tile is timed as layers have it: the kernel that rounds its inputs (a norm in it before qkv and gate_up) where there is one, then the linear,
going round over so many weights that caches do not help; one whose outputs are off is named and left out. Of each number of tokens: every tile of each
linear, the table's own among them, then a chain of whole layers without attention, by the table, by the best tiles, and in bfloat16; of more tokens than the
gate's kernel takes, cuBLAS by blocks and with widened weights beside bfloat16's.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import time
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.linear import measured
from specbatch.engine.fp8.w8a8 import FP8
from specbatch.engine.graphs.kernels.linears.linear_configs import MULTIPROCESSORS
from specbatch.engine.graphs.linears import w8a8, w8a8_dense, w8a8_wgmma
from specbatch.engine.graphs.linears.w8a8 import Rounded
from specbatch.engine.graphs.linears.w8a8_configs import Config, Few
from specbatch.engine.graphs.linears.w8a8_ops import W8A8Ops
from specbatch.engine.graphs.precompile import compiling_only
from specbatch.engine.quantization.weight import QuantizedWeight, multiply

HIDDEN = 4096
SHAPES = {"qkv": (6144, HIDDEN), "o": (HIDDEN, HIDDEN), "gate_up": (24576, HIDDEN), "down": (HIDDEN, 12288)}
LAYERS = 3
EPS = 1e-6
OFF = 8e-3  # of the norm of what is right: bfloat16 rounds by 2e-3, sums of FP8 on Hopper by 2e-4
Tile = w8a8.AnyTile | None  # the table's, where there is none
Call = Callable[[int], object]
OPS = W8A8Ops()


def weight(outs: int, ins: int) -> QuantizedWeight:
    """Of any numbers."""
    values = torch.randn(outs, ins, device="cuda").clamp(-3, 3).to(FP8)
    return QuantizedWeight(values, torch.rand(outs // 128, ins // 128, device="cuda") / 64, 128, 128, 128)


def candidates(name: str, tokens: int) -> Iterator[Tile]:
    """Tiles that may suit."""
    yield None
    outs, ins = SHAPES[name]
    yield from on_wgmma(name, tokens)
    if tokens <= 2:
        for block_n in (2, 4, 8, 16):
            for warps in (4, 8, 16):
                if 24 <= block_n * ins * (1 + (name == "gate_up")) // (128 * warps) <= 128:
                    yield from (Few(block_n, warps, rounds) for rounds in (False, True))
        return
    block_t = next((size for size in (16, 32, 64) if tokens <= size), 128)
    if name == "gate_up":
        tiles = [
            (128, 8, 4, 1, 0),
            (128, 8, 5, 1, 0),
            (128, 8, 3, 1, 1),
            (128, 8, 3, 1, 2),
            (64, 4, 4, 1, 2),
            (64, 8, 4, 1, 0),
        ]
    else:
        tiles = [(64, 4, 5, split, 0) for split in (1, 2, 4)]
        tiles += [(64, 4, 4, split, ahead) for split in (2, 4, 8) for ahead in (2, 4)] + [(64, 4, 1, 4, 8)]
    for block_n, warps, stages, split, ahead in tiles:
        if split == 1 or outs * block_t * split <= 1 << 21:
            yield from (Config(block_n, block_t, warps, stages, split, ahead, early) for early in (False, True))


def on_wgmma(name: str, tokens: int) -> Iterator[w8a8_wgmma.Tile]:
    """Tiles that may suit the kernel in Gluon, and fit."""
    if not w8a8_wgmma.FEWEST <= tokens <= w8a8_wgmma.MOST:
        return
    (outs, ins), gated = SHAPES[name], name == "gate_up"
    for block_n, each, of_step in ((64, 1, 2), (64, 1, 1), (64, 2, 2), (64, 2, 1), (128, 1, 1), (128, 1, 2)):
        for split in (1, 2, 4):
            programs = outs // (1 + gated) // block_n * split
            tile = w8a8_wgmma.fitted(
                tokens, outs // (1 + gated), ins, block_n, split, gated=gated, of_step=of_step, each=each
            )
            if tile is not None and programs > max(80, (each - 1) * MULTIPROCESSORS):
                yield tile


class Layers:
    """Weights of some layers, and what goes through them."""

    def __init__(self) -> None:
        self.weights = [{name: weight(*sizes) for name, sizes in SHAPES.items()} for _ in range(LAYERS)]
        self.wide = [{name: torch.randn(*sizes, device="cuda").bfloat16() for name, sizes in SHAPES.items()} for _ in range(LAYERS)]  # fmt: skip
        self.norm = torch.ones(HIDDEN, device="cuda").bfloat16()

    def step(self, name: str, x: Tensor, layer: int, residual: Tensor, tile: Tile, ready: Rounded | None = None) -> tuple[Tensor, Rounded | None]:  # fmt: skip
        """A linear, with the kernel that rounds its inputs where there is one; and what its kernel rounds for the next."""
        matrix = self.weights[layer % LAYERS][name]
        gated = name == "gate_up" and w8a8.gates(len(x), matrix, x.dtype)
        norm = self.norm if name in ("qkv", "gate_up") else None
        if isinstance(tile, Config):
            ready = ready or w8a8.rounded(x, 128, norm, EPS)
        ready = ready or w8a8.inputs(x, matrix, norm, EPS, gated=gated, use=tile if isinstance(tile, Few) else None)
        if gated:
            return w8a8.gated(ready, matrix, group=128, config=tile)
        if name == "gate_up":
            return OPS.gate(w8a8.linear(ready, matrix, config=tile)), None
        return w8a8.linear(ready, matrix, residual=None if name == "qkv" else residual, config=tile), None

    def one(self, name: str, tokens: int, tile: Tile) -> Call:
        """A linear, as layers have it."""
        outs, ins = SHAPES[name]
        x = torch.randn(tokens, ins, device="cuda").bfloat16()
        residual = torch.randn(tokens, outs, device="cuda").bfloat16()
        return lambda i: self.step(name, x, i, residual, tile)

    def off(self, name: str, tokens: int, tile: Tile) -> float:
        """How far it is from the reference."""
        outs, ins = SHAPES[name]
        x = torch.randn(tokens, ins, device="cuda").bfloat16()
        got = self.step(name, x, 0, torch.zeros(tokens, outs, device="cuda").bfloat16(), tile)[0].float()
        wide = OPS.rms_norm(x, self.norm, EPS) if name in ("qkv", "gate_up") else x
        right = multiply(wide.float(), self.weights[0][name])
        if name == "gate_up":
            gate, up = right.chunk(2, dim=-1)
            right = F.silu(gate) * up
        return float((got - right).norm() / right.norm())

    def chain(self, tokens: int, tiles: dict[str, Tile] | None) -> Call:
        """All linears of a layer, o's inputs as attention left them; None: in bfloat16."""
        hidden, attended = (torch.randn(tokens, HIDDEN, device="cuda").bfloat16() for _ in range(2))

        def call(i: int) -> None:
            if tiles is None:
                wide = self.wide[i % LAYERS]
                OPS.norm_linear(hidden, self.norm, EPS, wide["qkv"])
                x, ahead = OPS.linear_add_ahead(attended, wide["o"], hidden, self.norm, wide["gate_up"])
                fed = OPS.norm_gated(x, self.norm, EPS, wide["gate_up"], ahead, wide["down"])
                OPS.linear_add(fed, wide["down"], x)
                return
            self.step("qkv", hidden, i, hidden, tiles["qkv"])
            x, _ = self.step("o", attended, i, hidden, tiles["o"])
            fed, rounded = self.step("gate_up", x, i, x, tiles["gate_up"])
            self.step("down", fed, i, x, tiles["down"], rounded)

        return call

    def many(self, name: str, tokens: int) -> dict[str, Call]:
        """A bare linear of many tokens, and the kernel that rounds its inputs, every way there is."""
        x = torch.randn(tokens, SHAPES[name][1], device="cuda").bfloat16()
        ways: dict[str, Call] = {"bfloat16": lambda i: x @ self.wide[i % LAYERS][name].t()}
        ways["widened"] = lambda i: w8a8_dense.multiplied(
            w8a8.rounded(x, 128, back=True), self.weights[i % LAYERS][name]
        )
        if w8a8_dense.by_blocks(tokens, self.weights[0][name], x.dtype):
            ways["by blocks"] = lambda i: w8a8_dense.multiplied(w8a8.rounded(x, 128), self.weights[i % LAYERS][name])
        if tokens <= w8a8.WIDE:
            tile = w8a8.configured(tokens, *SHAPES[name])
            ways["ours"] = lambda i: w8a8.linear(w8a8.rounded(x, 128), self.weights[i % LAYERS][name], config=tile)
        return ways


def shown(tile: Tile) -> str:
    """In brief."""
    if isinstance(tile, Few):
        return f"n{tile.block_n} w{tile.warps}{' rounds' * tile.rounds}"
    if tile is None:
        return "table"
    if isinstance(tile, w8a8_wgmma.Tile):
        return f"wgmma n{tile.block_n} g{tile.of_step} w{tile.warps} s{tile.stages} k{tile.split}"
    return (
        f"{tile.block_n}x{tile.block_t} w{tile.warps} s{tile.stages} k{tile.split} a{tile.ahead}{' early' * tile.early}"
    )


def of_tokens(layers: Layers, tokens: int) -> Iterator[str]:
    """Lines of one number of tokens."""
    if tokens <= w8a8.BLOCKS:
        jobs = {(name, tile): layers.one(name, tokens, tile) for name in SHAPES for tile in candidates(name, tokens)}
        table: dict[str, Tile] = dict.fromkeys(SHAPES)
        with compiling_only(os.cpu_count() or 1):
            for call in (*jobs.values(), layers.chain(tokens, table), layers.chain(tokens, None)):
                with contextlib.suppress(Exception):  # measured() says so
                    call(0)
        best: dict[str, Tile] = {}
        for name, (outs, ins) in SHAPES.items():
            right = []
            for tile in (tile for of, tile in jobs if of == name):
                with contextlib.suppress(Exception):  # measured() says so
                    off = layers.off(name, tokens, tile)
                    if off < OFF:
                        right.append(tile)
                    else:
                        yield f"T {tokens} {name} {shown(tile)} is wrong: off by {off:.1e}"
            timed = [(measured(jobs[name, tile], LAYERS), tile) for tile in right]
            found = sorted(((us, tile) for us, tile in timed if us is not None), key=lambda pair: pair[0])
            best[name] = found[0][1]
            rate = f"{outs * ins / found[0][0] / 1e6:.2f} TB/s"
            yield f"T {tokens} {name}, best {rate}: " + "; ".join(f"{us:.1f} {shown(tile)}" for us, tile in found[:12])
        chains = {"table": table, "best": best, "bfloat16": None}
        parts = [f"{who} {measured(layers.chain(tokens, tiles), LAYERS) or 0:.1f}" for who, tiles in chains.items()]
        yield f"T {tokens} a layer without attention, us: {', '.join(parts)}"
    if tokens >= w8a8.BLOCKS:
        for name in SHAPES:
            timed_ways = [(way, measured(call, LAYERS)) for way, call in layers.many(name, tokens).items()]
            yield f"T {tokens} {name}, us: " + ", ".join(f"{way} {us:.1f}" for way, us in timed_ways if us is not None)


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, nargs="+", default=[32, 1, 128, 64, 1024])
    parser.add_argument("--seconds", type=float, default=50, help="after which nothing new is begun")
    args = parser.parse_args()
    deadline, layers = time.monotonic() + args.seconds, Layers()
    for tokens in args.tokens:
        if time.monotonic() > deadline:
            print(f"T {tokens}: no time left")
            continue
        for line in of_tokens(layers, tokens):
            print(line, flush=True)


if __name__ == "__main__":
    main()
