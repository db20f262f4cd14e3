"""Groups of rows in flight over several lanes give what one group on one lane gives, however long each lane takes over each thing."""

import functools
import time
from types import SimpleNamespace

import pytest

from specbatch.engine.general.ngram import NGramDrafter
from specbatch.engine.graphs import handover
from specbatch.engine.graphs import pair as pairs
from specbatch.engine.graphs.drafters.paged import PagedDrafter
from specbatch.engine.graphs.handover import Inbox
from specbatch.engine.graphs.pair import CapturedPair
from specbatch.engine.graphs.prefill import Prefill
from tests.engine import tiny
from tests.engine.graphs import fast, threads

SHAPES = {"separate": (1, True), "split, drafter apart": (2, True), "split": (2, False)}


@pytest.fixture(scope="module")
def pair(pair):
    """Of its rows as many as fill all slots twice over: lanes of threads take their time."""
    few = {name: getattr(pair, name)[:12] for name in ("prompts", "expected", "continued")}
    return SimpleNamespace(**vars(pair) | few)


@pytest.fixture
def lanes(monkeypatch):
    """Lanes of threads, and at the end nothing has failed in one."""
    failures = threads.use_threads(monkeypatch)
    yield failures
    assert failures == []


def decoded(pair, shape, groups, k, drafter, rows, **config):
    stages, apart = SHAPES[shape]
    sizes = {"max_sequences": 5, "num_speculative_tokens": k, "max_speculative_tokens": 3}
    spread = {"stages_per_device": stages, "drafter_apart": apart, "micro_batches": groups}
    out, engine = fast.decode(pair.target, drafter, rows, **sizes | spread | config)
    assert engine.runner.groups == groups
    return out, engine


@pytest.mark.slow
def test_two_groups_on_three_lanes_give_the_targets_own_tokens(pair, lanes):
    out, engine = decoded(pair, "split, drafter apart", 2, 2, pair.twin, fast.requests(pair.prompts[:5], 8))
    assert tiny.tokens(out, 5) == [tokens[:8] for tokens in pair.expected[:5]]
    assert len(engine.runner.pair.lanes) == 3
    assert engine.stats.acceptance_rate == 1.0


@pytest.fixture(scope="module")
def alone(pair):
    """(drafter, lengths, parameters, k, rule) -> rows as one group on one lane has them."""

    @functools.cache
    def decoded(drafter, lengths, params, k, rule="coupled"):
        sizes = {"max_sequences": 8, "num_speculative_tokens": k, "acceptance_rule": rule}
        return fast.decode(pair.target, drafter, fast.stopped(pair.prompts, lengths, params), **sizes)[0]

    return decoded


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("groups", "k"), [(1, 3), (2, 3), (3, 3), (4, 1), (2, None), (3, None)])
def test_every_row_has_the_tokens_and_rounds_of_one_group_on_one_lane(pair, alone, lanes, shape, groups, k):
    """With refills, rows that end at their own time, and a twin of the target: KV that is stale or missing would show as a rejection."""
    lengths = [3, 17, 9, 21, 25]
    out, engine = decoded(pair, shape, groups, k, pair.twin, fast.stopped(pair.prompts, lengths))
    assert all(list(out[str(i)].token_ids) == pair.continued[i][: lengths[i % 5]] for i in range(len(pair.prompts)))
    assert engine.stats.acceptance_rate in ((1.0,) if k else (0.0, 1.0))
    if k:
        assert fast.counts(out) == fast.counts(alone(pair.twin, tuple(lengths), fast.GREEDY, k))


@pytest.mark.slow
@pytest.mark.parametrize("drafter", [NGramDrafter(), None], ids=["ngram", "none"])
@pytest.mark.parametrize("groups", [1, 2, 3])
def test_a_split_target_without_a_drafter_model_changes_no_token(pair, lanes, groups, drafter):
    rows = fast.requests(pair.prompts)
    out, engine = decoded(pair, "split", groups, 3, drafter, rows)
    assert tiny.tokens(out, len(rows)) == pair.expected
    assert engine.stats.accepted > 0 or drafter is None


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["coupled", "rejection"])
@pytest.mark.parametrize("shape", SHAPES)
def test_drawn_rows_are_those_of_one_group(pair, alone, lanes, shape, rule):
    lengths = (24, 7, 15)
    rows = fast.stopped(pair.prompts, lengths, fast.MIXED)
    out, _ = decoded(pair, shape, 3, 3, pair.noisy, rows, acceptance_rule=rule)
    expected = alone(pair.noisy, lengths, fast.MIXED, 3, rule)
    assert tiny.tokens(out, len(rows)) == tiny.tokens(expected, len(rows))


