"""Greedy output is the target's own, token for token, whatever is drafted and however rows are batched."""

import dataclasses
import itertools

import pytest
import torch

from specbatch.engine.config import EngineConfig
from specbatch.engine.general.drafter import ModelDrafter
from specbatch.engine.general.model import CausalLM
from specbatch.engine.general.ngram import NGramDrafter
from specbatch.engine.make_engine import general_engine
from specbatch.engine.request import Request
from specbatch.engine.speculation.controller import Choice
from specbatch.engine.speculation.depth import Speculation
from tests.engine import tiny


def requests(pair, new_tokens=tiny.NEW, **kwargs):
    return [Request(str(i), prompt, new_tokens, **kwargs) for i, prompt in enumerate(pair.prompts)]


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 8, 32])
@pytest.mark.parametrize("k", [0, 4, *(pytest.param(k, marks=pytest.mark.slow) for k in (1, 2, 3, 5, 6, 7, 8))])
def test_a_model_drafter_of_any_k_changes_no_token(pair, batch, k):
    rows = requests(pair)[:6] if batch == 1 else requests(pair)
    out, _ = tiny.decode(pair.target, pair.noisy, rows, max_sequences=batch, num_speculative_tokens=k)
    assert tiny.tokens(out, len(rows)) == pair.expected[: len(rows)]


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["coupled", "rejection"])
@pytest.mark.parametrize("batch", [1, 7])
def test_ngram_lookup_changes_no_token(pair, batch, rule):
    out, engine = tiny.decode(
        pair.target,
        NGramDrafter(),
        requests(pair),
        max_sequences=batch,
        num_speculative_tokens=4,
        acceptance_rule=rule,
    )
    assert tiny.tokens(out, len(pair.prompts)) == pair.expected
    assert engine.stats.drafted > 0


