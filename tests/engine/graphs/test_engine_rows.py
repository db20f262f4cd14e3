"""Rows of the fast path come and go as those of the general engine, though the host looks a round late."""

import dataclasses

import pytest

from specbatch.engine.request import Request
from tests.engine import tiny
from tests.engine.graphs import fast
from tests.engine.test_engine_ending import StopAt

SIZES = {"max_sequences": 4, "num_speculative_tokens": 3}


@pytest.mark.parametrize("offset", range(10))
@pytest.mark.parametrize("k", [0, 4])
def test_an_eos_token_at_any_draft_offset_is_the_rows_last(pair, offset, k):
    expected = pair.expected[5]
    first = expected.index(expected[offset])
    request = Request("0", pair.prompts[5], tiny.NEW, eos_token_ids=frozenset({expected[offset]}))
    out, engine = fast.decode(pair.target, pair.twin, [request], max_sequences=1, num_speculative_tokens=k)
    assert list(out["0"].token_ids) == expected[: first + 1]
    assert out["0"].finish_reason == "stop"
    assert out["0"].rounds == engine.stats.rounds == first // (k + 1) + 1  # not the one that was under way


@pytest.mark.parametrize("new_tokens", range(1, 12))
def test_max_new_tokens_cuts_at_any_draft_offset(pair, new_tokens):
    rows = [Request("0", pair.prompts[5], new_tokens)]
    out, engine = fast.decode(pair.target, pair.twin, rows, max_sequences=1, num_speculative_tokens=4)
    assert list(out["0"].token_ids) == pair.expected[5][:new_tokens]
    assert out["0"].finish_reason == "length"
    assert engine.stats.emitted == new_tokens


@pytest.mark.parametrize("n", range(1, 12))
def test_a_stop_string_completed_at_any_draft_offset_ends_the_row_there(pair, n):
    stop = StopAt(n)
    rows = [Request("0", pair.prompts[5], tiny.NEW, stop=stop)]
    out, _ = fast.decode(pair.target, pair.twin, rows, max_sequences=1, num_speculative_tokens=4)
    assert list(out["0"].token_ids) == pair.expected[5][:n]
    assert out["0"].finish_reason == "stop"
    assert stop.fed == pair.expected[5][: -(-n // 5) * 5]  # nothing of the round under way


@pytest.mark.parametrize("k", [0, 4, 8])
def test_a_row_may_fill_max_length_to_the_last_token(pair, k):
    prompt = pair.prompts[5]
    rows, longest = [Request("0", prompt, 10)], len(prompt) + 10
    out, _ = fast.decode(pair.target, pair.twin, rows, max_sequences=1, num_speculative_tokens=k, max_length=longest)
    assert list(out["0"].token_ids) == pair.expected[5][:10]


def ending_early(pair):
    """Rows that end at different tokens, two in three at an end-of-sequence token."""
    return [
        dataclasses.replace(row, eos_token_ids=frozenset({pair.expected[i][i % 13]} if i % 3 else ()))
        for i, row in enumerate(fast.stopped(pair.prompts))
    ]


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 4, 32])
def test_nothing_of_a_late_round_leaks_into_rows_that_ended_or_their_counts(pair, batch):
    for drafter in (pair.noisy, fast.OwnText()):
        sizes = {"max_sequences": batch, "num_speculative_tokens": 3}
        count = 7 if batch == 1 else 20
        out, engine = fast.decode(pair.target, drafter, ending_early(pair)[:count], **sizes)
        general, reference = tiny.decode(pair.target, drafter, ending_early(pair)[:count], **sizes)
        assert tiny.tokens(out, count) == tiny.tokens(general, count)
        assert fast.counts(out) == fast.counts(general)
        assert {name: c.finish_reason for name, c in out.items()} == {n: c.finish_reason for n, c in general.items()}
        for count in ("row_rounds", "drafted", "accepted", "emitted", "finished"):
            assert getattr(engine.stats, count) == getattr(reference.stats, count)
        assert engine.stats.drafted_by_position == reference.stats.drafted_by_position
        assert engine.stats.accepted_by_position == reference.stats.accepted_by_position


@pytest.mark.slow
def test_rows_that_end_in_different_ways_share_a_batch(pair):
    rows = [
        Request("0", pair.prompts[0], tiny.NEW, eos_token_ids=frozenset({pair.expected[0][7]})),
        Request("1", pair.prompts[1], 3),
        Request("2", pair.prompts[2], tiny.NEW, stop=StopAt(11)),
        Request("3", pair.prompts[3], 20),
    ]
    out, _ = fast.decode(pair.target, pair.noisy, rows, **SIZES)
    assert [out[str(i)].finish_reason for i in range(4)] == ["stop", "length", "stop", "length"]
    for i in range(4):
        got = list(out[str(i)].token_ids)
        assert got == pair.expected[i][: len(got)]


