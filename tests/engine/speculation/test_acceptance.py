"""Both rules on hand-written distributions."""

import torch

from specbatch.engine.request import Request, SamplingParams
from specbatch.engine.sampling import RowSampling
from specbatch.engine.speculation.acceptance import accept_by_rejection, accept_coupled

VOCAB = 4


def one_hot(*tokens):
    return torch.nn.functional.one_hot(torch.tensor(tokens), VOCAB).float()


def reject(draft_tokens, draft_probs, target_probs, num_drafted=None):
    draft_tokens = torch.tensor(draft_tokens, dtype=torch.int64)
    rows, k = draft_tokens.shape
    requests = [Request(str(i), [0], 1, sampling=SamplingParams(1.0)) for i in range(rows)]
    return accept_by_rejection(
        draft_tokens,
        torch.tensor(num_drafted or [k] * rows),
        draft_probs,
        target_probs,
        RowSampling.of(requests, torch.device("cpu")),
        torch.arange(k + 1).expand(rows, k + 1),
    )


def test_coupled_rows_accept_up_to_their_first_mismatch():
    outcome = accept_coupled(
        torch.tensor([[1, 2, 3], [1, 9, 3], [9, 2, 3], [1, 2, 9]]),
        torch.tensor([3, 3, 3, 3]),
        torch.tensor([[1, 2, 3, 0]] * 4),
    )
    assert outcome.accepted.tolist() == [3, 1, 0, 2]
    assert outcome.tokens.tolist() == [[1, 2, 3, 0]] * 4


def test_coupled_rows_accept_no_filler():
    outcome = accept_coupled(torch.tensor([[1, 2], [1, 2]]), torch.tensor([0, 1]), torch.tensor([[1, 2, 3]] * 2))
    assert outcome.accepted.tolist() == [0, 1]


def test_without_drafts_each_rule_commits_one_token():
    none = torch.zeros(2, 0, dtype=torch.int64)
    assert accept_coupled(none, torch.tensor([0, 0]), torch.tensor([[5], [6]])).tokens.tolist() == [[5], [6]]
    outcome = reject(none.tolist(), torch.zeros(2, 0, VOCAB), torch.stack([one_hot(1), one_hot(3)]))
    assert outcome.accepted.tolist() == [0, 0]
    assert outcome.tokens.tolist() == [[1], [3]]


def test_target_that_never_accepts_emits_one_recovered_token():
    outcome = reject([[0, 0]], one_hot(0, 0)[None], one_hot(2, 1, 1)[None])
    assert outcome.accepted.tolist() == [0]
    assert outcome.tokens[0, 0] == 2


def test_target_that_agrees_accepts_all_and_adds_the_bonus_token():
    outcome = reject([[0, 3]], one_hot(0, 3)[None], one_hot(0, 3, 2)[None])
    assert outcome.accepted.tolist() == [2]
    assert outcome.tokens.tolist() == [[0, 3, 2]]


def test_recovered_token_comes_from_what_the_target_has_beyond_the_draft():
    """target (.5, .5), draft (1, 0): after a rejection only token 1 is left."""
    rows = 2000
    draft = torch.tensor([[[1.0, 0, 0, 0]]]).expand(rows, 1, VOCAB)
    target = torch.tensor([[[0.5, 0.5, 0, 0], [0, 0, 1, 0]]]).expand(rows, 2, VOCAB)
    outcome = reject([[0]] * rows, draft, target)
    rejected = outcome.accepted == 0
    assert abs(rejected.float().mean() - 0.5) < 0.05
    assert (outcome.tokens[rejected, 0] == 1).all()
    assert (outcome.tokens[~rejected] == torch.tensor([0, 2])).all()


def test_equal_distributions_are_always_accepted_and_a_zero_residual_makes_no_nan():
    probs = torch.full((500, 1, VOCAB), 0.25)
    outcome = reject([[1]] * 500, probs, torch.cat([probs, probs], 1))
    assert outcome.accepted.tolist() == [1] * 500
    # A draft outside of its own support, with nothing left over: the target is drawn from.
    outcome = reject([[0]], one_hot(1)[None], one_hot(1, 2)[None])
    assert outcome.tokens[0, 0] == 1


def test_filler_is_never_accepted_and_nothing_is_subtracted_for_it():
    target = one_hot(1, 1, 1)[None]
    outcome = reject([[1, 1]], one_hot(1, 1)[None], target, num_drafted=[1])
    assert outcome.accepted.tolist() == [1]
    assert outcome.tokens[0, :2].tolist() == [1, 1]
