"""Pages and memory that run out, and rows of NaN: what the fast path makes of them."""

import pytest
import torch

from specbatch.engine.graphs import pair as pairs
from specbatch.engine.graphs.decoder import Decoder
from specbatch.engine.graphs.kv.paging import PAGE
from specbatch.engine.graphs.state import RowState
from specbatch.engine.request import Request
from specbatch.engine.sequence import SequenceState
from specbatch.errors import DeviceError, OutOfMemoryError
from tests.engine import tiny
from tests.engine.graphs import fast


def few_pages(monkeypatch, target, drafter=1000):
    monkeypatch.setattr(pairs, "page_counts", lambda *_: (target, drafter))


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["coupled", "rejection"])
@pytest.mark.parametrize("pages", [3, 5, 9])
def test_rows_are_preempted_when_pages_run_out_and_nothing_is_lost_or_changed(pair, monkeypatch, pages, rule):
    few_pages(monkeypatch, pages)
    rows = fast.requests(pair.prompts)
    engine = fast.engine(pair.target, pair.twin, max_sequences=8, num_speculative_tokens=3, acceptance_rule=rule)
    joined = []
    join = engine.runner.prefill
    monkeypatch.setattr(engine.runner, "prefill", lambda rows: joined.extend(rows) or join(rows))
    out = fast.finish(engine, rows)
    assert tiny.tokens(out, len(rows)) == pair.expected
    assert len(joined) > len(rows) or pages == 3
    assert engine.stats.acceptance_rate == 1.0
    assert engine.stats.row_rounds == sum(c.rounds for c in out.values())
    assert engine.runner.pair.target_pool.free == pages


@pytest.mark.slow
@pytest.mark.parametrize(("ample", "uploads"), [(True, 1), (False, 3)])
def test_where_pages_suffice_for_all_rows_a_row_has_all_of_its_as_it_joins(pair, monkeypatch, ample, uploads):
    if not ample:
        few_pages(monkeypatch, 7, 7)  # of 8: enough for these rows, not for the longest
    engine = fast.engine(pair.target, pair.twin, max_sequences=4, num_speculative_tokens=3)
    engine.warmup()
    pool, seen = engine.runner.pair.target_pool, []
    monkeypatch.setattr(pool, "upload", lambda upload=pool.upload: (seen.append(pool.table.changed), upload()))
    rows = [[7] * 50, [8] * 55]  # they grow into their second page after a few rounds
    fast.finish(engine, fast.requests(rows, 25))
    assert pool.ample == ample
    assert seen.count(True) == uploads
    assert pool.free == pool.pages


@pytest.mark.slow
def test_rows_decode_without_drafts_where_the_drafters_pages_run_out(pair, monkeypatch):
    few_pages(monkeypatch, 1000, 5)
    rows = fast.requests(pair.prompts)
    out, engine = fast.decode(pair.target, pair.twin, rows, max_sequences=8, num_speculative_tokens=3)
    assert tiny.tokens(out, len(rows)) == pair.expected
    assert {k for _, k in engine.stats.k_changes} == {0, 3}
    assert engine.stats.acceptance_rate == 1.0


def test_the_room_for_joining_rows_is_the_drafters_where_that_is_less(pair, monkeypatch):
    def rooms(running=()):
        return [engine.runner.room(running, drafting=drafting) for drafting in (True, False)]

    few_pages(monkeypatch, 1000, 20)  # eight rows of three pages each would take 24, and have half of them for certain
    engine = fast.engine(pair.target, pair.twin, max_sequences=8, num_speculative_tokens=3)
    assert rooms() == [20, 1000]
    long = [SequenceState(Request(str(i), [1] * 100, 9)) for i in range(3)]
    assert rooms(long) == [20 - 3 * 2 - 3, 1000]
    few_pages(monkeypatch, 1000, 11)  # fewer: it was not meant for all, and no row is to wait for it
    engine = fast.engine(pair.target, pair.twin, max_sequences=8, num_speculative_tokens=3)
    assert rooms() == [1000, 1000]


FULL = torch.OutOfMemoryError("CUDA out of memory")


