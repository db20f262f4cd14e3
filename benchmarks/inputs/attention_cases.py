"""What attention is timed over: rows of random KV, in our pages and in one piece a row, and what is right for them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from specbatch.engine.fp8.kv import head_bytes, rounded
from specbatch.engine.graphs.kv.paging import PAGE, TILE, Pages, Tiles
from specbatch.engine.graphs.reference import TorchOps

WIDTH = 64  # pages of a table's line: rows of up to 4096 positions
HEAD_DIM = 128
SCALE = HEAD_DIM**-0.5
SHAPES = {"8B": (32, 8), "1.7B": (16, 8)}  # heads, kv_heads
COLD = 120e6  # bytes of KV to go round, more than the L2 holds


@dataclass(frozen=True)
class Case:
    """Rows with KV in pages, and the same KV in one piece.

    q: [T, heads, D]
    tiles: of prompts; None: `new` tokens of each row
    dense: keys and values of each layer [B, L, kv_heads, D]
    """

    q: Tensor
    pages: Pages
    lengths: Tensor  # int64 [B], with the new tokens
    new: int
    tiles: Tiles | None
    dense: list[tuple[Tensor, Tensor]]

    @property
    def first(self) -> Tensor:
        """Position of each row's first new token."""
        return self.lengths - self.new

    @property
    def slots(self) -> Tensor:
        """Row b is in slot b."""
        return torch.arange(len(self.lengths), device=self.q.device)

    @property
    def layers(self) -> int:
        """How many there are to rotate over."""
        return len(self.pages.keys)


def build(shape: str, rows: int, new: int, length: int, device: str = "cuda") -> Case:
    """Random rows; several are between 3/4 and 5/4 of `length` long, prompts (new == length) all the same."""
    heads, kv_heads = SHAPES[shape]
    prompts = new == length
    lengths = torch.full((rows,), length)
    if rows > 1 and not prompts:
        lengths = (length * (0.75 + 0.5 * torch.rand(rows))).long()
    held = ((lengths + PAGE - 1) // PAGE).tolist()
    table = torch.zeros(rows + 1, max(WIDTH, *held), dtype=torch.int32)
    for slot, numbers in enumerate((torch.randperm(sum(held)) + 1).split(held)):
        table[slot, : len(numbers)] = numbers
    layers = min(160, max(4, math.ceil(COLD / kv_bytes(kv_heads, lengths))))
    options = {"device": device, "dtype": torch.bfloat16}
    kv = [[torch.randn(1 + sum(held), kv_heads, PAGE, HEAD_DIM, **options) for _ in range(layers)] for _ in range(2)]
    pages = Pages(kv[0], kv[1], table.to(device))
    taken = pages.table[:rows, : max(held)].long()
    dense = [tuple(x[taken].transpose(2, 3).flatten(1, 2) for x in layer) for layer in zip(*kv, strict=True)]
    tiles = None
    if prompts:
        cut = [(b, b * new + i, i, min(TILE, new - i)) for b in range(rows) for i in range(0, new, TILE)]
        tiles = Tiles(torch.tensor(cut, dtype=torch.int32, device=device))
    q = torch.randn(rows * new, heads, HEAD_DIM, **options)
    return Case(q, pages, lengths.to(device), new, tiles, dense)


def error(case: Case, out: Tensor, layer: int) -> float:
    """Largest distance of the outputs of the first, the middle and the last row from the reference's."""
    rows = len(case.lengths)
    some = torch.tensor(sorted({0, rows // 2, rows - 1}), device=out.device)
    table = case.pages.table[some].long()
    keys, values = (x.flatten(0, 1).float() for x in case.pages.read(layer, table, torch.float32))
    own = Pages([keys], [values], torch.arange(table.numel(), device=out.device).view(table.shape))
    q, out = (x.reshape(rows, case.new, *x.shape[-2:])[some].float() for x in (case.q, out))
    expected = TorchOps().attend_rows(q, own, 0, torch.arange(len(some), device=out.device), case.first[some], SCALE)
    return (out - expected).abs().max().item()


def kv_bytes(kv_heads: int, lengths: Tensor, dtype: torch.dtype = torch.bfloat16) -> int:
    """KV of a layer."""
    return 2 * int(lengths.sum()) * kv_heads * head_bytes(HEAD_DIM, dtype)


def in_fp8(case: Case) -> Case:
    """The same with its pages in FP8, and nothing in one piece."""
    kept = [[rounded(layer) for layer in layers] for layers in (case.pages.keys, case.pages.values)]
    numbers, scales = ([[layer[part] for layer in layers] for layers in kept] for part in range(2))
    return replace(case, pages=Pages(*numbers, case.pages.table, None, *scales), dense=[])
