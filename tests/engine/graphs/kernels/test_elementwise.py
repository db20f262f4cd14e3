"""The kernels between the linears against their reference in PyTorch."""

import pytest
import torch

pytest.importorskip("triton")

from specbatch.engine.graphs.describe.description import PLAIN, AttentionKind
from specbatch.engine.graphs.kernels.elementwise import rms_norm, rope_write
from specbatch.engine.graphs.kv.paging import PAGE, Pages
from specbatch.engine.graphs.reference import TorchOps

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def random(*shape, dtype=torch.float32, seed=0):
    made = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return made.to(DEVICE, dtype)


def assert_equal_but_for_a_rounding(ours, theirs):
    """Sums in another order move a value by float32's last bits, and so at times to the next number of its dtype."""
    assert ours.dtype == theirs.dtype
    assert ours.shape == theirs.shape
    ulp = torch.finfo(ours.dtype).eps
    torch.testing.assert_close(ours, theirs, rtol=4 * ulp, atol=4 * ulp)
    exact = DEVICE == "cuda" or ours.dtype == torch.float16  # Triton's interpreter cuts to bfloat16 where a GPU rounds
    if exact and ours.dtype != torch.float32 and ours.numel():
        assert (ours != theirs).float().mean() < 0.01


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 32), (17, 8), (5, 576), (40, 80), (3, 3072), (2, 3, 128), (0, 64)])
def test_rms_norm_is_the_references(shape, dtype):
    x, weight = random(*shape, dtype=dtype) * 3, random(shape[-1], dtype=dtype, seed=1)
    assert_equal_but_for_a_rounding(rms_norm(x, weight, 1e-6), TorchOps().rms_norm(x, weight, 1e-6))


def test_rms_norm_of_columns_of_a_wider_tensor():
    wide, weight = random(20, 96), random(32, seed=1)
    x = wide[:, 32:64]
    assert_equal_but_for_a_rounding(rms_norm(x, weight, 1e-5), TorchOps().rms_norm(x, weight, 1e-5))
    x = wide.T[:32]
    weight = random(20, seed=2)
    assert_equal_but_for_a_rounding(rms_norm(x, weight, 1e-5), TorchOps().rms_norm(x, weight, 1e-5))


def both_ways(count, heads, kv_heads, head_dim, dtype, *, normed, positions=None, kind=PLAIN):
    """Queries, keys' pages and values' pages: ours and the reference's, on rows whose pages lie scattered."""
    slots, columns = 5, 3
    table = torch.zeros(slots + 1, columns, dtype=torch.int32)
    table[:slots] = 1 + torch.randperm(slots * columns, generator=torch.Generator().manual_seed(3)).view(slots, columns)
    if positions is None:
        # no two tokens in one place: which of them stayed would be chance
        places = torch.randperm(slots * columns * PAGE, generator=torch.Generator().manual_seed(4))[:count]
        slot, positions = places // (columns * PAGE), places % (columns * PAGE)
    else:
        slot, positions = torch.arange(count) % slots, torch.tensor(positions)
    rope = random(
        columns * PAGE - 20, head_dim, seed=5
    )  # shorter than the pages: the last positions take its last line
    unturned = kind.rotated // 2 or head_dim // 2
    rope[:, unturned : head_dim // 2], rope[:, head_dim // 2 + unturned :] = 1.0, 0.0
    qkv = random(count, (heads + 2 * kv_heads) * head_dim, dtype=dtype)
    norms = [1 + 0.2 * random(head_dim, dtype=dtype, seed=seed) if normed else None for seed in (6, 7)]
    outcomes = []
    for way in (rope_write, TorchOps().rope_write):
        keys, values = (
            [random(slots * columns + 1, kv_heads, PAGE, head_dim, dtype=dtype, seed=8 + layer) for layer in range(2)]
            for _ in range(2)
        )
        pages = Pages(keys, values, table.to(DEVICE))
        q = way(qkv, *norms, 1e-6, rope, pages, 1, slot.to(DEVICE), positions.to(DEVICE), kind)
        outcomes.append((q, keys, values))
    return outcomes


@pytest.mark.slow
@pytest.mark.parametrize("normed", [True, False])
@pytest.mark.parametrize(
    ("count", "heads", "kv_heads", "head_dim", "dtype"),
    [
        (1, 4, 2, 8, torch.bfloat16),
        (2, 16, 8, 128, torch.bfloat16),
        (3, 6, 2, 16, torch.float32),
        (17, 9, 3, 64, torch.float16),  # more than 16 tokens take more heads together
        (17, 3, 1, 80, torch.float32),
        (17, 4, 4, 96, torch.bfloat16),
        (0, 4, 2, 8, torch.float32),
    ],
)
def test_rope_write_is_the_references(count, heads, kv_heads, head_dim, dtype, normed):
    ours, theirs = both_ways(count, heads, kv_heads, head_dim, dtype, normed=normed)
    assert_equal_but_for_a_rounding(ours[0], theirs[0]) if count else None
    for layer in range(2):
        assert_equal_but_for_a_rounding(ours[1][layer], theirs[1][layer])
        assert torch.equal(ours[2][layer], theirs[2][layer])


KINDS = [AttentionKind(interleaved=True), AttentionKind(rotated=8), AttentionKind(rotated=8, interleaved=True)]


@pytest.mark.parametrize("normed", [True, False])
@pytest.mark.parametrize("kind", KINDS, ids=["neighbours", "part", "neighbours of a part"])
def test_other_pairs_of_a_head_are_rotated_as_the_reference_does(kind, normed):
    ours, theirs = both_ways(17, 4, 2, 24, torch.float32, normed=normed, kind=kind)
    assert_equal_but_for_a_rounding(ours[0], theirs[0])
    for layer in range(2):
        assert_equal_but_for_a_rounding(ours[1][layer], theirs[1][layer])
        assert torch.equal(ours[2][layer], theirs[2][layer])


def test_padding_is_written_to_page_0_and_to_no_other():
    ours, theirs = both_ways(5, 4, 2, 8, torch.float32, normed=True, positions=[-1, 70, -1, 0, -1])
    assert_equal_but_for_a_rounding(ours[0], theirs[0])
    for mine, its in ((ours[1][1], theirs[1][1]), (ours[2][1], theirs[2][1])):
        assert_equal_but_for_a_rounding(mine[1:], its[1:])
        assert torch.equal(mine[0, :, : PAGE - 1], its[0, :, : PAGE - 1])
        assert mine.isfinite().all()
