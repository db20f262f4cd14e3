"""Rotation, write and attention in one kernel: as the reference does it in two steps."""

import pytest
import torch

triton = pytest.importorskip("triton")

from specbatch.engine.gpu.kernels.attention import Launch  # noqa: E402 - after the check that Triton is there
from specbatch.engine.gpu.kernels.rope_attention import rope_attend_rows  # noqa: E402
from specbatch.engine.gpu.paging import PAGE, Pages  # noqa: E402
from specbatch.engine.gpu.reference import TorchOps  # noqa: E402

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 0.04}


def case(first, n, groups, head_dim, dtype, kv_heads=2, normed=True):
    """Rows with their first new token at the given positions, over scattered pages whose other positions are NaN."""
    generator = torch.Generator().manual_seed(n * 100 + groups)

    def normal(*shape):
        return torch.randn(*shape, generator=generator).to(dtype).to(DEVICE)

    rows, columns = len(first), 6
    table = torch.randperm(rows * columns, generator=generator).view(rows, columns).int() + 1
    shape = (rows * columns + 1, kv_heads, PAGE, head_dim)
    pages = Pages([torch.full(shape, torch.nan, dtype=dtype, device=DEVICE)], [torch.full(shape, torch.nan, dtype=dtype, device=DEVICE)], table.to(DEVICE))  # fmt: skip
    for row, start in enumerate(first):
        for position in range(max(start, 0)):
            page = int(table[row, position // PAGE])
            pages.keys[0][page, :, position % PAGE] = normal(kv_heads, head_dim)
            pages.values[0][page, :, position % PAGE] = normal(kv_heads, head_dim)
    angles = torch.rand(400, head_dim // 2, generator=generator) * 6
    rope = torch.cat([angles.cos(), angles.sin()], dim=-1).to(DEVICE)
    qkv = normal(rows * n, (groups + 2) * kv_heads * head_dim)
    norms = (normal(head_dim), normal(head_dim)) if normed else (None, None)
    slots = torch.arange(rows, device=DEVICE)
    return qkv, norms, rope, pages, slots, torch.tensor(first, device=DEVICE)


def copied(pages):
    return Pages([key.clone() for key in pages.keys], [value.clone() for value in pages.values], pages.table)


@pytest.mark.parametrize("splits", [1, 3])
@pytest.mark.parametrize(
    ("n", "groups", "head_dim", "dtype", "normed"),
    [
        (1, 2, 128, torch.float32, True),
        (2, 2, 64, torch.float32, True),
        (6, 4, 128, torch.bfloat16, True),
        (9, 1, 8, torch.float32, False),
        (4, 3, 80, torch.bfloat16, False),
    ],
)
def test_one_kernel_does_what_the_reference_does_in_two_steps(n, groups, head_dim, dtype, normed, splits):
    first = [0, 1, PAGE - 1, PAGE, 5 * PAGE + 7 - n, *([-1] if n == 2 else [])]
    qkv, norms, rope, pages, slots, at = case(first, n, groups, head_dim, dtype, normed=normed)
    expected_pages, scale = copied(pages), head_dim**-0.5
    expected = TorchOps().rope_attend_rows(qkv, *norms, 1e-6, rope, expected_pages, 0, slots, at, scale)
    actual = rope_attend_rows(
        qkv, *norms, 1e-6, rope, pages, 0, slots, at, scale, Launch(warps=4, stages=2, splits=splits)
    )
    live = torch.tensor([start + i >= 0 for start in first for i in range(n)], device=DEVICE)
    assert bool(actual.isfinite().all())
    torch.testing.assert_close(actual[live], expected[live], rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
    for row, start in enumerate(first):
        for position in range(max(start, 0), start + n):
            page = int(pages.table[row, position // PAGE])
            for mine, theirs in ((pages.keys[0], expected_pages.keys[0]), (pages.values[0], expected_pages.values[0])):
                written, wanted = mine[page, :, position % PAGE], theirs[page, :, position % PAGE]
                torch.testing.assert_close(written, wanted, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


def test_nothing_but_the_new_positions_is_written():
    qkv, norms, rope, pages, slots, at = case([3, 70], 3, 2, 16, torch.float32)
    before = copied(pages)
    rope_attend_rows(qkv, *norms, 1e-6, rope, pages, 0, slots, at, 0.25)
    changed = (pages.keys[0] != before.keys[0]) & ~(pages.keys[0].isnan() & before.keys[0].isnan())
    assert int(changed.any(-1).sum()) == 2 * 3 * 2  # rows x tokens x kv heads