def test_requests_are_drawn_only_as_slots_come_free(pair):
    drawn = []

    def source():
        for request in fast.requests(pair.prompts, 5):
            drawn.append(request.id)
            yield request

    engine = fast.engine(pair.target, None, max_sequences=4)
    first = next(engine.generate(source()))
    assert first.request.id in drawn
    assert len(drawn) <= 4


@pytest.mark.slow
def test_a_caller_that_stops_early_leaves_an_engine_that_works(pair):
    engine = fast.engine(pair.target, pair.twin, **SIZES)
    stopped = engine.generate(fast.requests(pair.prompts))
    next(stopped)
    stopped.close()
    assert engine.stats.active == 0
    assert engine.runner.pair.target_pool.free == engine.runner.pair.target_pool.pages
    out = fast.finish(engine, fast.requests(pair.prompts))
    assert tiny.tokens(out, len(pair.prompts)) == pair.expected


@pytest.mark.slow
def test_an_engine_that_is_done_holds_nothing(pair):
    _, engine = fast.decode(pair.target, pair.noisy, fast.requests(pair.prompts[:6], 5), **SIZES)
    on = engine.runner.pair
    assert on.target_pool.free == on.target_pool.pages
    assert on.drafter.pool.free == on.drafter.pool.pages
    assert sorted(engine.runner._free_slots) == list(range(4))


class Sluggish:
    """Has a row every third time it is asked, and says that it ends the other times."""

    def __init__(self, rows):
        self.rows, self.asked = list(rows), 0

    def __iter__(self):
        return self

    def __next__(self):
        self.asked += 1
        if not self.rows or (self.asked % 3 and self.asked > 1):
            raise StopIteration
        return self.rows.pop(0)


@pytest.mark.slow
def test_a_source_that_ends_for_now_is_asked_again_before_the_next_round(pair):
    out, engine = fast.decode(pair.target, pair.twin, Sluggish(fast.requests(pair.prompts)), **SIZES)
    assert tiny.tokens(out, len(pair.prompts)) == pair.expected
    assert engine.stats.acceptance_rate == 1.0


@pytest.mark.slow
def test_a_few_short_rows_wait_for_company_while_many_decode(pair):
    """With 32 slots, one that comes free is filled together with the next one; nobody waits when the source runs dry."""
    joined = []
    engine = fast.engine(pair.target, None, max_sequences=32)
    join = engine.runner.prefill
    engine.runner.prefill = lambda rows: joined.append(len(rows)) or join(rows)
    rows = [Request(str(i), pair.prompts[i % 20][:9], 3 + i % 32) for i in range(64)]
    out = fast.finish(engine, rows)
    assert len(out) == 64
    assert joined[0] == 32
    assert sum(joined) == 64
    assert min(joined[1:-2]) > 2  # one ends a round
    for i in range(44):  # rows of one prompt, of different lengths
        one, other = list(out[str(i)].token_ids), list(out[str(i + 20)].token_ids)
        assert one[: len(other)] == other[: len(one)]


@pytest.mark.slow
def test_long_prompts_join_one_forward_at_a_time_while_more_than_half_of_the_slots_decode(pair):
    prompts = [prompt * 20 for prompt in pair.prompts]
    rows = [Request(str(i), prompt[:60], 3 + 3 * (i % 5)) for i, prompt in enumerate(prompts)]
    joined = []
    engine = fast.engine(pair.target, pair.twin, **SIZES, graphs_prefill_chunk=64)
    join = engine.runner.prefill
    engine.runner.prefill = lambda rows: joined.append((len(engine.scheduler.running), len(rows))) or join(rows)
    out = fast.finish(engine, rows)
    assert len(out) == 20
    assert all(count == 1 for running, count in joined if running > 2)
    assert engine.stats.acceptance_rate == 1.0


@pytest.mark.parametrize(
    "request_",
    [Request("x", [], 5), Request("x", [1, 2], 0), Request("x", [1] * 100, 100)],
    ids=["empty prompt", "no new tokens", "longer than max_length"],
)
def test_requests_that_the_runner_must_refuse_are_not_decoded(pair, request_):
    with pytest.raises(AssertionError, match="row x"):
        fast.decode(pair.target, None, [request_], max_sequences=1)