def fail(monkeypatch, when, error=FULL):
    """The decoders' forwards raise where `when` says so of (call, tokens)."""
    real, calls = Decoder.forward, []

    def forward(self, capture, tokens, at, taps=None):
        calls.append(len(tokens))
        if when(len(calls), len(tokens)):
            raise error
        return real(self, capture, tokens, at, taps)

    monkeypatch.setattr(Decoder, "forward", forward)
    return calls


@pytest.mark.slow
@pytest.mark.parametrize("k", [3, None])
def test_out_of_memory_at_warmup_halves_the_slots_and_changes_no_token(pair, monkeypatch, k):
    fail(monkeypatch, lambda _, tokens: tokens > 40)
    rows = fast.requests(pair.prompts)
    out, engine = fast.decode(pair.target, pair.noisy, rows, max_sequences=32, num_speculative_tokens=k)
    assert tiny.tokens(out, len(rows)) == pair.expected
    assert engine.stats.max_sequences == (8 if k else 4)
    assert engine.stats.finished == 20


@pytest.mark.slow
@pytest.mark.parametrize("sampled", [False, True])
def test_running_out_in_the_middle_of_rows_keeps_what_they_have(pair, monkeypatch, sampled):
    rows = fast.requests(pair.prompts, params=fast.MIXED if sampled else fast.MIXED[1:2])
    sizes = {"max_sequences": 16, "num_speculative_tokens": 3}
    alone, _ = fast.decode(pair.target, pair.twin, rows, **sizes)
    engine = fast.engine(pair.target, pair.twin, **sizes)
    engine.warmup()
    stage = iter([20, 45])  # forwards after which the next one fails; each failure warms up anew
    due, seen = [next(stage)], [0]

    def when(call, tokens):
        if engine.runner.warm and due:
            seen[0] += 1
            if seen[0] == due[0]:
                due[:] = [n for n in [next(stage, None)] if n]
                return True
        return False

    fail(monkeypatch, when)
    out = fast.finish(engine, rows)
    assert tiny.tokens(out, len(rows)) == tiny.tokens(alone, len(rows))
    assert engine.stats.max_sequences == 4
    assert engine.stats.acceptance_rate == 1.0
    assert engine.stats.finished == 20


@pytest.mark.slow
@pytest.mark.parametrize("fitting", [0, 3])
def test_kv_that_does_not_fit_in_the_first_place_is_met_with_fewer_slots(pair, monkeypatch, fitting):
    """A device may say so when the pages are taken, long before the first forward."""
    real = pairs.page_counts

    def limited(target, drafter, slots, *others):
        if slots > fitting:
            raise FULL
        return real(target, drafter, slots, *others)

    monkeypatch.setattr(pairs, "page_counts", limited)
    rows = fast.requests(pair.prompts)
    if fitting:
        out, engine = fast.decode(pair.target, pair.twin, rows, max_sequences=8, num_speculative_tokens=3)
        assert tiny.tokens(out, len(rows)) == pair.expected
        assert engine.stats.max_sequences == 2
    else:
        with pytest.raises(OutOfMemoryError, match="maxLength"):
            fast.decode(pair.target, pair.twin, rows, max_sequences=8)


@pytest.mark.slow
def test_one_row_that_does_not_fit_is_an_error_with_a_remedy(pair, monkeypatch):
    fail(monkeypatch, lambda *_: True)
    with pytest.raises(OutOfMemoryError, match="maxLength") as caught:
        fast.decode(pair.target, None, fast.requests(pair.prompts), max_sequences=4)
    assert caught.value.exit_code == 70


def test_an_error_of_another_kind_is_not_swallowed(pair, monkeypatch):
    fail(monkeypatch, lambda *_: True, RuntimeError("size mismatch"))
    with pytest.raises(RuntimeError, match="size mismatch"):
        fast.decode(pair.target, None, fast.requests(pair.prompts), max_sequences=4)


def test_a_gpu_that_fails_ends_with_its_own_exit_code(pair, monkeypatch):
    fail(monkeypatch, lambda *_: True, torch.AcceleratorError("CUDA error: Xid"))
    with pytest.raises(DeviceError, match="Xid") as caught:
        fast.decode(pair.target, None, fast.requests(pair.prompts), max_sequences=4)
    assert caught.value.exit_code == 69


