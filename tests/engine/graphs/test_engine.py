"""Greedy output of the fast path is the target's own, and its rounds are those of the general engine."""

import dataclasses
import functools
import itertools
import time

import pytest
import torch

from specbatch.engine.general.ngram import NGramDrafter
from tests.engine import tiny
from tests.engine.graphs import fast

ROWS = {1: 4, 8: 12, 32: 20}  # by how many there may be at once: one after the other, with slots filled anew, all


@pytest.mark.slow
@pytest.mark.parametrize("batch", ROWS)
@pytest.mark.parametrize("k", [0, 1, 2, 3, 4, 5, 6, 7, 8, None])
def test_a_model_drafter_of_any_k_changes_no_token(pair, batch, k):
    rows = fast.requests(pair.prompts[: ROWS[batch]])
    out, _ = fast.decode(pair.target, pair.noisy, rows, max_sequences=batch, num_speculative_tokens=k)
    assert tiny.tokens(out, len(rows)) == pair.expected[: len(rows)]


@pytest.mark.slow
@pytest.mark.parametrize("batch", ROWS)
@pytest.mark.parametrize("drafter", [NGramDrafter(), None], ids=["ngram", "none"])
@pytest.mark.parametrize("k", [1, 4, None])
def test_ngram_lookup_and_no_drafter_change_no_token(pair, batch, drafter, k):
    rows = fast.requests(pair.prompts[: ROWS[batch]])
    out, engine = fast.decode(pair.target, drafter, rows, max_sequences=batch, num_speculative_tokens=k)
    assert tiny.tokens(out, len(rows)) == pair.expected[: len(rows)]
    assert engine.stats.drafted > 0 or drafter is None or k is None


@pytest.mark.slow
def test_a_few_rows_with_a_drafter_give_what_transformers_gives(pair):
    rows = fast.requests(pair.prompts[:5], 12)
    out, engine = fast.decode(pair.target, pair.noisy, rows, max_sequences=3, num_speculative_tokens=3)
    assert tiny.tokens(out, 5) == [tokens[:12] for tokens in pair.expected[:5]]
    assert 0 < engine.stats.accepted < engine.stats.drafted


LENGTHS = [3, 17, 9, 21, 25]


@pytest.fixture(scope="module")
def general(pair):
    """k, whether a model drafts -> rows as the general engine decodes them; how many it has at once is nothing to them."""

    @functools.cache
    def decoded(k, by_model):
        drafter = pair.noisy if by_model else fast.OwnText()
        sizes = {"max_sequences": 8, "num_speculative_tokens": k}
        return tiny.decode(pair.target, drafter, fast.stopped(pair.prompts, LENGTHS), **sizes)[0]

    return decoded


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 3, 8])
@pytest.mark.parametrize("k", [0, 1, 4, 7])
def test_every_rows_rounds_drafts_and_acceptances_are_those_of_the_general_engine(pair, general, batch, k):
    """Stale KV of a refilled slot, or a round too late, would show here while the text stays right."""
    for by_model, drafter in ((True, pair.noisy), (False, fast.OwnText())):
        rows = fast.stopped(pair.prompts[:6] if batch == 1 else pair.prompts, LENGTHS)
        out, _ = fast.decode(pair.target, drafter, rows, max_sequences=batch, num_speculative_tokens=k)
        expected = {row.id: general(k, by_model)[row.id] for row in rows}
        assert tiny.tokens(out, len(rows)) == tiny.tokens(expected, len(rows))
        assert fast.counts(out) == fast.counts(expected)


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["coupled", "rejection"])
def test_a_drafter_that_is_the_target_is_always_accepted(pair, rule):
    rows = fast.requests(pair.prompts[:8], params=fast.MIXED)
    _, engine = fast.decode(
        pair.target, pair.twin, rows, max_sequences=8, num_speculative_tokens=4, acceptance_rule=rule
    )
    assert engine.stats.acceptance_rate == 1.0
    assert engine.stats.rounds == tiny.NEW / (4 + 1)


@pytest.mark.slow
def test_refilled_slots_carry_nothing_over(pair):
    lengths = itertools.cycle([3, 17, 9, 25])
    rows = [
        dataclasses.replace(row, max_new_tokens=n) for row, n in zip(fast.requests(pair.prompts), lengths, strict=False)
    ]
    out, engine = fast.decode(pair.target, pair.twin, rows, max_sequences=3, num_speculative_tokens=4)
    assert engine.stats.acceptance_rate == 1.0
    assert all(list(out[row.id].token_ids) == pair.expected[i][: row.max_new_tokens] for i, row in enumerate(rows))


@pytest.mark.slow
@pytest.mark.parametrize("ks", [(0, 3, 0, 1), (0, 5), (3, 0, 0, 0, 0, 0, 0, 0, 8, 1), (1, 2, 3, 4, 0)])
def test_k_may_change_in_every_round(pair, ks):
    controller = fast.Scripted(ks)
    rows = fast.stopped(pair.prompts)
    out, engine = fast.decode(pair.target, pair.twin, rows, controller, max_sequences=8, num_speculative_tokens=8)
    assert tiny.tokens(out, len(rows)) == pair.expected
    # The twin agrees with the target wherever its KV is right: one stale or missing entry shows as a rejection.
    assert engine.stats.acceptance_rate == 1.0
    assert engine.stats.catch_up_seconds > 0
    assert max(controller.lags) > 0
    assert {k for _, k in engine.stats.k_changes} == set(ks)


