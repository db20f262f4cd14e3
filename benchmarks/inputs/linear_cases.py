"""The linears of Qwen3 8B, 1.7B and 0.6B, with so many copies of their weights that no cache serves them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from specbatch.engine.graphs.kernels import activations, elementwise
from specbatch.engine.graphs.kernels.linears import linear
from specbatch.engine.graphs.kernels.linears.linear_configs import DOT_TOKENS, Config

COLD = 256 << 20  # bytes of weights to go round, several times the L2
EPS = 1e-6
SHAPES = [
    ("8B", 4096, 4096, 12288, 6144),
    ("1.7B", 2048, 2048, 6144, 4096),
    ("0.6B", 1024, 2048, 3072, 4096),
]  # hidden size, that of all heads, intermediate size, queries with keys and values
VOCABULARY = 151936
Call = Callable[[int], Any]  # with the number of the copy of the weights to use


@dataclass(frozen=True, slots=True)
class Shape:
    """A linear of a model: weights [outs, ins], and the op that it is part of."""

    name: str
    op: str
    outs: int
    ins: int

    @property
    def bytes(self) -> int:
        """Of the weights."""
        return 2 * self.outs * self.ins


class Work:
    """A shape's weights, so many copies that caches do not help, and what goes with them."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.copies = math.ceil(COLD / shape.bytes)
        self.weights = torch.empty(self.copies, shape.outs, shape.ins, device="cuda", dtype=torch.bfloat16)
        self.weights.normal_(std=shape.ins**-0.5)
        self.norm = torch.rand(shape.ins, device="cuda").bfloat16()

    def tokens(self, count: int) -> None:
        """Draws `count` tokens' inputs."""
        self.x = torch.randn(count, self.shape.ins, device="cuda").bfloat16()
        if self.shape.op != "linear_add":  # what a linear before would hand on, in stretches of 16 inputs
            block_t = next((size for size in DOT_TOKENS if count <= size), count)
            squares = self.x.float().square().view(count, -1, 16).sum(-1)
            self.ahead = self.x * self.norm, F.pad(squares.t(), (0, block_t - count)).contiguous()
        self.residual = torch.randn(count, self.shape.outs, device="cuda").bfloat16()

    def fused(self, config: Config | None = None) -> Call:
        """The op in one kernel: of several tokens, after a linear that hands on the norm."""
        alone = len(self.x) == 1 if config is None else config.fma
        before = (self.x, self.norm) if alone else self.ahead
        if self.shape.op == "norm_linear":
            norm_linear = linear.norm_linear if alone else linear.ahead_linear
            return lambda i: norm_linear(*before, EPS, self.weights[i], config=config)
        if self.shape.op == "norm_gated":
            norm_gated = linear.norm_gated if alone else linear.ahead_gated
            return lambda i: norm_gated(*before, EPS, self.weights[i], config=config)
        return lambda i: linear.linear_add(self.x, self.weights[i], self.residual, config=config)

    def bare(self, config: Config | None = None) -> Call:
        """The op in one kernel, of inputs normed already."""
        if self.shape.op == "linear_add":
            return self.fused(config)
        op = linear.linear if self.shape.op == "norm_linear" else linear.gated
        return lambda i: op(self.x, self.weights[i], config=config)

    def normed_before(self) -> Call:
        """A norm, and then ours: for as many tokens that norming in every program costs too much."""
        if self.shape.op == "linear_add":
            return self.fused()
        op = linear.linear if self.shape.op == "norm_linear" else linear.gated
        return lambda i: op(self._normed(), self.weights[i])

    def separate(self) -> Call:
        """A norm, cuBLAS, and a gate."""
        if self.shape.op == "norm_linear":
            return lambda i: F.linear(self._normed(), self.weights[i])
        if self.shape.op == "norm_gated":
            return lambda i: activations.gate(F.linear(self._normed(), self.weights[i]))
        return lambda i: torch.addmm(self.residual, self.x, self.weights[i].t())

    def _normed(self) -> Tensor:
        return elementwise.rms_norm(self.x, self.norm, EPS)


def shapes(models: list[str]) -> list[Shape]:
    """All linears of these models."""
    found = []
    for name, hidden, heads, inner, qkv in SHAPES:
        if name in models:
            found += [
                Shape(f"{name} qkv", "norm_linear", qkv, hidden),
                Shape(f"{name} o", "linear_add", hidden, heads),
                Shape(f"{name} gate_up", "norm_gated", 2 * inner, hidden),
                Shape(f"{name} down", "linear_add", hidden, inner),
                Shape(f"{name} head", "norm_linear", VOCABULARY, hidden),
            ]
    return found
