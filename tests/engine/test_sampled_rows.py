"""Sampled rows: the text belongs to the row, not to its batch, its k or its drafter."""

import dataclasses

import pytest

from specbatch.engine.general.ngram import NGramDrafter
from specbatch.engine.request import Request, SamplingParams
from tests.engine import tiny

PARAMS = [
    SamplingParams(temperature=0.8),
    SamplingParams(),
    SamplingParams(temperature=1.2, top_k=8),
    SamplingParams(temperature=0.7, top_p=0.9),
]


def requests(pair, seed=0):
    return [
        Request(str(i), prompt, 25, sampling=PARAMS[i % len(PARAMS)], seed=seed)
        for i, prompt in enumerate(pair.prompts)
    ]


@pytest.fixture(scope="module")
def alone(pair):
    """Every row decoded by the target alone, one at a time."""
    out, _ = tiny.decode(pair.target, None, requests(pair), max_sequences=1)
    return tiny.tokens(out, len(pair.prompts))


@pytest.mark.slow
@pytest.mark.parametrize(("batch", "k"), [(1, 4), (8, 1), (8, 6), (32, 3)])
def test_coupled_text_is_what_the_target_alone_draws(pair, alone, batch, k):
    out, engine = tiny.decode(pair.target, pair.noisy, requests(pair), max_sequences=batch, num_speculative_tokens=k)
    assert tiny.tokens(out, len(alone)) == alone
    assert engine.stats.accepted > 0


@pytest.mark.slow
def test_coupled_text_does_not_depend_on_the_drafter(pair, alone):
    out, _ = tiny.decode(pair.target, NGramDrafter(), requests(pair), num_speculative_tokens=3)
    assert tiny.tokens(out, len(alone)) == alone


@pytest.mark.slow
def test_a_drafter_that_is_the_target_is_always_accepted_when_coupled(pair):
    _, engine = tiny.decode(pair.target, pair.twin, requests(pair), num_speculative_tokens=4)
    assert engine.stats.acceptance_rate == 1.0


@pytest.mark.slow
@pytest.mark.parametrize("drafter", ["noisy", "twin"])
def test_rejection_text_depends_on_neither_batch_nor_order_for_a_given_k(pair, drafter):
    def run(rows, batch):
        out, _ = tiny.decode(
            pair.target,
            getattr(pair, drafter),
            rows,
            max_sequences=batch,
            num_speculative_tokens=3,
            acceptance_rule="rejection",
        )
        return tiny.tokens(out, len(rows))

    rows = requests(pair)[:10]
    assert run(rows, 1) == run(list(reversed(rows)), 7)


@pytest.mark.slow
def test_rejection_accepts_all_of_a_drafter_that_is_the_target(pair):
    _, engine = tiny.decode(
        pair.target, pair.twin, requests(pair), num_speculative_tokens=4, acceptance_rule="rejection"
    )
    assert engine.stats.acceptance_rate == 1.0


@pytest.mark.slow
def test_greedy_rows_beside_sampled_ones_stay_greedy(pair):
    for rule in ("coupled", "rejection"):
        out, _ = tiny.decode(pair.target, pair.noisy, requests(pair), num_speculative_tokens=4, acceptance_rule=rule)
        assert all(list(out[str(i)].token_ids) == pair.expected[i][:25] for i in range(1, len(pair.prompts), 4))


def test_seed_and_id_each_make_another_stream(pair):
    first = requests(pair)[0]
    twins = [first, dataclasses.replace(first, id="1"), dataclasses.replace(first, id="2", seed=1)]
    out, _ = tiny.decode(pair.target, None, twins, max_sequences=3)
    assert len({tuple(c.token_ids) for c in out.values()}) == 3