@pytest.mark.slow
def test_order_and_grouping_of_rows_change_nothing(pair):
    order = torch.randperm(len(pair.prompts), generator=torch.Generator().manual_seed(0)).tolist()
    seen = set()
    for batch, turned in ((2, order), (5, sorted(order)), (11, order[::-1])):
        rows = fast.stopped(pair.prompts)
        out, _ = fast.decode(
            pair.target, pair.noisy, [rows[i] for i in turned], max_sequences=batch, num_speculative_tokens=3
        )
        assert tiny.tokens(out, len(rows)) == pair.expected
        seen.add(tuple(sorted(fast.counts(out).items())))
    assert len(seen) == 1


@pytest.mark.slow
@pytest.mark.parametrize("k", [3, 8])
def test_nothing_is_drafted_beyond_the_last_row_to_end(pair, k):
    """The host, a round behind, counts on one token of it: a twin in lockstep wastes only what that costs."""
    out, engine = fast.decode(
        pair.target, pair.twin, fast.requests(pair.prompts[:4], 12), max_sequences=4, num_speculative_tokens=k
    )
    assert tiny.tokens(out, 4) == [tokens[:12] for tokens in pair.expected[:4]]
    assert engine.stats.acceptance_rate == 1.0
    assert engine.stats.accepted + engine.stats.row_rounds - engine.stats.emitted <= 4 * (k - 1)


@pytest.mark.slow
@pytest.mark.parametrize("k", [5, None])
def test_rounds_add_up_to_what_was_committed(pair, k):
    out, engine = fast.decode(
        pair.target, pair.noisy, fast.requests(pair.prompts), max_sequences=8, num_speculative_tokens=k
    )
    stats = engine.stats
    assert stats.emitted == sum(len(c.token_ids) for c in out.values()) <= stats.accepted + stats.row_rounds
    assert stats.accepted == sum(c.accepted for c in out.values()) == sum(stats.accepted_by_position)
    assert stats.drafted == sum(c.drafted for c in out.values()) == sum(stats.drafted_by_position)
    assert stats.row_rounds == sum(c.rounds for c in out.values())
    assert stats.prompt_tokens == sum(map(len, pair.prompts))
    assert (stats.finished, stats.failed, stats.active) == (len(out), 0, 0)


@pytest.mark.slow
def test_phases_add_up_to_the_time_that_passed(pair):
    rows = fast.requests(pair.prompts)
    engine = fast.engine(pair.target, pair.noisy, max_sequences=8, num_speculative_tokens=3, price_plain_rounds=True)
    engine.warmup()
    start = time.perf_counter()
    fast.finish(engine, rows)
    # A CPU does the next round before the host has looked at the last one: what a GPU does meanwhile counts as the host's, too.
    assert 0.9 < sum(engine.stats.seconds.values()) / (time.perf_counter() - start) < 1.7
    assert all(engine.stats.seconds[phase] > 0 for phase in ("prefill", "draft", "verify", "host", "idle"))
    assert engine.stats.warmup_seconds > 0
    assert engine.stats.target_only_slowdown > 0


def test_without_a_price_of_plain_rounds_there_is_none_to_tell(pair):
    _, engine = fast.decode(
        pair.target, NGramDrafter(), fast.requests(pair.prompts[:1], 3), max_sequences=1, num_speculative_tokens=1
    )
    assert engine.stats.target_only_slowdown is None


class Foreseen:
    """Drafts the true continuation up to a scripted count of tokens, and a wrong one after it."""

    def __init__(self, engine, truth, pattern):
        self.engine, self.truth, self.pattern = engine, truth, pattern
        self.round = 0

    def __call__(self, capture, rows, k, *, alone):
        state = self.engine.runner.pair.state
        good = self.pattern[self.round % len(self.pattern)]
        self.round += 1
        for place, sequence in enumerate(self.engine.scheduler.batch(len(self.engine._in_flight))):
            last = int(state.lengths[sequence.slot])  # the device's: the host is a round behind
            done = last + 1 - len(sequence.request.prompt_token_ids)
            upcoming = [*self.truth[int(sequence.request.id)][done : done + k], *[0] * k][:k]
            drafts = [t if j < good[place % len(good)] else (t + 1) % tiny.VOCAB for j, t in enumerate(upcoming)]
            state.history[sequence.slot, last + 1 : last + 1 + k] = torch.tensor(drafts)
            state.num_drafted[place] = k


@pytest.mark.parametrize("k", [1, 3, pytest.param(4, marks=pytest.mark.slow)])
def test_every_acceptance_pattern_is_taken_as_it_falls(pair, k, monkeypatch):
    patterns = list(itertools.product(range(k + 1), repeat=2))
    engine = fast.engine(pair.target, NGramDrafter(), max_sequences=4, num_speculative_tokens=k)
    engine.warmup()
    monkeypatch.setattr(engine.runner.pair.drafter, "look_up", Foreseen(engine, pair.continued, patterns))
    seen = []
    give = engine.scheduler.give_tokens

    def spied(sequences, output, k):
        if len(sequences) == 4:
            seen.append(tuple(output.accepted[:2]))
        return give(sequences, output, k)

    monkeypatch.setattr(engine.scheduler, "give_tokens", spied)
    out = fast.finish(engine, fast.stopped(pair.prompts, [30])[2:6])
    assert all(list(out[str(i)].token_ids) == pair.continued[i][:30] for i in range(2, 6))
    assert seen[: len(patterns)] == patterns[: len(seen)]
    assert len(set(seen)) > k


def test_the_target_alone_drafts_nothing(pair):
    out, engine = fast.decode(pair.target, None, fast.requests(pair.prompts[:4], 8), max_sequences=4)
    assert tiny.tokens(out, 4) == [tokens[:8] for tokens in pair.expected[:4]]
    assert (engine.stats.drafted, engine.stats.mean_acceptance_length) == (0, 1.0)
