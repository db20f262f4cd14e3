"""The race among the tokens that top-p or top-k keeps, against the sort that finds them in PyTorch."""

import pytest
import torch

pytest.importorskip("triton")

from specbatch.engine.counter_rng import exponentials
from specbatch.engine.graphs.kernels.filtered_sampling import sample_filtered
from specbatch.engine.graphs.kernels.sampling import sample
from specbatch.engine.graphs.reference import TorchOps

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
INF, NAN = float("inf"), float("nan")
pytestmark = pytest.mark.filterwarnings("ignore:(overflow|divide by zero|invalid value|All-NaN):RuntimeWarning")


def random(*shape, dtype=torch.float32, seed=0, scale=3.0):
    return (torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale).to(DEVICE, dtype)


def some_keys(count, seed=1):
    return torch.randint(-(2**63), 2**63 - 1, (count,), generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def reals(*values):
    return torch.tensor(values, device=DEVICE)


def kept(logits, temperature, top_k, top_p):
    """Which tokens of one row may be drawn, from a stable sort in float64."""
    scores = logits.double() / temperature
    order = scores.sort(descending=True, stable=True).indices
    probs = scores[order].softmax(-1)
    stays = probs.cumsum(-1) - probs < top_p
    stays[0] = True
    if top_k:
        stays[top_k:] = False
    return torch.zeros(len(logits), dtype=torch.bool, device=DEVICE).scatter_(0, order, stays)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("vocab", "top_p"), [(8, 0.5), (259, 0.95), (5000, 0.9), (1000, 0.05)])
def test_the_token_is_the_winner_among_those_that_a_sort_keeps(vocab, top_p, dtype):
    count = 6 if DEVICE == "cpu" else 400
    logits, keys = random(count, vocab, dtype=dtype), some_keys(count)
    temperature = reals(0.0, 0.3, 0.7, 1.0, 1.7, 4.0).repeat(count)[:count]
    top_k = torch.zeros(count, dtype=torch.int64, device=DEVICE)
    p = torch.full((count,), top_p, device=DEVICE)
    p[::5], p[1::5] = 1.0, 1.0
    top_k[1::5] = max(1, vocab // 7)
    tokens, finite = sample_filtered(logits, keys, temperature, top_k, p)
    assert finite.all()
    noise = exponentials(keys, torch.arange(vocab, device=DEVICE)).log()
    for row in range(count):
        heat = float(temperature[row])
        if heat == 0:
            assert tokens[row] == logits[row].float().argmax()
            continue
        stays = kept(logits[row], heat, int(top_k[row]), float(p[row]))
        raced = (logits[row].float() / heat - noise[row]).masked_fill(~stays, -INF)
        assert stays[tokens[row]]
        torch.testing.assert_close(raced[tokens[row]], raced.max(), rtol=1e-5, atol=1e-5)
    assert torch.equal(tokens, TorchOps().sample_filtered(logits, keys, temperature, top_k, p)[0])


@pytest.mark.slow
def test_of_equally_likely_tokens_the_lowest_ids_are_kept():
    logits = torch.zeros(32, 300, device=DEVICE)
    logits[16:, :200] = -INF  # kept from 200 on
    keys, ones = some_keys(32), torch.ones(32, device=DEVICE)
    none = torch.zeros(32, dtype=torch.int64, device=DEVICE)
    tokens, _ = sample_filtered(logits, keys, ones, none, ones * 0.099)
    assert tokens[:16].max() < 30  # 0.099 of 300: 29.7
    assert tokens[16:].min() >= 200
    assert tokens[16:].max() < 210
    assert tokens.unique().numel() > 10
    tokens, _ = sample_filtered(logits, keys, ones, none + 7, ones)
    assert tokens[:16].max() < 7
    assert tokens[16:].max() < 207


@pytest.mark.slow
def test_the_least_top_p_is_greedy():
    logits, keys = random(9, 700), some_keys(9)
    ones, none = torch.ones(9, device=DEVICE), torch.zeros(9, dtype=torch.int64, device=DEVICE)
    for top_k, top_p in ((none, ones * 1e-9), (none, ones * 0.0), (none + 1, ones)):
        assert torch.equal(sample_filtered(logits, keys, ones, top_k, top_p)[0], logits.argmax(-1))


@pytest.mark.slow
def test_without_filters_it_is_the_race():
    logits, keys = random(9, 5001, dtype=torch.bfloat16), some_keys(9)
    heat = reals(0.0, 0.5, 1.0).repeat(3)
    none = torch.zeros(9, dtype=torch.int64, device=DEVICE)
    assert torch.equal(
        sample_filtered(logits, keys, heat, none, torch.ones(9, device=DEVICE))[0], sample(logits, keys, heat)[0]
    )


@pytest.mark.slow
def test_a_rows_token_is_the_same_whatever_stands_beside_it():
    """Where a sum is rounded must not hang on the number of rows, which changes how the race is divided."""
    logits, keys = random(36, 5000, seed=4, scale=0.3), some_keys(36)
    heat, p = torch.ones(36, device=DEVICE), torch.full((36,), 0.6, device=DEVICE)
    none = torch.zeros(36, dtype=torch.int64, device=DEVICE)
    together, _ = sample_filtered(logits, keys, heat, none, p)
    for row in (0, 3, 7):
        one = slice(row, row + 1)
        assert sample_filtered(logits[one], keys[one], heat[one], none[one], p[one])[0] == together[row]


def test_rows_that_are_not_finite_end_and_are_told():
    logits = random(6, 3000)
    logits[0, 5], logits[1], logits[2, 17], logits[3, :2999] = NAN, -INF, INF, -INF
    ones = torch.ones(6, device=DEVICE)
    tokens, finite = sample_filtered(
        logits, some_keys(6), ones, torch.zeros(6, dtype=torch.int64, device=DEVICE), ones * 0.1
    )
    assert finite.tolist() == [False, False, False, True, True, True]
    assert tokens[3] == 2999
    assert ((tokens >= 0) & (tokens < 3000)).all()
