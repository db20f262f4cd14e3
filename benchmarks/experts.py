"""Mixtures of experts on one GPU: our kernels beside torch's grouped product, from one token to a prefill, in bfloat16.

    python -m benchmarks.experts [--model qwen3-30b-a3b]     a layer's experts by ways and tokens: about a minute
    python -m benchmarks.experts --sweep                     the best tiles for kernels/experts: about two

A figure is microseconds for the experts of one layer, in a CUDA graph of calls that go round over copies of the weights; beside it the share of the GPU's
bandwidth by its data sheet, counting the weights of the experts that were chosen. `router` is the norm, the router's logits and the choice.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from triton.runtime.errors import OutOfResources

from benchmarks.device_speed import nominal
from benchmarks.inputs.synthetic import SHAPES
from benchmarks.linear import measure
from specbatch.engine.graphs.describe.description import SILU, Routing
from specbatch.engine.graphs.kernels import activations
from specbatch.engine.graphs.kernels.experts import few, grouping, many
from specbatch.engine.graphs.triton_ops import TritonOps

TOKENS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128, 256, 512, 1024, 2048, 4096)
TILES = [
    (16, 256, 2, 4),
    (16, 256, 4, 4),
    (32, 128, 2, 4),
    (32, 128, 4, 4),
    (32, 256, 2, 3),
    (32, 256, 4, 3),
    (64, 128, 4, 4),
    (64, 64, 4, 5),
]
_COPIES = 2  # of a layer, each larger than the L2


class Layer:
    """A layer's experts, and tokens that choose evenly."""

    def __init__(self, name: str) -> None:
        shape = SHAPES[name]
        self.routing = Routing(shape.experts, shape.per_token, normed=True)
        of = {"device": "cuda", "dtype": torch.bfloat16}
        self.router = torch.randn(shape.experts, shape.hidden, **of) * shape.hidden**-0.5
        self.norm = torch.ones(shape.hidden, **of)
        self.gate_up = [
            torch.empty(shape.experts, 2 * shape.intermediate, shape.hidden, **of).normal_(std=shape.hidden**-0.5)
            for _ in range(_COPIES)
        ]
        self.down = [
            torch.empty(shape.experts, shape.hidden, shape.intermediate, **of).normal_(std=shape.intermediate**-0.5)
            for _ in range(_COPIES)
        ]

    def tokens(self, count: int) -> None:
        """Draws so many, and where they go."""
        self.x = torch.randn(count, self.router.shape[1], device="cuda").bfloat16()
        self.residual = torch.randn_like(self.x)
        self.slots = torch.zeros(count, dtype=torch.int64, device="cuda")
        self.routed = self.route()
        self.weights, self.chosen = self.routed
        self.read = int(self.chosen.unique().numel()) * 2 * (self.gate_up[0][0].numel() + self.down[0][0].numel())

    def route(self) -> Any:
        """As TritonOps does."""
        ops = TritonOps()
        return ops.route(self.x, self.norm, 1e-6, self.router, None, self.routing, self.slots, 1)[2]

    def few(self, i: int, tiles: Any = None) -> Tensor:
        """Every pair reads its expert."""
        kwargs = {} if tiles is None else {"tiles": tiles}
        return few.experts(self.x, *self.routed, self.gate_up[i], self.down[i], SILU, self.residual, **kwargs)

    def many(self, i: int, size: int | None = None, tiles: tuple[Any, Any] = (None, None)) -> Tensor:
        """Sorted by expert."""
        count = self.routing.experts
        pairs = grouping.group(self.chosen, count, size or many.block_size(self.chosen.numel(), count))
        fed = many.gate_up(self.x, pairs, self.chosen.shape[1], self.gate_up[i], SILU, tiles[0])
        given = many.down(fed, pairs, self.down[i], tiles[1])
        return many.combine(given, *self.routed, count, self.residual, self.norm, 1e-6)[0]

    def torch_grouped(self, i: int) -> Tensor:
        """Sorted by PyTorch, multiplied by its grouped product: how transformers' `grouped_mm` experts do it."""
        tokens, each = self.chosen.shape
        ids, order = self.chosen.view(-1).sort(stable=True)
        counts = torch.histc(ids, bins=self.routing.experts, min=0, max=self.routing.experts - 1)
        ends = counts.cumsum(0, dtype=torch.int32)
        fed = activations.gate(F.grouped_mm(self.x[order // each], self.gate_up[i].transpose(-2, -1), offs=ends))
        given = F.grouped_mm(fed, self.down[i].transpose(-2, -1), offs=ends)
        back = torch.empty_like(given)
        back[order] = given
        return self.residual + (back.view(tokens, each, -1) * self.weights[..., None]).sum(1).to(self.x.dtype)


def table(layer: Layer, tokens: list[int]) -> list[dict[str, Any]]:
    """Prints and gives a line for each number of tokens."""
    speed, lines = nominal(torch.cuda.get_device_name(0)), []
    print("tokens   MB read   router        few            many            torch's    apart")
    for count in tokens:
        layer.tokens(count)
        line: dict[str, Any] = {"tokens": count, "bytes": layer.read, "router": measure(lambda _: layer.route(), 8)}
        expected = layer.torch_grouped(0)
        for name, run in (("few", layer.few), ("many", layer.many), ("torch", layer.torch_grouped)):
            if name == "few" and count > 32:  # no more is of use
                continue
            with contextlib.suppress(OutOfResources):
                line[name] = measure(run, _COPIES)
                line[f"{name}_apart"] = float((run(0) - expected).abs().max() / expected.abs().max())
        shares = [
            f"{line[name]:8.1f} {layer.read / line[name] / 1e-6 / speed.bandwidth if speed else 0:4.2f}"
            if name in line
            else " " * 13
            for name in ("few", "many", "torch")
        ]
        apart = max(line.get("few_apart", 0.0), line["many_apart"])
        print(f"{count:6} {layer.read / 1e6:9.1f} {line['router']:8.1f} {'  '.join(shares)}   {apart:.4f}", flush=True)
        lines.append(line)
    return lines


def sweep(layer: Layer) -> list[dict[str, Any]]:
    """Prints the best tiles of both kernels for few tokens, then of those for more, by the size of a block."""
    found: list[dict[str, Any]] = []

    def best(what: str, run: Any, cases: list[Any]) -> None:
        timed = []
        for case in cases:
            with contextlib.suppress(OutOfResources):
                timed.append((measure(lambda i, case=case: run(i, case), _COPIES, 3), case))
        timed.sort(key=lambda pair: pair[0])
        found.extend({"what": what, "us": seconds, "case": str(case)} for seconds, case in timed)
        print(what, *(f"{seconds:.1f} {case}" for seconds, case in timed[:4]), sep="\n    ", flush=True)

    layer.tokens(1)
    gates = [(2, 2048, 4), (4, 2048, 4), (4, 2048, 8), (8, 2048, 8), (4, 1024, 4)]
    best("few, gate_up", lambda i, case: layer.few(i, (case, (4, 1024, 4))), gates)
    downs = [(2, 1024, 2), (2, 1024, 4), (4, 1024, 4), (4, 1024, 8), (8, 1024, 8), (8, 256, 4)]
    best("few, down", lambda i, case: layer.few(i, ((4, 2048, 4), case)), downs)

    def blocks_of(count: int, size: int) -> None:
        layer.tokens(count)
        tiles = [many.Tile(*sizes) for sizes in TILES]
        best(f"{count} tokens, blocks of {size}: gate_up", lambda i, case: layer.many(i, size, (case, None)), tiles)
        best(f"{count} tokens, blocks of {size}: down", lambda i, case: layer.many(i, size, (None, case)), tiles)

    for count, size in ((8, 8), (32, 8), (128, 16), (128, 32)):
        blocks_of(count, size)
    return found


def main() -> None:
    """Prints one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model", default="qwen3-30b-a3b", choices=[name for name, shape in SHAPES.items() if shape.experts]
    )
    parser.add_argument("--tokens", type=int, nargs="*", default=list(TOKENS))
    parser.add_argument("--sweep", action="store_true")
    asked = parser.parse_args()
    layer = Layer(asked.model)
    lines = sweep(layer) if asked.sweep else table(layer, asked.tokens)
    if "OUT" in os.environ:
        Path(os.environ["OUT"], f"experts-{asked.model}{'-sweep' if asked.sweep else ''}.json").write_text(
            json.dumps(lines, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