@pytest.mark.slow
@pytest.mark.parametrize("ks", [(0, 3, 0, 1), (3, 0, 0, 2, 1)])
@pytest.mark.parametrize("shape", SHAPES)
def test_k_may_change_in_every_round_of_every_group(pair, lanes, shape, ks):
    controller = fast.Scripted(ks)
    rows = fast.stopped(pair.prompts)
    out, engine = decoded(pair, shape, 2, 3, pair.twin, rows, controller=controller)
    assert tiny.tokens(out, len(rows)) == pair.expected
    assert engine.stats.acceptance_rate == 1.0
    assert max(controller.lags) > 0


@pytest.mark.slow
@pytest.mark.parametrize("pages", [(4, 1000), (7, 1000), (1000, 5)], ids=["few", "some", "few of the drafter"])
@pytest.mark.parametrize("shape", SHAPES)
def test_rows_are_preempted_while_several_groups_are_in_flight(pair, lanes, monkeypatch, shape, pages):
    monkeypatch.setattr(pairs, "page_counts", lambda *_: pages)
    rows = fast.requests(pair.prompts)
    out, engine = decoded(pair, shape, 3, 3, pair.twin, rows, max_sequences=6)
    assert tiny.tokens(out, len(rows)) == pair.expected
    assert engine.stats.acceptance_rate == 1.0
    assert engine.runner.pair.target_pool.free == pages[0]


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("k", "pages"), [(3, 1000), (None, 1000), (2, 6), ((0, 3, 1, 0), 1000)])
def test_rows_that_are_dealt_out_anew_at_any_moment_have_the_same_tokens(pair, lanes, monkeypatch, shape, k, pages):
    """With refills, rows that end, preemption where pages are few, and a twin: KV that went astray would show as a rejection."""
    monkeypatch.setattr(pairs, "page_counts", lambda *_: (pages, 1000))
    stages, apart = SHAPES[shape]
    lengths = [3, 17, 9, 21, 25]
    controller = fast.Scripted(k) if isinstance(k, tuple) else None
    sizes = {"max_sequences": 6, "num_speculative_tokens": 3 if controller else k, "max_speculative_tokens": 3}
    made = fast.engine(pair.target, pair.twin, controller, stages_per_device=stages, drafter_apart=apart, **sizes)
    if controller:
        controller.follow(made)
    seen = fast.regrouped_at_random(made, seed=len(shape))
    out = fast.finish(made, fast.stopped(pair.prompts, lengths))
    assert all(list(out[str(i)].token_ids) == pair.continued[i][: lengths[i % 5]] for i in range(len(pair.prompts)))
    assert made.stats.acceptance_rate in ((0.0, 1.0) if k is None else (1.0,))
    assert len(set(seen)) > 2
    assert made.runner.pair.target_pool.free == pages


@pytest.mark.slow
@pytest.mark.usefixtures("lanes")
def test_rows_are_dealt_out_anew_when_rounds_say_so(pair, monkeypatch):
    made = fast.engine(
        pair.target, pair.twin, max_sequences=4, num_speculative_tokens=2, drafter_apart=True, stages_per_device=1
    )
    made.warmup()
    before = made.runner.groups
    monkeypatch.setattr(made.regrouping, "groups", lambda rows: 1 + (before == 1) if rows else made.runner.groups)
    out = fast.finish(made, fast.requests(pair.prompts[:4], 12))
    assert tiny.tokens(out, 4) == [tokens[:12] for tokens in pair.expected[:4]]
    assert made.runner.groups == made.stats.micro_batches != before
    assert made.stats.rounds_by_micro_batches[before] < made.stats.rounds_by_micro_batches[made.runner.groups]


@pytest.mark.slow
@pytest.mark.parametrize("groups", [2, 3])
def test_groups_on_one_lane_change_no_token(pair, groups):
    rows = fast.stopped(pair.prompts, [3, 17, 9, 21, 25])
    out, engine = fast.decode(
        pair.target, pair.twin, rows, max_sequences=5, num_speculative_tokens=3, micro_batches=groups
    )
    assert all(list(out[str(i)].token_ids) == pair.continued[i][: (3, 17, 9, 21, 25)[i % 5]] for i in range(len(rows)))
    assert engine.stats.acceptance_rate == 1.0
    assert len(engine.runner.pair.lanes) == 1


