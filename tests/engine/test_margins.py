"""Which tokens may win, and by how much a token lost."""

import pytest
import torch

from specbatch.engine.logits.options import NO_OPTIONS, LogitsOptions, TokenBias
from specbatch.engine.logits.processors import process
from specbatch.engine.logits.row_options import RowOptions
from specbatch.engine.margins import Contest, tie_bound
from specbatch.engine.request import Request, SamplingParams
from specbatch.engine.sampling import RowSampling, choose_tokens

VOCAB = 60
PARAMS = {
    "greedy": SamplingParams(),
    "plain": SamplingParams(temperature=0.8),
    "top-k": SamplingParams(temperature=1.3, top_k=5),
    "top-p": SamplingParams(temperature=0.7, top_p=0.8),
    "both": SamplingParams(temperature=1.0, top_k=8, top_p=0.9),
    "hardly any": SamplingParams(temperature=0.05, top_k=2, top_p=0.3),
    "penalised": SamplingParams(),
    "penalised, min-p": SamplingParams(temperature=0.8, top_p=0.9),
}
OPTIONS = {
    "penalised": LogitsOptions(repetition_penalty=1.3, presence_penalty=0.5),
    "penalised, min-p": LogitsOptions(
        repetition_penalty=0.7, bias=(TokenBias(3, 1.0), TokenBias(4, -torch.inf)), min_p=0.2
    ),
}


def request(params):
    name = next((name for name, one in PARAMS.items() if one is params), "")
    return Request("row", [0], 100, sampling=params, seed=3, logits=OPTIONS.get(name, NO_OPTIONS))


def token(logits, params, position=0):
    device = torch.device("cpu")
    row, sampling = request(params), RowSampling.of([request(params)], device)
    history, at = torch.zeros(1, 1 + position, dtype=torch.int64), torch.tensor([[1 + position]])
    options, prompts = RowOptions.of([row], device), torch.ones(1, dtype=torch.int64)
    scores = process(logits[None, None], options, row.logits.processors, history, at, prompts, sampling.temperature)
    return int(choose_tokens(scores, sampling, torch.tensor([[position]]))[0])


def logits(seed, spread=3.0):
    return torch.randn(VOCAB, generator=torch.Generator().manual_seed(seed)) * spread


@pytest.mark.parametrize("name", PARAMS)
def test_the_winner_is_the_engines_own_token(name):
    params = PARAMS[name]
    for position in range(60):
        scores = logits(position)
        contest = Contest.of(scores, request(params), [0] * position)
        taken = token(scores, params, position)
        assert contest.winners(1e-6)[0] == taken
        assert contest.margin(taken) < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("name", PARAMS)
@pytest.mark.parametrize("bound", [0.02, 0.3, 2.0])
def test_whatever_wins_after_a_change_within_the_bound_was_a_possible_winner(name, bound):
    params = PARAMS[name]
    generator = torch.Generator().manual_seed(1)
    moved = 0
    for position in range(150):
        scores = logits(position, spread=1.0)
        changed = scores + (torch.rand(VOCAB, generator=generator) - 0.5) * bound * 0.999
        taken = token(changed, params, position)
        moved += taken != token(scores, params, position)
        contest = Contest.of(scores, request(params), [0] * position)
        assert taken in contest.winners(bound)
        assert contest.margin(taken) <= bound
    assert moved or bound < 0.3


@pytest.mark.slow
@pytest.mark.parametrize("name", PARAMS)
def test_margin_is_the_least_bound_under_which_a_token_may_win(name):
    params = PARAMS[name]
    for position in range(20):
        contest = Contest.of(logits(position), request(params), [0] * position)
        for other in (0, 17, 42):
            margin = contest.margin(other)
            if margin > 1e-6:
                assert other in contest.winners(margin * 1.0001)
                assert other not in contest.winners(margin * 0.9999)


def test_a_greedy_margin_is_the_difference_of_logits():
    contest = Contest.of(torch.tensor([1.0, 4.0, 3.5]), request(SamplingParams()), [])
    assert contest.margin(2) == pytest.approx(0.5)
    assert contest.winners(0.4) == [1]
    assert contest.winners(0.6) == [1, 2]
    assert contest.ranked(2) == [1, 2]


@pytest.mark.slow
def test_few_tokens_may_win_within_the_bound_of_float32():
    for name, params in PARAMS.items():
        winners = [len(Contest.of(logits(i), request(params), [0] * i).winners(1e-4)) for i in range(100)]
        assert sum(winners) <= 102, name


def test_logits_that_are_no_numbers_have_no_winner():
    assert Contest.of(torch.full((5,), torch.nan), request(SamplingParams()), []).winners(1.0) == []


def test_the_bound_grows_with_the_dtype_and_the_logits():
    scores = torch.tensor([-20.0, 3.0])
    assert tie_bound(torch.float32, scores) == 1e-4
    assert tie_bound(torch.float16, scores) == pytest.approx(0.1172, abs=1e-3)
    assert tie_bound(torch.bfloat16, scores) == pytest.approx(0.9375, abs=1e-3)
    assert tie_bound(torch.bfloat16, 2 * scores) == 2 * tie_bound(torch.bfloat16, scores)
    assert tie_bound(torch.bfloat16, scores, fp8_kv=True) == pytest.approx(2.5, abs=1e-3)
    assert tie_bound(torch.float32, scores, fp8_kv=True) == 1e-3


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_widest_flip_that_rounding_was_seen_to_make_is_a_tie_and_a_wider_one_is_not(dtype):
    """Widest: 5.65 epsilons of the largest logit, by transformers as by the recorded engine."""
    unit = torch.finfo(dtype).eps * 20.0
    scores = torch.tensor([20.0, 20.0 - 5.65 * unit, 20.0 - 6.5 * unit, 3.0])
    assert Contest.of(scores, request(SamplingParams()), []).winners(tie_bound(dtype, scores)) == [0, 1]