def poisoned(engine, bad):
    """From its fourth token on, logits and KV of the row are NaN."""
    on, real = engine.runner.pair, engine.runner.pair.target.logits

    def logits(capture, hidden, at):
        out, at = real(capture, hidden, at)
        out = out.clone()
        lines = out.view(-1, len(out) // engine.rows, out.shape[-1])
        for sequence in engine.scheduler.running:
            if sequence.request.id == bad and len(sequence.token_ids) > 3:
                lines[on.state.rows[: engine.rows] == sequence.slot] = torch.nan
                for pages in (on.target.stages[0].pages, on.drafter.decoder.stages[0].pages):
                    held = pages.table[sequence.slot].unique()
                    for layer in (*pages.keys, *pages.values):
                        layer[held] = torch.nan
        return out, at

    return logits


@pytest.fixture(scope="module")
def undisturbed(pair):
    """Requests by whether they are sampled, and what becomes of them, with however many others and pages."""

    def decoded(params):
        rows = fast.requests(pair.prompts, params=params)
        return rows, fast.decode(pair.target, pair.noisy, rows, max_sequences=8, num_speculative_tokens=3)[0]

    return {False: decoded(fast.MIXED[1:2]), True: decoded(fast.MIXED)}


@pytest.mark.slow
@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("batch", [1, 3, 8])
def test_a_row_of_nan_ends_as_an_error_and_poisons_no_other(pair, undisturbed, monkeypatch, batch, sampled):
    """Its pages are full of NaN: whoever gets them next must not read it."""
    few_pages(monkeypatch, 3 * batch, 3 * batch)
    rows, expected = undisturbed[sampled]
    rows = rows[: 8 if batch == 1 else None]
    engine = fast.engine(pair.target, pair.noisy, max_sequences=batch, num_speculative_tokens=3)
    engine.warmup()
    verify, bad = engine.runner.pair.verify, "4"

    def spied(rows, k, mode):
        engine.rows = rows
        verify(rows, k, mode)

    monkeypatch.setattr(engine.runner.pair, "verify", spied)
    monkeypatch.setattr(engine.runner.pair.target, "logits", poisoned(engine, bad))
    out = fast.finish(engine, rows)
    assert out[bad].finish_reason == "error"
    assert "not finite" in out[bad].error
    assert list(out[bad].token_ids) == list(expected[bad].token_ids)[: len(out[bad].token_ids)]
    assert (engine.stats.failed, engine.stats.finished) == (1, len(rows) - 1)
    for name in {*out} - {bad}:
        assert list(out[name].token_ids) == list(expected[name].token_ids)
        assert fast.counts(out)[name] == fast.counts(expected)[name]


def poison(on, state: RowState):
    """NaN wherever no row has KV: free pages, the padding page, and what lies at and beyond each row's last token."""
    for decoder, pool in ((on.target, on.target_pool), (on.drafter.decoder, on.drafter.pool)):
        missing = 0 if decoder is on.target else 1  # the drafter may lack the token before the last
        pages = decoder.stages[0].pages
        for layer in (*pages.keys, *pages.values):
            layer[[0, *pool.allocator.unused]] = torch.nan
            for slot, held in enumerate(pool.held):
                for number, page in enumerate(held):
                    beyond = int(state.lengths[slot]) - missing - number * PAGE
                    layer[page, :, max(0, beyond) :] = torch.nan


@pytest.mark.slow
@pytest.mark.parametrize("k", [0, 3])
def test_what_lies_in_free_pages_and_beyond_a_row_is_never_read(pair, monkeypatch, k):
    engine = fast.engine(pair.target, pair.twin, max_sequences=5, num_speculative_tokens=k)
    engine.warmup()
    on = engine.runner.pair
    verify = on.verify

    def spied(rows, k, mode):
        verify(rows, k, mode)
        poison(on, on.state)

    monkeypatch.setattr(on, "verify", spied)
    rows = fast.requests(pair.prompts)
    out = fast.finish(engine, rows)
    assert tiny.tokens(out, len(rows)) == pair.expected
    assert engine.stats.acceptance_rate == (1.0 if k else 0.0)
