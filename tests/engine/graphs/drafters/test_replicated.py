"""Several drafters, each for groups of its own, give the tokens and rounds of one drafter and one group."""

import pytest

from specbatch.engine.general.drafter import ModelDrafter
from specbatch.engine.graphs import pair as pairs
from specbatch.engine.graphs.drafters.paged import PagedDrafter
from specbatch.engine.graphs.drafters.replicated import ReplicatedDrafter
from tests.engine import tiny
from tests.engine.graphs import fast, threads

LENGTHS = [3, 17, 9, 21, 25]


@pytest.fixture
def lanes(monkeypatch):
    """Lanes of threads, and at the end nothing has failed in one."""
    failures = threads.use_threads(monkeypatch)
    yield failures
    assert failures == []


def replicated(drafter, count):
    """The same model several times; each has KV and lanes of its own in the engine."""
    return ModelDrafter(drafter.model, replicas=[drafter.model] * (count - 1))


def made(pair, drafter, count, k, controller=None, stages=1, **config):
    sizes = {"max_sequences": 6, "num_speculative_tokens": k, "max_speculative_tokens": 3}
    spread = {"stages_per_device": stages, "drafter_apart": True}
    return fast.engine(pair.target, replicated(drafter, count), controller, **sizes | spread | config)


def assert_rows_are_right(pair, out):
    assert all(list(out[str(i)].token_ids) == pair.continued[i][: LENGTHS[i % 5]] for i in range(len(pair.prompts)))


@pytest.mark.slow
@pytest.mark.parametrize(("count", "groups", "stages", "k"), [(2, 3, 2, 3), (3, 4, 1, 1), (2, 2, 1, None)])
def test_every_row_has_the_tokens_and_rounds_of_one_group_on_one_lane(pair, lanes, count, groups, stages, k):
    """With refills, rows that end at their own time, and a twin of the target: KV that is stale or missing would show as a rejection."""
    engine = made(pair, pair.twin, count, k, stages=stages, micro_batches=groups)
    out = fast.finish(engine, fast.stopped(pair.prompts, LENGTHS))
    assert_rows_are_right(pair, out)
    assert engine.stats.acceptance_rate in ((1.0,) if k else (0.0, 1.0))
    assert isinstance(engine.runner.pair.drafter, ReplicatedDrafter)
    assert len(engine.runner.pair.lanes) == stages + count
    if k:
        sizes = {"max_sequences": 6, "num_speculative_tokens": k}
        alone, _ = fast.decode(pair.target, pair.twin, fast.stopped(pair.prompts, LENGTHS), **sizes)
        assert fast.counts(out) == fast.counts(alone)


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["coupled", "rejection"])
def test_drawn_rows_are_those_of_one_group(pair, lanes, rule):
    rows = fast.stopped(pair.prompts[:9], [14, 7, 10], fast.MIXED)
    sizes = {"max_sequences": 6, "num_speculative_tokens": 3, "acceptance_rule": rule}
    alone, _ = fast.decode(pair.target, pair.noisy, rows, **sizes)
    engine = made(pair, pair.noisy, 2, 3, acceptance_rule=rule, micro_batches=3)
    out = fast.finish(engine, fast.stopped(pair.prompts[:9], [14, 7, 10], fast.MIXED))
    assert tiny.tokens(out, len(rows)) == tiny.tokens(alone, len(rows))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("k", "pages"),
    [(None, (1000, 1000)), (2, (6, 1000)), ((0, 3, 1, 0), (1000, 1000)), ((3, 0, 2), (1000, 8))],
    ids=["auto", "few pages", "changing k", "few pages of each drafter"],
)
def test_rows_that_change_drafters_at_any_moment_have_the_same_tokens(pair, lanes, monkeypatch, k, pages):
    monkeypatch.setattr(pairs, "page_counts", lambda *_: pages)
    controller = fast.Scripted(k) if isinstance(k, tuple) else None
    engine = made(pair, pair.twin, 2, 3 if controller else k, controller)
    if controller:
        controller.follow(engine)
    seen, moved = fast.regrouped_at_random(engine, seed=3), []
    leave = PagedDrafter.leave
    monkeypatch.setattr(PagedDrafter, "leave", lambda self, slot: (moved.append(slot), leave(self, slot)))
    out = fast.finish(engine, fast.stopped(pair.prompts, LENGTHS))
    assert_rows_are_right(pair, out)
    assert engine.stats.acceptance_rate in ((0.0, 1.0) if k is None else (1.0,))
    assert len(set(seen)) > 2
    assert moved
    assert [pool.free for pool in engine.runner.pair.pools] == [pages[0], pages[1], pages[1]]


@pytest.mark.slow
def test_a_windowed_drafter_may_have_replicas(pair, lanes):
    engine = made(pair, pair.twin, 2, 2, drafter_window=8, max_length=256, micro_batches=3)
    out = fast.finish(engine, fast.stopped(pair.prompts, LENGTHS))
    assert_rows_are_right(pair, out)
    assert engine.stats.accepted > 0


@pytest.mark.slow
def test_a_row_that_changes_drafters_and_is_not_caught_up_with_shows(pair, monkeypatch):
    threads.use_threads(monkeypatch)
    monkeypatch.setattr(ReplicatedDrafter, "regrouped", lambda self, sequences: None)
    engine = made(pair, pair.twin, 2, 3)
    fast.regrouped_at_random(engine, seed=1)
    assert_rows_are_right(pair, fast.finish(engine, fast.stopped(pair.prompts, LENGTHS)))
    assert engine.stats.acceptance_rate < 1.0


@pytest.mark.slow
@pytest.mark.usefixtures("lanes")
def test_each_drafter_drafts_for_its_groups_alone(pair, monkeypatch):
    engine = made(pair, pair.twin, 2, 2, micro_batches=4)
    engine.warmup()
    drafted = []
    propose = PagedDrafter.propose

    def proposed(self, *arguments):
        drafted.append((engine.runner.pair.drafter.group, engine.runner.pair.drafter.replicas.index(self)))
        propose(self, *arguments)

    monkeypatch.setattr(PagedDrafter, "propose", proposed)
    fast.finish(engine, fast.requests(pair.prompts, 9))
    assert {*drafted} == {(0, 0), (1, 1), (2, 0), (3, 1)}


def test_there_are_no_more_drafters_than_groups_and_one_on_one_lane(pair):
    assert made(pair, pair.twin, 3, 2, micro_batches=2).runner.drafters == 2
    assert made(pair, pair.twin, 3, 2, drafter_apart=False).runner.drafters == 1


def test_rows_are_dealt_out_evenly_and_keep_their_drafter_where_that_is_even(pair):
    engine = made(pair, pair.twin, 2, 2)
    scheduler, engine.runner.groups = engine.scheduler, 2
    from specbatch.engine.sequence import SequenceState

    scheduler.running = [SequenceState(request) for request in fast.requests(pair.prompts[:6])]
    for number, sequence in enumerate(scheduler.running):
        sequence.group, sequence.slot = number % 2, number
    before = [sequence.group % 2 for sequence in scheduler.running]
    scheduler.regroup(4)
    assert [sequence.group % 2 for sequence in scheduler.running] == before
    assert sorted([s.group for s in scheduler.running].count(group) for group in range(4)) == [1, 1, 2, 2]
    scheduler.regroup(1)
    assert {sequence.group for sequence in scheduler.running} == {0}
    scheduler.regroup(2)
    assert [sequence.group for sequence in scheduler.running].count(1) == 3
    scheduler.running = []