@pytest.mark.slow
def test_the_target_alone_gives_what_transformers_gives(pair):
    out, engine = tiny.decode(pair.target, None, requests(pair), max_sequences=6)
    assert tiny.tokens(out, len(pair.prompts)) == pair.expected
    assert engine.stats.drafted == 0
    assert engine.stats.mean_acceptance_length == 1.0


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["coupled", "rejection"])
def test_a_target_may_emit_tokens_that_its_drafter_has_no_embedding_for(rule):
    narrow = tiny.qwen3(seed=9, layers=1)
    narrow.resize_token_embeddings(tiny.VOCAB // 2)
    target = tiny.qwen3()
    rows = tiny.prompts(6)
    expected = tiny.greedy_reference(target, rows, 20)
    assert any(token >= tiny.VOCAB // 2 for row in expected for token in row)
    requests = [Request(str(i), row, 20) for i, row in enumerate(rows)]
    drafter = ModelDrafter(CausalLM(narrow))
    completions, _ = tiny.decode(
        CausalLM(target), drafter, requests, max_sequences=4, num_speculative_tokens=3, acceptance_rule=rule
    )
    assert tiny.tokens(completions, 6) == expected


@pytest.mark.slow
def test_k_auto_changes_no_token(pair):
    out, _ = tiny.decode(pair.target, pair.noisy, requests(pair), max_sequences=8)
    assert tiny.tokens(out, len(pair.prompts)) == pair.expected


class Scripted:
    """A controller that walks through values of k, so that the drafter falls behind and catches up."""

    plain_seconds = None
    is_adaptive = False

    def __init__(self, ks):
        self.ks = itertools.cycle(ks)

    def choose(self, rows, lag, remaining):
        return Choice(next(self.ks), rows)

    def observe(self, report):
        pass


@pytest.mark.slow
@pytest.mark.parametrize("ks", [(0, 5), (3, 0, 0, 0, 0, 0, 0, 0, 8, 1), (1, 2, 3, 4, 0)])
def test_k_may_change_in_every_round(pair, ks):
    engine = general_engine(
        pair.target, pair.twin, EngineConfig(8, 128, Speculation.fixed(8), prefill_chunk=32), controller=Scripted(ks)
    )
    out = {c.request.id: c for c in engine.generate(requests(pair))}
    assert tiny.tokens(out, len(pair.prompts)) == pair.expected
    # The twin agrees with the target wherever its KV is right: one stale or missing entry shows as a rejection.
    assert engine.stats.acceptance_rate == 1.0


def test_a_drafter_that_is_the_target_gains_k_plus_one_tokens_a_round(pair):
    rows = requests(pair)[:8]
    _, engine = tiny.decode(pair.target, pair.twin, rows, max_sequences=8, num_speculative_tokens=4)
    assert engine.stats.acceptance_rate == 1.0
    assert engine.stats.rounds == tiny.NEW / (4 + 1)


@pytest.mark.slow
def test_refilled_slots_carry_nothing_over(pair):
    """Stale KV in a refilled slot lowers acceptance while the text stays right (vLLM #26498)."""
    lengths = itertools.cycle([3, 17, 9, 25])
    rows = [dataclasses.replace(r, max_new_tokens=n) for r, n in zip(requests(pair), lengths, strict=False)]
    out, engine = tiny.decode(pair.target, pair.twin, rows, max_sequences=3, num_speculative_tokens=4)
    assert engine.stats.acceptance_rate == 1.0
    assert all(list(out[r.id].token_ids) == pair.expected[i][: r.max_new_tokens] for i, r in enumerate(rows))


@pytest.mark.slow
def test_order_and_grouping_of_rows_change_nothing(pair):
    rows = requests(pair)
    shuffled = [rows[i] for i in torch.randperm(len(rows), generator=torch.Generator().manual_seed(0)).tolist()]
    for batch in (2, 5, 11):
        out, _ = tiny.decode(pair.target, pair.noisy, shuffled, max_sequences=batch, num_speculative_tokens=3)
        assert tiny.tokens(out, len(rows)) == pair.expected


@pytest.mark.slow
def test_rounds_add_up_to_what_was_committed(pair):
    out, engine = tiny.decode(pair.target, pair.noisy, requests(pair), max_sequences=8, num_speculative_tokens=5)
    stats = engine.stats
    assert stats.emitted == sum(len(c.token_ids) for c in out.values()) <= stats.accepted + stats.row_rounds
    assert stats.accepted == sum(c.accepted for c in out.values()) == sum(stats.accepted_by_position)
    assert stats.drafted == sum(c.drafted for c in out.values()) == sum(stats.drafted_by_position)
    assert stats.row_rounds == sum(c.rounds for c in out.values())
    assert stats.finished == len(out)
    assert stats.active == 0


def test_requests_are_drawn_only_as_slots_come_free(pair):
    drawn = []

    def source():
        for request in requests(pair, new_tokens=5):
            drawn.append(request.id)
            yield request

    engine = general_engine(pair.target, None, EngineConfig(4, 128))
    first = next(engine.generate(source()))
    assert first.request.id in drawn
    assert len(drawn) <= 4


@pytest.mark.slow
def test_a_caller_that_stops_early_leaves_an_engine_that_works(pair):
    engine = general_engine(pair.target, pair.twin, EngineConfig(4, 128, Speculation.fixed(3), prefill_chunk=32))
    stopped = engine.generate(requests(pair))
    next(stopped)
    stopped.close()
    out = {c.request.id: c for c in engine.generate(requests(pair))}
    assert tiny.tokens(out, len(pair.prompts)) == pair.expected


@pytest.mark.slow
def test_a_source_that_ends_for_now_is_asked_again_before_the_next_round(pair):
    """The runner's feed never holds up rows in flight: it says "none yet" and delivers later."""

    class Sluggish:
        def __init__(self, rows):
            self.rows, self.asked = list(rows), 0

        def __iter__(self):
            return self

        def __next__(self):
            self.asked += 1
            if not self.rows or (self.asked % 3 and self.asked > 1):
                raise StopIteration
            return self.rows.pop(0)

    engine = general_engine(pair.target, pair.twin, EngineConfig(4, 128, Speculation.fixed(3), prefill_chunk=32))
    out = {c.request.id: c for c in engine.generate(Sluggish(requests(pair)))}
    assert tiny.tokens(out, len(pair.prompts)) == pair.expected
