"""Rotation, write and attention in one kernel against the three of the reference: on a GPU where there is one, in the interpreter otherwise."""

import pytest
import torch

pytest.importorskip("triton")

from specbatch.engine.graphs.describe.description import PLAIN, AttentionKind
from specbatch.engine.graphs.kernels.attention import arrivals_of
from specbatch.engine.graphs.kernels.over_pages import Launch
from specbatch.engine.graphs.kernels.rope_attention import TILE, rope_attend, tile_of
from specbatch.engine.graphs.kv.paging import PAGE, Pages
from specbatch.engine.graphs.reference import TorchOps

CLOSE = {torch.float32: 2e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}
LAYER, EPS = 1, 1e-6


@pytest.fixture(scope="module")
def device():
    return "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture(autouse=True)
def _fresh_numbers():
    print("torch.manual_seed", torch.seed())  # noqa: T201 - shown where a test fails


class Rows:
    """Rows with random KV in scattered pages of shuffled slots, and their n new tokens; all that no row holds is NaN."""

    def __init__(self, lengths, n, heads, kv_heads, head_dim, device, dtype=torch.float32, normed=True, kind=PLAIN):
        """lengths: with the new tokens"""
        self.kind = kind
        self.n, self.device, self.dtype = n, device, dtype
        counts = [-(-length // PAGE) for length in lengths]
        free = (torch.randperm(sum(counts)) + 1).tolist()
        slots = torch.randperm(len(lengths) + 2)[: len(lengths)]
        self.table = torch.zeros(len(lengths) + 3, max(counts) + 1, dtype=torch.int32)
        self.kv = torch.full((2, 2, sum(counts) + 1, kv_heads, PAGE, head_dim), float("nan")).to(dtype)
        for slot, length, count in zip(slots.tolist(), lengths, counts, strict=True):
            for j in range(count):
                self.table[slot, j] = page = free.pop()
                held = max(0, min(PAGE, length - n - j * PAGE))
                self.kv[:, :, page, :, :held] = torch.randn(2, 2, kv_heads, held, head_dim).to(dtype)
        self.slots, self.first = slots.to(device), torch.tensor(lengths, device=device) - n
        width = (heads + 2 * kv_heads) * head_dim
        self.qkv = torch.randn(len(lengths) * n, width, device=device).to(dtype)
        norms = (0.5 + torch.rand(2, head_dim, device=device)).to(dtype)
        self.q_norm, self.k_norm = (norms[0], norms[1]) if normed else (None, None)
        self.rope = torch.randn(1000, head_dim, device=device)
        turned = kind.rotated // 2 or head_dim // 2
        self.rope[:, turned : head_dim // 2], self.rope[:, head_dim // 2 + turned :] = 1.0, 0.0
        self.scale = head_dim**-0.5

    def pages(self, device, dtype):
        return Pages(*(list(part.to(device, dtype, copy=True).unbind(0)) for part in self.kv), self.table.to(device))

    def in_one(self, splits=None):
        pages = self.pages(self.device, self.dtype)
        launch = None if splits is None else Launch(4, 2, splits)
        where = pages, LAYER, self.slots, self.first, self.scale, self.kind
        return rope_attend(self.qkv, self.q_norm, self.k_norm, EPS, self.rope, *where, launch), pages

    def one_by_one(self):
        """In float32 on the CPU; but queries and keys are rounded when they are rotated."""
        ops, pages, slots = TorchOps(), self.pages("cpu", self.dtype), self.slots.cpu()
        positions = (self.first.cpu()[:, None] + torch.arange(self.n)).reshape(-1)
        norms = (None if norm is None else norm.cpu() for norm in (self.q_norm, self.k_norm))
        where = slots.repeat_interleave(self.n), positions
        q = ops.rope_write(self.qkv.cpu(), *norms, EPS, self.rope.cpu(), pages, LAYER, *where, self.kind)
        wide = Pages(*([part.float().nan_to_num(0.0) for part in kv] for kv in (pages.keys, pages.values)), self.table)
        rows = q.float().view(len(slots), self.n, *q.shape[1:])
        return ops.attend_rows(rows, wide, LAYER, slots, self.first.cpu(), self.scale, self.kind).view(q.shape), pages


def check(rows, splits=None):
    out, pages = rows.in_one(splits)
    expected, expected_pages = rows.one_by_one()
    near = {"atol": CLOSE[rows.dtype], "rtol": CLOSE[rows.dtype]}
    there = (rows.first.cpu()[:, None] + torch.arange(rows.n) >= 0).reshape(-1)
    assert out.dtype == rows.dtype
    assert out.isfinite().all()
    torch.testing.assert_close(out.cpu().float()[there], expected[there], **near)
    for kv, wanted in ((pages.keys, expected_pages.keys), (pages.values, expected_pages.values)):
        for layer in range(2):  # page 0 is the padding page
            torch.testing.assert_close(kv[layer].cpu()[1:], wanted[layer][1:], equal_nan=True, **near)


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, 4, 5, 8, *(pytest.param(n, marks=pytest.mark.slow) for n in (2, 3, 6, 7))])
def test_rows_of_any_number_of_new_tokens(device, n):
    check(Rows([n, n + 1, 64, 70], n, 4, 2, 8, device))


@pytest.mark.slow
@pytest.mark.parametrize("splits", [1, 2, 3, 7])
def test_rows_shared_out_over_any_number_of_programs(device, splits):
    check(Rows([3, 64, 65, 128, 129, 448], 3, 2, 1, 8, device), splits)


@pytest.mark.slow
def test_new_tokens_that_begin_in_one_page_and_end_in_the_next_of_another_program(device):
    check(Rows([66, 258, 259], 5, 4, 2, 16, device), splits=3)


def test_a_token_before_the_row_begins_is_written_nowhere(device):
    """A drafter takes a row's last two tokens: of a row of one token the first is not there."""
    check(Rows([1, 2, 130], 2, 2, 1, 8, device))


@pytest.mark.parametrize(("heads", "kv_heads"), [(1, 1), (4, 2), (3, 1)])
@pytest.mark.parametrize("head_dim", [8, *(pytest.param(width, marks=pytest.mark.slow) for width in (64, 80, 128))])
@pytest.mark.parametrize("normed", [True, False])
def test_rows_of_any_heads(device, heads, kv_heads, head_dim, normed):
    check(Rows([3, 150], 3, heads, kv_heads, head_dim, device, normed=normed))


KINDS = {
    "neighbours": AttentionKind(interleaved=True),
    "a part": AttentionKind(rotated=8),
    "neighbours of a part": AttentionKind(rotated=8, interleaved=True),
    "a cap": AttentionKind(softcap=5.0),
    "a window": AttentionKind(window=70),
    "a window of a page": AttentionKind(window=64),
    "a window of few, and a cap": AttentionKind(window=3, softcap=2.0),
}


@pytest.mark.parametrize("splits", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.slow
def test_rows_of_other_kinds_of_attention(device, kind, splits):
    lengths = [5, 64, 66, 130, 259, 448]
    check(Rows(lengths, 5, 4, 2, 24, device, normed=splits == 1, kind=KINDS[kind]), splits)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("splits", [1, 3])
def test_rows_of_16_bits(device, dtype, splits):
    check(Rows([6, 64, 200], 6, 4, 1, 128, device, dtype), splits)


def test_shared_out_rows_are_the_same_to_the_bit_each_time(device):
    count, times = (16, 300) if device == "cuda" else (2, 1)  # on a GPU, whichever program comes last
    rows = Rows((torch.randint(2, 400, (count,)) + 5).tolist(), 5, 4, 1, 64, device, torch.float16)
    once = rows.in_one(splits=7)[0]
    for _ in range(times):
        assert torch.equal(once, rows.in_one(splits=7)[0])
    assert not arrivals_of(rows.qkv.device).any()  # what the next kernel counts from


def test_a_tile_holds_the_queries_of_a_kv_head():
    assert [tile_of(n, 32, 8) for n in (1, 4, 5, 8, 9)] == [16, 16, 32, 32, 64]
    assert TILE == 32
