"""The likeliest tokens of each row against a stable sort."""

import pytest
import torch

pytest.importorskip("triton")

from specbatch.engine.graphs.kernels import top_candidates as kernels
from specbatch.engine.graphs.kernels.top_candidates import top_candidates

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
INF, NAN = float("inf"), float("nan")
# NumPy's, of the interpreter: it wraps and divides as a GPU does, and says so.
pytestmark = pytest.mark.filterwarnings("ignore:(overflow|divide by zero|invalid value|All-NaN):RuntimeWarning")


def random(*shape, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)).to(DEVICE, dtype) * 3


def likeliest(logits, count):
    values, ids = logits.float().sort(dim=-1, descending=True, stable=True)
    return values[:, :count], ids[:, :count]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("rows", "vocab", "count"),
    [(1, 40, 40), (2, 259, 20), (3, 5001, 1), (1, 5001, 64), (1, 300, 50), (2, 300, 100), (0, 50, 5)],
)
def test_top_candidates_are_those_of_a_stable_sort(rows, vocab, count, dtype):
    logits = random(rows, vocab, dtype=dtype)
    values, ids = top_candidates(logits, count)
    assert values.dtype == torch.float32
    assert ids.dtype == torch.int64
    assert torch.equal(values, likeliest(logits, count)[0])
    assert torch.equal(ids, likeliest(logits, count)[1])


@pytest.mark.parametrize("way", [top_candidates, kernels._top_by_sort])
def test_top_candidates_among_many_equals_and_infinities(way):
    logits = random(6, 3000).round()  # two dozen different values
    logits[1] = -INF
    logits[2, 5:] = -INF
    logits[3] = 0.0
    logits[3, ::2] = -0.0
    logits[4, 100:200] = INF
    logits[5] = torch.arange(3000) // 70
    values, ids = way(logits, 9)
    assert torch.equal(values, likeliest(logits, 9)[0])
    assert torch.equal(ids, likeliest(logits, 9)[1])


def test_top_candidates_of_rows_with_nan_are_tokens():
    logits = random(2, 1000)
    logits[0] = NAN
    logits[1, ::3] = -NAN
    _, ids = top_candidates(logits, 8)
    assert (ids >= 0).all()
    assert (ids < 1000).all()


def test_many_rows_which_take_groups_by_another_height():
    logits = random(17, 300)
    assert torch.equal(top_candidates(logits, 3)[1], likeliest(logits, 3)[1])


def test_top_candidates_of_rows_of_a_wider_tensor():
    wide = random(4, 1500)
    ours, theirs = top_candidates(wide[:, :1000], 5), top_candidates(wide[:, :1000].contiguous(), 5)
    assert torch.equal(ours[1], theirs[1])
