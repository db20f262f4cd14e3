"""Attention of one layer over rows that begin alike, with the shared pages read together and not: python -m benchmarks.cascade [--shape 8B]

A table by rows and shared tokens, of 1 and 4 queries a row: microseconds of a layer with the rotation before it, each row reading all its pages (`apart`) and
as cascade attention (`together`); what CascadePrice says is saved, and whether a run would choose it. Every row has 200 tokens of its own. Times are of replayed CUDA
graphs over layers whose KV the L2 cache cannot hold. `worst` is the largest distance between the two ways' outputs.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from benchmarks.arguments import integers
from benchmarks.device_speed import measured
from benchmarks.inputs.attention_cases import HEAD_DIM, SCALE, SHAPES
from specbatch.engine.graphs.cascade.price import CascadePrice
from specbatch.engine.graphs.cascade.tiles import PrefixTiles, lines, most_tiles, plan_tiles
from specbatch.engine.graphs.describe.description import PLAIN
from specbatch.engine.graphs.kv.paging import PAGE, Pages
from specbatch.engine.graphs.ops import operations

ROWS, SHARED, QUERIES = (16, 32, 64, 128, 256, 512), (256, 1000, 4000), (1, 4)
_OWN = 200  # tokens
_LAYERS = 4


class Layers:
    """Random KV for the largest case, and the two ways of a layer."""

    def __init__(self, shape: str, rows: int, shared: int, device: torch.device) -> None:
        self.heads, self.kv_heads = SHAPES[shape]
        self.ops, self.device = operations(device), device
        self.own = -(-(PAGE + _OWN) // PAGE)
        pages = shared // PAGE + self.own * rows + 1
        self.dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        kv = [
            [torch.randn(pages, self.kv_heads, PAGE, HEAD_DIM, device=device, dtype=self.dtype) for _ in range(_LAYERS)]
            for _ in range(2)
        ]
        self.kv = Pages(
            kv[0], kv[1], torch.zeros(rows + 1, shared // PAGE + self.own, dtype=torch.int32, device=device)
        )
        self.rope = torch.randn(shared + 2 * PAGE + _OWN, HEAD_DIM, device=device)
        self.norm = torch.ones(HEAD_DIM, device=device, dtype=self.dtype)

    def ways(self, rows: int, shared: int, queries: int) -> tuple[list[Callable[[int], Tensor]], int]:
        """Apart, together, and the rotation alone; and the shared pages."""
        begin = shared // PAGE
        held = [
            [*range(1, begin + 1), *range(1 + begin + row * self.own, 1 + begin + (row + 1) * self.own)]
            for row in range(rows)
        ]
        self.kv.table.zero_()
        self.kv.table[:rows, : begin + self.own] = torch.tensor(held, dtype=torch.int32)
        tiles = plan_tiles([pages[:begin] for pages in held], most_tiles(rows))
        prefixes = PrefixTiles(*(line.to(self.device) for line in lines(tiles, list(range(rows)), rows)))
        slots = torch.arange(rows, device=self.device)
        first = torch.full_like(slots, shared + _OWN - queries)
        token_slots = slots.repeat_interleave(queries)
        positions = (first[:, None] + torch.arange(queries, device=self.device)).flatten()
        qkv = torch.randn(rows * queries, (self.heads + 2 * self.kv_heads) * HEAD_DIM, device=self.device).to(
            self.dtype
        )
        before = qkv, self.norm, self.norm, 1e-6, self.rope, self.kv
        ops = self.ops

        def apart(layer: int) -> Tensor:
            return ops.rope_attend(*before, layer, slots, first, token_slots, positions, SCALE, PLAIN)

        def rotated(layer: int) -> Tensor:
            return ops.rope_write(*before, layer, token_slots, positions, PLAIN)

        def together(layer: int) -> Tensor:
            q = rotated(layer)
            of_rows = q.view(rows, queries, self.heads, HEAD_DIM)
            return ops.attend_cascade(of_rows, self.kv, layer, slots, first, prefixes, SCALE, PLAIN).view(q.shape)

        return [apart, together, rotated], begin


def table(shape: str, rows: Sequence[int], shared: Sequence[int], queries: Sequence[int], device: torch.device) -> None:
    """Prints a line for each case."""
    bandwidth = measured(device).bandwidth
    layers = Layers(shape, max(rows), max(shared), device)
    heads = layers.heads, layers.kv_heads
    price = CascadePrice.of_shape(1, *heads, HEAD_DIM, layers.norm.dtype, bandwidth)
    print(f"\nattention of a layer of {shape}, {bandwidth / 1e12:.2f} TB/s\n")
    print(
        "| rows | shared | queries | apart us | together us | of it rotation us | saved us | predicted us | chosen | worst |\n"
        + "|---" * 10
        + "|"
    )
    for new in queries:
        for count in rows:
            for length in shared:
                ways, begin = layers.ways(count, length, new)
                worst = (ways[0](0).float() - ways[1](0).float()).abs().max().item()
                one, other, rotation = (_seconds(way, device) for way in ways)
                tiles = plan_tiles([list(range(begin))] * count, most_tiles(count))
                predicted = price.saved(tiles, [begin + layers.own] * count, new)
                cells = f"{1e6 * one:.1f} | {1e6 * other:.1f} | {1e6 * rotation:.1f} | {1e6 * (one - other):.1f} | {1e6 * predicted:.1f}"
                print(
                    f"| {count} | {length} | {new} | {cells} | {'yes' if predicted > 0 else 'no'} | {worst:.4f} |",
                    flush=True,
                )


def _seconds(way: Callable[[int], Tensor], device: torch.device) -> float:
    if device.type == "cuda":
        from benchmarks.attention import seconds  # noqa: PLC0415  # Triton is not installed with a CPU's torch

        return seconds(way, _LAYERS)
    start = time.perf_counter()
    way(1)
    return time.perf_counter() - start


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="8B", choices=list(SHAPES))
    parser.add_argument("--rows", type=integers, default=list(ROWS))
    parser.add_argument("--shared", type=integers, default=list(SHARED), help="tokens")
    parser.add_argument("--queries", type=integers, default=list(QUERIES), help="of a row")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    asked = parser.parse_args(argv)
    with torch.inference_mode():
        table(asked.shape, asked.rows, asked.shared, asked.queries, torch.device(asked.device))


if __name__ == "__main__":
    main()
