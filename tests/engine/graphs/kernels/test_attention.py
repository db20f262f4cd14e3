"""The attention kernels against the reference: on a GPU where there is one, in Triton's interpreter otherwise."""

import pytest
import torch

pytest.importorskip("triton")

from specbatch.engine.graphs.describe.description import PLAIN, AttentionKind
from specbatch.engine.graphs.kernels.attention import arrivals_of, attend_rows
from specbatch.engine.graphs.kernels.over_pages import Launch
from specbatch.engine.graphs.kernels.prefill_attention import attend_packed
from specbatch.engine.graphs.kv.paging import PAGE, TILE, Pages, Tiles
from specbatch.engine.graphs.reference import TorchOps

CLOSE = {torch.float32: 2e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}
LAYER = 1


@pytest.fixture(scope="module")
def device():
    return "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture(autouse=True)
def _fresh_numbers():
    print("torch.manual_seed", torch.seed())  # noqa: T201 - shown where a test fails


def paged(lengths, kv_heads, head_dim, dtype, device, width=None):
    """Random KV in scattered pages of shuffled slots; all that no row holds is NaN."""
    width = width or max(1, -(-max(lengths) // PAGE))
    slots = torch.randperm(len(lengths) + 2)[: len(lengths)]
    count = 2 + sum(-(-max(length, 0) // PAGE) for length in lengths)
    free = (torch.randperm(count - 1) + 1).tolist()
    table = torch.zeros(len(lengths) + 3, width, dtype=torch.int32)
    keys, values = torch.full((2, 2, count, kv_heads, PAGE, head_dim), float("nan")).unbind(0)
    for slot, length in zip(slots.tolist(), lengths, strict=True):
        for j in range(-(-max(length, 0) // PAGE)):
            table[slot, j] = page = free.pop()
            held = min(PAGE, length - j * PAGE)
            keys[LAYER, page, :, :held] = torch.randn(kv_heads, held, head_dim)
            values[LAYER, page, :, :held] = torch.randn(kv_heads, held, head_dim)
    layers = [list(kv.to(device, dtype).unbind(0)) for kv in (keys, values)]
    return Pages(*layers, table.to(device)), slots.to(device)


def wide(pages):
    """In float32 on the CPU, and without NaN: the reference masks scores, not values."""
    layers = [[kv.cpu().float().nan_to_num(0.0) for kv in layers] for layers in (pages.keys, pages.values)]
    return Pages(*layers, pages.table.cpu())


def check_rows(lengths, n, heads, kv_heads, head_dim, device, dtype=torch.float32, splits=None, width=None, kind=PLAIN):
    """lengths: of rows with their n new tokens, so that the first query's position is length - n"""
    pages, slots = paged(lengths, kv_heads, head_dim, dtype, device, width)
    q = torch.randn(len(lengths), n, heads, head_dim, device=device).to(dtype)
    first = torch.tensor(lengths, device=device) - n
    launch = None if splits is None else Launch(4, 2, splits)
    out = attend_rows(q, pages, LAYER, slots, first, head_dim**-0.5, kind, launch)
    assert out.dtype == dtype
    assert out.isfinite().all()
    held = first.cpu() + n > 0  # the others have no position to attend to: anything finite
    expected = TorchOps().attend_rows(
        q.cpu().float(), wide(pages), LAYER, slots.cpu(), first.cpu(), head_dim**-0.5, kind
    )
    torch.testing.assert_close(out.cpu().float()[held], expected[held], atol=CLOSE[dtype], rtol=CLOSE[dtype])


def check_packed(stretches, heads, kv_heads, head_dim, device, dtype=torch.float32, kind=PLAIN):
    """stretches: first position and tokens of each row's"""
    pages, slots = paged([start + count for start, count in stretches], kv_heads, head_dim, dtype, device)
    tiles, token = [[0, 0, 0, 0]], 0
    for slot, (start, count) in zip(slots.tolist(), stretches, strict=True):
        tiles += [[slot, token + i, start + i, min(TILE, count - i)] for i in range(0, count, TILE)]
        token += count
    tiles = Tiles(torch.tensor([*tiles, [0, 0, 0, 0]], dtype=torch.int32, device=device))
    q = torch.randn(token + 3, heads, head_dim, device=device).to(dtype)  # three tokens are padding
    out = attend_packed(q, pages, LAYER, tiles, head_dim**-0.5, kind)
    assert out.dtype == dtype
    assert out.isfinite().all()
    expected = TorchOps().attend_packed(
        q.cpu().float(), wide(pages), LAYER, Tiles(tiles.rows.cpu()), head_dim**-0.5, kind
    )
    torch.testing.assert_close(out.cpu().float(), expected, atol=CLOSE[dtype], rtol=CLOSE[dtype])


@pytest.mark.parametrize("n", range(1, 10))
def test_rows_of_any_number_of_new_tokens(device, n):
    check_rows([n, n - 1 or 1, 64, 70], n, 4, 2, 8, device)


@pytest.mark.parametrize("splits", [1, 2, 3, 7])
def test_rows_shared_out_over_any_number_of_programs(device, splits):
    check_rows([3, 64, 65, 128, 129, 448], 3, 2, 1, 8, device, splits=splits)


def test_parts_that_an_early_query_does_not_see(device):
    check_rows([65, 66, 129], 5, 4, 2, 16, device, splits=3)  # the last page begins behind the first queries


@pytest.mark.parametrize("splits", [None, 1, 4])
def test_rows_that_hold_nothing_are_finite(device, splits):
    check_rows([0, 1, 0, 130], 1, 2, 2, 8, device, splits=splits)
    check_rows([1, 2, 130], 2, 2, 1, 8, device, splits=splits)  # the first of these begins at -1


def test_shared_out_rows_are_the_same_to_the_bit_each_time(device):
    rows, times = (16, 300) if device == "cuda" else (2, 1)  # on a GPU, whichever program comes last
    lengths = (torch.randint(2, 400, (rows,)) + 5).tolist()
    pages, slots = paged(lengths, 1, 64, torch.float16, device)
    q = torch.randn(rows, 5, 4, 64, device=device, dtype=torch.float16)
    first = torch.tensor(lengths, device=device) - 5
    once = attend_rows(q, pages, LAYER, slots, first, 0.1, PLAIN, Launch(4, 2, 7))
    for _ in range(times):
        assert torch.equal(once, attend_rows(q, pages, LAYER, slots, first, 0.1, PLAIN, Launch(4, 2, 7)))
    assert not arrivals_of(q.device).any()  # what the next kernel counts from


@pytest.mark.parametrize(("heads", "kv_heads"), [(1, 1), (4, 2), (3, 1), (4, 1)])
@pytest.mark.parametrize("head_dim", [8, 80, *(pytest.param(width, marks=pytest.mark.slow) for width in (64, 128))])
def test_rows_of_any_heads(device, heads, kv_heads, head_dim):
    check_rows([3, 150], 3, heads, kv_heads, head_dim, device, width=5)


KINDS = [
    AttentionKind(softcap=5.0),
    AttentionKind(window=70),
    AttentionKind(window=64),
    AttentionKind(window=3, softcap=2.0),
]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_rows_of_other_kinds_of_attention(device, kind):
    for splits in (1, 3):
        check_rows([9, 64, 66, 130, 259, 448], 9, 4, 1, 8, device, splits=splits, kind=kind)


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.slow
def test_prompts_of_other_kinds_of_attention(device, kind):
    check_packed([(0, 200), (62, 3), (63, 70), (130, 5), (300, 64)], 4, 2, 8, device, kind=kind)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("splits", [1, 3])
def test_rows_of_16_bits(device, dtype, splits):
    check_rows([6, 64, 200], 6, 4, 1, 128, device, dtype=dtype, splits=splits)


def test_queries_in_the_midst_of_a_wider_tensor(device):
    pages, slots = paged([100, 40], 2, 16, torch.float32, device)
    qkv = torch.randn(2, 3, 8, 16, device=device)
    first = torch.tensor([97, 37], device=device)
    out = attend_rows(qkv[:, :, 2:6], pages, LAYER, slots, first, 0.25)
    torch.testing.assert_close(out, attend_rows(qkv[:, :, 2:6].contiguous(), pages, LAYER, slots, first, 0.25))


@pytest.mark.slow
@pytest.mark.parametrize(("heads", "kv_heads", "head_dim"), [(2, 1, 8), (2, 2, 64), (2, 1, 80), (1, 1, 128)])
def test_prompts_after_what_their_rows_hold(device, heads, kv_heads, head_dim):
    check_packed([(0, 70), (62, 3), (63, 2), (130, 5)], heads, kv_heads, head_dim, device)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 1), (3, 3)])
def test_prompts_of_16_bits(device, dtype, heads, kv_heads):
    check_packed([(0, 130), (100, 30)], heads, kv_heads, 64, device, dtype)
