"""Pages in FP8: kernels round as the reference does, and attend to what is stored; on a GPU where there is one, in Triton's interpreter otherwise."""

import pytest
import torch

pytest.importorskip("triton")

from specbatch.engine.fp8.kv import SCALE, rounded
from specbatch.engine.fp8.w8a8 import FP8
from specbatch.engine.graphs.cascade import kernel, reference
from specbatch.engine.graphs.cascade.tiles import PrefixTiles, lines, most_tiles, plan_tiles
from specbatch.engine.graphs.describe.description import PLAIN, AttentionKind
from specbatch.engine.graphs.kernels.attention import attend_rows
from specbatch.engine.graphs.kernels.elementwise import rope_write
from specbatch.engine.graphs.kernels.over_pages import Launch
from specbatch.engine.graphs.kernels.prefill_attention import attend_packed
from specbatch.engine.graphs.kernels.rope_attention import rope_attend
from specbatch.engine.graphs.kv.paging import PAGE, TILE, Pages, Tiles
from specbatch.engine.graphs.reference import TorchOps

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
CLOSE = {torch.float32: 2e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}
LAYER, EPS = 1, 1e-6
WIDTH = 32  # of a head: enough for values to be taken two at a time

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _fresh_numbers():
    print("torch.manual_seed", torch.seed())  # noqa: T201 - shown where a test fails


def on(pages, device):
    """The same pages elsewhere, to be written apart from these."""
    kv = [[layer.to(device, copy=True) for layer in layers] for layers in (pages.keys, pages.values)]
    scales = [[layer.to(device, copy=True) for layer in layers] for layers in (pages.key_scales, pages.value_scales)]
    return Pages(*kv, pages.table.to(device), None, *scales)


