import pytest
import torch
from transformers.generation.logits_process import (
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from specbatch.engine.counter_rng import Purpose, position_keys
from specbatch.engine.request import Request, SamplingParams
from specbatch.engine.sampling import RowSampling, choose_tokens, distribution, gumbel_max

VOCAB = 50


def stack(*params):
    return RowSampling.of([Request(str(i), [0], 1, sampling=p) for i, p in enumerate(params)], torch.device("cpu"))


def token_probs(scores, sampling):
    return distribution(scores, sampling).dense(VOCAB)


def logits(rows, n=3):
    return torch.randn(rows, n, VOCAB, generator=torch.Generator().manual_seed(1)) * 3


def transformers_probs(scores, params):
    warped = TemperatureLogitsWarper(params.temperature)(None, scores)
    if params.top_k:
        warped = TopKLogitsWarper(params.top_k)(None, warped)
    if params.top_p < 1:
        warped = TopPLogitsWarper(params.top_p)(None, warped)
    return warped.softmax(-1)


PARAMS = [
    SamplingParams(1.0),
    SamplingParams(0.3),
    SamplingParams(1.0, top_k=5),
    SamplingParams(1.5, top_k=1),
    SamplingParams(1.0, top_p=0.5),
    SamplingParams(0.6, top_k=20, top_p=0.95),
    SamplingParams(1.0, top_k=1000),
    SamplingParams(1.0, top_p=1e-6),
]


@pytest.mark.parametrize("params", PARAMS, ids=str)
def test_each_rows_distribution_is_that_of_transformers(params):
    scores = logits(1)
    torch.testing.assert_close(token_probs(scores, stack(params))[0], transformers_probs(scores[0], params))


@pytest.mark.parametrize("top_p", [0.3, 0.9, 0.99])
@pytest.mark.parametrize("spread", [0.1, 4.0])
def test_top_p_over_a_large_vocabulary_is_that_of_transformers(top_p, spread):
    """Peaked: a few tokens are looked at. Flat: they do not reach top_p, and all are."""
    scores = torch.randn(1, 2, 5000, generator=torch.Generator().manual_seed(2)).double() * spread
    params = SamplingParams(1.0, top_p=top_p)
    probs = distribution(scores, stack(params)).dense(5000)[0]
    expected = transformers_probs(scores[0], params).float()
    # The last token kept lies where float32 sums of thousands of terms round apart.
    assert ((probs > 0) != (expected > 0)).sum() <= 2
    torch.testing.assert_close(probs, expected, rtol=2e-3, atol=2e-4)


def test_rows_of_different_parameters_do_not_touch_each_other():
    scores = logits(len(PARAMS))
    together = token_probs(scores, stack(*PARAMS))
    for i, params in enumerate(PARAMS):
        torch.testing.assert_close(together[i], transformers_probs(scores[i], params))


def test_a_greedy_row_is_one_hot_at_its_first_best_token():
    scores = logits(2)
    scores[0, 0, 7] = scores[0, 0, 3] = 99.0  # a tie: the first wins, as in argmax everywhere else
    probs = token_probs(scores, stack(SamplingParams(), SamplingParams(1.0)))
    assert probs[0, 0, 3] == 1
    assert torch.equal(probs[0].argmax(-1), scores[0].argmax(-1))
    assert torch.equal(probs[0].sum(-1), torch.ones(3))


def test_half_precision_logits_are_sampled_in_single_precision():
    scores = logits(1)
    probs = token_probs(scores.bfloat16(), stack(SamplingParams(1.0)))
    assert probs.dtype == torch.float32
    torch.testing.assert_close(probs, scores.bfloat16().float().softmax(-1))


def test_a_tokens_noise_does_not_depend_on_the_other_candidates():
    """Rows alone, in a batch, or with another filter must land on the same token where it is still there."""
    scores = logits(4)
    rows = [SamplingParams(1.0, top_k=k) for k in (0, 50, 30, 20)]
    positions = torch.arange(3).expand(4, 3)
    batched, _ = choose_tokens(scores, stack(*rows), positions)
    for i, params in enumerate(rows):
        request = Request(str(i), [0], 1, sampling=params)
        alone, _ = choose_tokens(
            scores[i : i + 1], RowSampling.of([request], torch.device("cpu")), positions[i : i + 1]
        )
        assert torch.equal(batched[i], alone[0])
        whole = distribution(scores[i : i + 1], stack(params))
        dense = gumbel_max(
            whole.dense(VOCAB), position_keys(stack(*rows).row(i).keys, positions[i : i + 1], Purpose.TOKEN)
        )
        assert torch.equal(alone, dense)


def test_a_race_never_picks_a_token_without_mass():
    probs = torch.zeros(1, 1, VOCAB)
    probs[..., [4, 9]] = 1e-20
    picked = gumbel_max(probs.expand(500, 1, VOCAB), torch.arange(500)[:, None])
    assert set(picked.flatten().tolist()) == {4, 9}


@pytest.mark.parametrize("temperature", [5e-324, 1e-300, 1e-45, 1e-38, 1e-8])
def test_a_temperature_too_small_for_float32_is_greedy(temperature):
    scores = logits(2)
    sampling = stack(SamplingParams(temperature), SamplingParams(1.0))
    assert sampling.params[0].greedy
    best = torch.nn.functional.one_hot(scores[0].argmax(-1), VOCAB).float()
    assert torch.equal(token_probs(scores, sampling)[0], best)


@pytest.mark.parametrize("top_p", [5e-324, 1e-300, 1e-45, 1e-9])
def test_a_top_p_too_small_for_float32_keeps_the_likeliest_token(top_p):
    scores = logits(1)
    best = torch.nn.functional.one_hot(scores.argmax(-1), VOCAB).float()
    assert torch.equal(token_probs(scores, stack(SamplingParams(1.0, top_p=top_p))), best)


def test_a_top_k_above_the_vocabulary_keeps_all():
    scores = logits(1)
    usual = token_probs(scores, stack(SamplingParams(1.0)))
    torch.testing.assert_close(token_probs(scores, stack(SamplingParams(1.0, top_k=2**31 - 1))), usual)
