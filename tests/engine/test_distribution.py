"""Sampled output has the target's distribution: chi-squared on joints of tokens, and mutants that must fail the same test."""

import inspect
import textwrap

import pytest
import torch

import specbatch.engine.general.drafter
import specbatch.engine.general.round
import specbatch.engine.speculation.acceptance
from specbatch.engine.request import SamplingParams
from tests.engine import tabular

pytestmark = pytest.mark.slow  # 50,000 samples a test

SAMPLES = 50_000
STRETCHES = 16  # samples that one row gives
PASS = 0.001

# One batch holds them all: rows with different parameters must not leak into each other.
PARAMS = [
    SamplingParams(temperature=1.0),
    SamplingParams(temperature=0.6),
    SamplingParams(temperature=1.3, top_k=3),
    SamplingParams(temperature=1.0, top_p=0.8),
    SamplingParams(temperature=0.9, top_k=4, top_p=0.9),
]


def worst_p_value(rule, *, k=2, samples=SAMPLES, disjoint=False, length=2):
    """The smallest p-value over the parameters, on `samples` sequences of `length` tokens in all."""
    target, drafter = tabular.tables(disjoint=disjoint)
    rows_each, new_tokens = samples // len(PARAMS) // STRETCHES, STRETCHES * length
    tokens, stats = tabular.sample(target, drafter, PARAMS, rows_each, k=k, new_tokens=new_tokens, rule=rule)
    assert stats.drafted > 0
    return min(
        tabular.p_value(rows, start, tabular.exact_joint(target, params, length))
        for start, (params, rows) in enumerate(zip(PARAMS, tokens, strict=True))
    )


@pytest.mark.parametrize("rule", ["coupled", "rejection"])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_the_joint_of_two_tokens_is_the_targets(rule, k):
    assert worst_p_value(rule, k=k) > PASS


@pytest.mark.parametrize("rule", ["coupled", "rejection"])
def test_the_joint_of_three_tokens_is_the_targets_with_bonus_tokens_inside(rule):
    """k = 1: the second token of a fully accepted round is the bonus token, the third is drafted again."""
    assert worst_p_value(rule, k=1, length=3) > PASS


@pytest.mark.parametrize("rule", ["coupled", "rejection"])
def test_a_drafter_whose_support_is_disjoint_from_the_targets_changes_nothing(rule):
    assert worst_p_value(rule, disjoint=True, samples=20_000) > PASS


def test_rejection_accepts_what_the_two_distributions_share():
    """Acceptance of one draft is sum(min(target, draft)): 1 - total variation (Leviathan et al., corollary 3.6)."""
    target, drafter = tabular.tables()
    params = SamplingParams(temperature=1.0)
    _, stats = tabular.sample(target, drafter, [params], 20_000, k=1, new_tokens=1, rule="rejection")
    shared = torch.minimum(target[0].softmax(-1), drafter[0].softmax(-1)).sum().item()
    assert stats.acceptance_rate == pytest.approx(shared, abs=0.012)


def test_coupled_acceptance_lies_between_its_bound_and_that_of_rejection():
    """Daliri et al.: (1 - tv) / (1 + tv) <= acceptance of the coupled rule <= 1 - tv."""
    target, drafter = tabular.tables()
    params = SamplingParams(temperature=1.0)
    _, stats = tabular.sample(target, drafter, [params], 20_000, k=1, new_tokens=1, rule="coupled")
    tv = 0.5 * (target[0].softmax(-1) - drafter[0].softmax(-1)).abs().sum().item()
    assert (1 - tv) / (1 + tv) - 0.012 <= stats.acceptance_rate <= 1 - tv + 0.012


# Each mutant is one edit of the real source: (function, what is there, what stands there instead).
REJECTION = specbatch.engine.speculation.acceptance.accept_by_rejection
COUPLED = specbatch.engine.speculation.acceptance.accept_coupled
MUTANTS = {
    "no residual": (REJECTION, "(target_row - subtrahend[rows, accepted])", "(target_row + 0)"),
    "residual without clamping": (REJECTION, ".clamp_(min=0)", ".abs()"),
    "raw draft distribution in the ratio": (
        REJECTION,
        "p_draft = draft_probs.gather",
        "p_draft = draft_probs.pow(2).gather",
    ),
    "ratio upside down": (REJECTION, "accept_uniforms * p_draft < p_target", "accept_uniforms * p_target < p_draft"),
    "accept whatever is drafted": (REJECTION, "accept_uniforms * p_draft < p_target", "p_target == p_target"),
    "accept by match": (
        REJECTION,
        "(accept_uniforms * p_draft < p_target)",
        "(draft_tokens == target_probs[:, :k].argmax(-1))",
    ),
    "bonus token from the wrong row": (
        REJECTION,
        "target_row = target_probs[rows, accepted]",
        "target_row = target_probs[rows, accepted.clamp(max=k - 1)]",
    ),
    "verify off by one": (REJECTION, "target_probs[:, :k].gather", "target_probs[:, 1:].gather"),
    "acceptance not stopped at the first rejection": (
        REJECTION,
        "_leading((accept_uniforms * p_draft < p_target) & drafted)",
        "((accept_uniforms * p_draft < p_target) & drafted).long().sum(-1)",
    ),
    "acceptance draws the noise of the drafts": (REJECTION, "Purpose.ACCEPT", "Purpose.DRAFT"),
    "coupled: a draft stands without a match": (COUPLED, "_leading((draft_tokens == target_tokens[:, :k]) & drafted)", "num_drafted"),
    "coupled: compares with the next position": (COUPLED, "target_tokens[:, :k])", "target_tokens[:, 1:])"),
}  # fmt: skip
DRAFT_TOKEN_STANDS = "return Acceptance(target_tokens, accepted)"


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_fails_the_same_test(name, monkeypatch):
    function, before, after = MUTANTS[name]
    source = textwrap.dedent(inspect.getsource(function))
    assert source.count(before) == 1, "the mutant no longer fits the source"
    source = source.replace(before, after)
    if function is COUPLED:  # the committed tokens are the target's own; a wrong count alone would go unseen
        source = source.replace(
            DRAFT_TOKEN_STANDS,
            "return Acceptance(torch.cat([draft_tokens, target_tokens[:, -1:]], 1).scatter("
            "1, accepted[:, None], target_tokens.gather(1, accepted[:, None])), accepted)",
        )
    namespace = dict(vars(specbatch.engine.speculation.acceptance))
    exec(source, namespace)  # the project's own source, with one edit
    monkeypatch.setattr(specbatch.engine.general.round, function.__name__, namespace[function.__name__])
    rule = "coupled" if function is COUPLED else "rejection"
    assert worst_p_value(rule, k=2, samples=60_000, length=3) < PASS


def test_drafts_from_another_distribution_than_the_one_reported_fail_the_same_test(monkeypatch):
    """transformers #47932: the ratio taken with probabilities from before temperature, top-k and top-p."""
    real = specbatch.engine.general.drafter.choose_tokens

    def raw(logits, sampling, positions, purpose, *, need_probs):
        tokens, _ = real(logits, sampling, positions, purpose)
        return tokens, logits.softmax(-1)

    monkeypatch.setattr(specbatch.engine.general.drafter, "choose_tokens", raw)
    assert worst_p_value("rejection", k=2, samples=60_000, length=3) < PASS