def rows_of(lengths, kv_heads, head_dim, spread=8):
    """Keys and values of rows in scattered pages, of sizes 2^spread apart from token to token; NaN where no row has any. On the CPU."""
    held = [-(-length // PAGE) for length in lengths]
    table = torch.zeros(len(lengths) + 1, max(held) + 1, dtype=torch.int32)
    free = (torch.randperm(sum(held)) + 1).tolist()
    shape = sum(held) + 1, kv_heads, PAGE, head_dim
    stored = [[torch.full(shape, torch.nan).to(FP8) for _ in range(2)] for _ in range(2)]
    scales = [[torch.full(shape[:3], torch.nan).to(SCALE) for _ in range(2)] for _ in range(2)]
    for slot, (length, count) in enumerate(zip(lengths, held, strict=True)):
        for j in range(count):
            table[slot, j] = page = free.pop()
            inside = min(PAGE, length - j * PAGE)
            for kv, scale in zip(stored, scales, strict=True):
                size = (
                    torch.exp2(torch.randint(-spread, spread + 1, (kv_heads, inside, 1)).float())
                    if kv is stored[1]
                    else 1
                )
                heads = rounded(torch.randn(kv_heads, inside, head_dim) * size)
                kv[LAYER][page, :, :inside], scale[LAYER][page, :, :inside] = heads
    return Pages(*stored, table, None, *scales)


def near(ours, reference, dtype):
    """By the size of each query's output: values lie orders of magnitude apart."""
    assert ours.dtype == dtype
    size = reference.abs().amax(-1, keepdim=True)
    torch.testing.assert_close(ours.cpu().float() / size, reference / size, rtol=0, atol=CLOSE[dtype])


@pytest.mark.parametrize("splits", [1, 3])
@pytest.mark.parametrize(
    ("dtype", "kind"), [(torch.float32, PLAIN), (torch.bfloat16, PLAIN), (torch.float16, PLAIN), (torch.float32, AttentionKind(70, 5.0))], ids=str
)  # fmt: skip
def test_rows_attend_to_what_their_pages_stand_for(dtype, kind, splits):
    lengths = [5, 64, 65, 130, 200]
    pages, slots = rows_of(lengths, 2, WIDTH), torch.arange(len(lengths))
    q, first = torch.randn(len(lengths), 3, 4, WIDTH).to(dtype), torch.tensor(lengths) - 3
    given = q.to(DEVICE), on(pages, DEVICE), LAYER, slots.to(DEVICE), first.to(DEVICE), 0.25, kind
    expected = TorchOps().attend_rows(q.float(), pages, LAYER, slots, first, 0.25, kind)
    near(attend_rows(*given, Launch(4, 2, splits)), expected, dtype)


def new_tokens(lengths, n, heads, kv_heads, head_dim, dtype):
    """Queries, keys and values of rows' next n tokens before rotation, norms, and angles."""
    qkv = torch.randn(len(lengths) * n, heads + 2 * kv_heads, head_dim)
    qkv[:, heads:] *= torch.exp2(torch.randint(-12, 8, (len(qkv), 2 * kv_heads, 1)).float())
    qkv[:, heads:, : head_dim // 2] *= 2.0**-9  # some are subnormal beside the others
    norms = (0.5 + torch.rand(2, head_dim)).to(dtype)
    return qkv.flatten(1).to(dtype), *norms, torch.randn(max(lengths) + n, head_dim)


def written_alike(ours, theirs):
    """Values to the bit; keys but where a rounding of the rotation comes to lie on the other side of one to FP8."""
    ours = on(ours, "cpu")
    every = torch.arange(1, len(theirs.keys[LAYER]))
    (keys, values), (its, expected) = ours.read(LAYER, every, torch.float32), theirs.read(LAYER, every, torch.float32)
    assert torch.equal(values.nan_to_num(), expected.nan_to_num())
    assert torch.equal(values.isnan(), expected.isnan())
    size = its.abs().amax(-1, keepdim=True)
    torch.testing.assert_close(keys / size, its / size, rtol=1 / 8, atol=1e-2, equal_nan=True)
    assert ((keys != its) & ~its.isnan()).float().mean() < 0.002


@pytest.mark.parametrize(
    "kind", [PLAIN, AttentionKind(rotated=8), AttentionKind(interleaved=True)], ids=["plain", "a part", "pairs"]
)
@pytest.mark.parametrize("normed", [True, False])
def test_tokens_are_written_as_the_reference_rounds_them(normed, kind):
    lengths, n = [5, 62, 130], 4
    pages = rows_of([length + n for length in lengths], 2, 24)
    qkv, q_norm, k_norm, rope = new_tokens(lengths, n, 4, 2, 24, torch.float32)
    norms = (q_norm, k_norm) if normed else (None, None)
    slots = torch.arange(len(lengths)).repeat_interleave(n)
    positions = (torch.tensor(lengths)[:, None] + torch.arange(n)).flatten()
    ours = on(pages, DEVICE)
    moved = (None if norm is None else norm.to(DEVICE) for norm in norms)
    q = rope_write(
        qkv.to(DEVICE), *moved, EPS, rope.to(DEVICE), ours, LAYER, slots.to(DEVICE), positions.to(DEVICE), kind
    )
    expected = TorchOps().rope_write(qkv, *norms, EPS, rope, pages, LAYER, slots, positions, kind)
    torch.testing.assert_close(q.cpu(), expected, rtol=1e-5, atol=1e-5)
    written_alike(ours, pages)


@pytest.mark.parametrize(
    ("dtype", "splits", "normed"), [(torch.float32, 1, True), (torch.float32, 3, False), (torch.bfloat16, 2, True)]
)
def test_new_tokens_attend_to_each_other_as_they_are_stored(dtype, splits, normed):
    lengths, n = [1, 62, 130, 255], 4
    pages = rows_of([length + n for length in lengths], 2, WIDTH, spread=1)
    qkv, q_norm, k_norm, rope = new_tokens(lengths, n, 4, 2, WIDTH, dtype)
    norms = (q_norm, k_norm) if normed else (None, None)
    slots, first, ours = torch.arange(len(lengths)), torch.tensor(lengths), on(pages, DEVICE)
    moved = (None if norm is None else norm.to(DEVICE) for norm in norms)
    given = qkv.to(DEVICE), *moved, EPS, rope.to(DEVICE), ours, LAYER, slots.to(DEVICE), first.to(DEVICE), 0.25
    out = rope_attend(*given, PLAIN, Launch(4, 2, splits))
    where = slots.repeat_interleave(n), (first[:, None] + torch.arange(n)).flatten()
    q = TorchOps().rope_write(qkv, *norms, EPS, rope, pages, LAYER, *where)
    written_alike(ours, pages)
    expected = TorchOps().attend_rows(
        q.float().view(len(lengths), n, 4, WIDTH), on(ours, "cpu"), LAYER, slots, first, 0.25
    )
    near(out, expected.view(out.shape), dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_prompts_attend_to_what_their_pages_stand_for(dtype):
    stretches = [(0, 70), (62, 3), (130, 5)]
    pages, tiles, token = rows_of([start + count for start, count in stretches], 2, 16), [], 0
    for slot, (start, count) in enumerate(stretches):
        tiles += [[slot, token + i, start + i, min(TILE, count - i)] for i in range(0, count, TILE)]
        token += count
    q, packed = torch.randn(token, 4, 16).to(dtype), Tiles(torch.tensor(tiles, dtype=torch.int32))
    out = attend_packed(q.to(DEVICE), on(pages, DEVICE), LAYER, Tiles(packed.rows.to(DEVICE)), 0.25)
    near(out, TorchOps().attend_packed(q.float(), pages, LAYER, packed, 0.25), dtype)


def test_rows_that_share_pages_attend_to_what_these_stand_for():
    pages = rows_of([5 * PAGE + 9] * 4, 2, WIDTH)
    pages.table[:4, :4] = pages.table[0, :4]
    tiles, shared = lines(plan_tiles(pages.table[:4, :4].tolist(), most_tiles(4)), [0, 1, 2, 3], 4)
    q, slots, first = torch.randn(4, 2, 4, WIDTH), torch.arange(4), torch.full((4,), 5 * PAGE + 7)
    expected = TorchOps().attend_rows(q, pages, LAYER, slots, first, 0.25)
    near(
        reference.attend_cascade(q, pages, LAYER, slots, first, PrefixTiles(tiles, shared), 0.25, PLAIN),
        expected,
        q.dtype,
    )
    prefixes = PrefixTiles(tiles.to(DEVICE), shared.to(DEVICE))
    given = q.to(DEVICE), on(pages, DEVICE), LAYER, slots.to(DEVICE), first.to(DEVICE), prefixes, 0.25, PLAIN
    near(kernel.attend_cascade(*given, splits=2), expected, q.dtype)


@pytest.mark.parametrize("odd", [torch.nan, torch.inf, -torch.inf])
def test_a_number_that_is_not_finite_makes_nan_of_what_sees_it_and_of_nothing_else(odd):
    pages = rows_of([10, 10], 2, 16)
    qkv, _, _, rope = new_tokens([9, 9], 1, 4, 2, 16, torch.float32)
    qkv[0, 4 * 16 + 3] = odd  # of the first row's first kv head
    given = qkv.to(DEVICE), None, None, EPS, rope.to(DEVICE), on(pages, DEVICE), LAYER, torch.arange(2, device=DEVICE)
    out = rope_attend(*given, torch.full((2,), 9, device=DEVICE), 0.25).isnan().all(-1).cpu()
    assert out.tolist() == [[True, True, False, False], [False] * 4]