@pytest.mark.slow
@pytest.mark.usefixtures("lanes")
def test_while_the_target_prefills_joining_rows_the_drafter_does_too_and_drafts_for_other_groups(pair, monkeypatch):
    made = fast.engine(
        pair.target, pair.twin, max_sequences=4, num_speculative_tokens=2, drafter_apart=True, micro_batches=2
    )
    made.warmup()
    began = {"prefill": [], "catch-up": [], "draft": []}
    ended = []
    forward, draft = Prefill.forward, PagedDrafter.draft_first

    def filled(self, capture, size):
        of_target = self.decoder is made.runner.pair.target
        began["prefill" if of_target else "catch-up"].append(time.perf_counter())
        if of_target:
            time.sleep(0.1)
        forward(self, capture, size)
        ended.extend([time.perf_counter()] * of_target)

    def drafted(self, *arguments):
        began["draft"].append(time.perf_counter())
        draft(self, *arguments)

    monkeypatch.setattr(Prefill, "forward", filled)
    monkeypatch.setattr(PagedDrafter, "draft_first", drafted)
    out = fast.finish(made, fast.stopped(pair.prompts[:10], [3, 20, 9, 15]))
    assert len(out) == 10
    prefills = list(zip(began["prefill"], ended, strict=True))
    for work in ("catch-up", "draft"):
        assert any(start < at < end for at in began[work] for start, end in prefills[1:]), work


def test_one_lane_has_one_group_unless_more_are_asked_for(pair):
    _, engine = fast.decode(pair.target, None, fast.requests(pair.prompts[:1], 2), max_sequences=2)
    assert engine.runner.groups == 1


def test_a_row_joins_the_group_with_the_fewest_rows(pair, monkeypatch):
    engine = fast.engine(pair.target, None, max_sequences=4, num_speculative_tokens=0, micro_batches=2)
    seen, prefill = [], engine.runner.prefill

    def spied(sequences):
        running = engine.scheduler.running
        before = [sum(s.group == group for s in running) for group in range(2)]
        seen.append((before, [s.group for s in sequences]))
        return prefill(sequences)

    monkeypatch.setattr(engine.runner, "prefill", spied)
    fast.finish(engine, fast.stopped(pair.prompts[:7], [3, 9, 4]))
    assert seen[0] == ([0, 0], [0, 1, 0, 1])
    assert all(groups[0] == before.index(min(before)) for before, groups in seen)
    assert len(seen) > 2


# -- what would go wrong, does so on lanes of threads ---------------------------------------------------------------------


def rows_that_differ(pair, monkeypatch, shape, groups):
    """How many rows of a run have other tokens, or rejections by a twin."""
    failures = threads.use_threads(monkeypatch, 0.001, last=0.006)
    lengths = [3, 17, 9, 21, 25]
    drafter = None if shape == "split" else pair.twin
    rows = fast.stopped(pair.prompts, lengths)
    out, engine = decoded(pair, shape, groups, 3 if drafter else 0, drafter, rows, max_sequences=6)
    right = [list(out[str(i)].token_ids) == pair.continued[i][: lengths[i % 5]] for i in range(len(rows))]
    return right.count(False) + (engine.stats.drafted - engine.stats.accepted) + len(failures)


def ready():
    moment = threads.Moment()
    moment.reach()
    return moment


def shared(inbox, group):
    """What a group is told, in the memory of the first one."""
    told = TOLD(inbox, group)
    for first in inbox._groups[:1]:
        told.memory, told.rows, told.outcome, told.drafts = first.memory, first.rows, first.outcome, first.drafts
    return told


TOLD = handover._Told
MISTAKES = {
    "what is posted is not waited for": ("separate", 3, threads.ThreadMailbox, "take", lambda self: None),
    "what was posted may be posted over": (
        "split",
        3,
        threads._Turn,
        "read_before",
        property(lambda self: ready(), lambda *_: None),
    ),
    "outcomes of evicted rows count": ("separate", 3, Inbox, "evict", lambda self, slot: None),
    "outcomes are not taken in": ("split", 3, Inbox, "_apply", lambda self, rows: None),
    "groups share what is placed": (
        "split, drafter apart",
        3,
        handover,
        "_Told",
        shared,
    ),
}


@pytest.fixture(scope="module")
def right(pair):
    """(shape, groups) -> whether all rows are right without a mistake."""

    @functools.cache
    def found(shape, groups):
        with pytest.MonkeyPatch.context() as patched:
            return rows_that_differ(pair, patched, shape, groups) == 0

    return found


@pytest.mark.slow
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_the_order_of_lanes_shows(pair, right, monkeypatch, mistake):
    shape, groups, owner, name, wrong = MISTAKES[mistake]
    assert right(shape, groups)
    monkeypatch.setattr(owner, name, wrong, raising=False)
    assert rows_that_differ(pair, monkeypatch, shape, groups) > 0


@pytest.mark.slow
def test_rows_that_are_dealt_out_before_all_lanes_know_of_their_last_round_show(pair, monkeypatch):
    threads.use_threads(monkeypatch)
    monkeypatch.setattr(CapturedPair, "settle", lambda self: None)
    made = fast.engine(pair.target, pair.twin, max_sequences=6, num_speculative_tokens=3, drafter_apart=True)
    fast.regrouped_at_random(made, seed=1)
    fast.finish(made, fast.requests(pair.prompts))
    assert made.stats.acceptance_rate < 1.0
