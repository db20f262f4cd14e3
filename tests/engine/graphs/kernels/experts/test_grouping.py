"""Pairs of tokens and experts, sorted by expert."""

import pytest
import torch

pytest.importorskip("triton")

from specbatch.engine.graphs.kernels.experts.grouping import group
from tests.engine.graphs.kernels.test_elementwise import DEVICE


@pytest.mark.slow
@pytest.mark.parametrize("size", [8, 16])
@pytest.mark.parametrize(("tokens", "each", "count"), [(1, 2, 4), (70, 3, 5), (20, 2, 33), (3, 1, 2)])
def test_blocks_hold_every_pair_of_an_expert_once_and_no_filler(tokens, each, count, size):
    generator = torch.Generator().manual_seed(tokens)
    experts = torch.randint(0, count + 1, (tokens, each), generator=generator, dtype=torch.int32)
    found = group(experts.to(DEVICE), count, size)
    order, blocks = found.order.tolist(), [block for block in found.blocks.tolist() if block[1] < block[2]]
    pairs = experts.view(-1).tolist()
    placed = [(expert, order[at]) for expert, first, end in blocks for at in range(first, end)]
    assert placed == sorted((expert, pair) for pair, expert in enumerate(pairs) if expert < count)
    assert all(end - first <= size for _, first, end in blocks)
