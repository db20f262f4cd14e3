"""Figures from what a run has measured, in place of data sheets."""

from dataclasses import replace

import pytest

from specbatch.plan.ceiling import visits_of_round
from specbatch.plan.measured import MeasuredRounds
from specbatch.plan.planner import make_plan
from tests.plan.builders import H100, job, plan_of, replica, request, shape

TARGET, DRAFTER = shape("qwen3-8b"), shape("qwen3-1.7b")
SAME = replica(TARGET, "cuda:0", drafter=DRAFTER, on="cuda:0")


def measured(k=2.0, *, rows=96.0, times=1.0, draft_times=1.0, **changes):
    """A run on an H100 whose steps took so many times what the data sheet allows."""
    asked = replace(request(TARGET, DRAFTER), mean_length=512)

    def nominal(k, drafting):
        return sum(visit.seconds for visit in visits_of_round(asked, SAME, rows, k) if visit.drafting is drafting)

    return MeasuredRounds(
        **{
            "source": "results/nightly",
            "gpu": H100,
            "rows": rows,
            "drafts": k,
            "draft_seconds": draft_times * nominal(1, True) * k,
            "verify_seconds": times * nominal(int(k), False),
            "acceptance": 0.7,
            "mean_length": 512,
            "prefill_share": 0.25,
        }
        | changes
    )


def plan(found, *overrides, gpus="2xH100", **assumed):
    count = int(gpus.partition("x")[0])
    return make_plan(job(count, *overrides), TARGET, DRAFTER, [H100] * count, measured=found, **assumed)


def test_a_run_that_took_what_data_sheets_allow_is_slowed_by_nothing():
    assert measured().slowdown(request(TARGET, DRAFTER)) == pytest.approx({"target": 1.0, "drafter": 1.0})


def test_target_and_drafter_are_slowed_each_by_its_own():
    found = measured(times=1.5, draft_times=2.5).slowdown(request(TARGET, DRAFTER))
    assert found == pytest.approx({"target": 1.5, "drafter": 2.5})


def test_a_drafter_that_hardly_drafted_is_taken_to_be_as_slow_as_the_target():
    assert measured(0.0, times=1.5).slowdown(request(TARGET, DRAFTER)) == pytest.approx({"target": 1.5, "drafter": 1.5})


def test_every_placement_is_predicted_from_the_measured_times():
    twice, once = (plan(measured(times=times, draft_times=times)) for times in (2.0, 1.0))
    for slow, fast in zip(twice.alternatives, once.alternatives, strict=True):
        assert slow.ceiling.tokens_per_second == pytest.approx(fast.ceiling.tokens_per_second / 2, rel=0.02)
    assert twice.timeline is None or twice.timeline.seconds == pytest.approx(2 * once.timeline.seconds)
    assert "about " in twice.recommendation.reason


def test_measured_acceptance_and_lengths_are_taken_where_none_are_given():
    assert (plan(measured()).ceiling.acceptance_rate, plan(measured()).ceiling.mean_length) == (0.7, 512)
    given = plan(measured(), acceptance_rate=0.9, mean_length=100).ceiling
    assert (given.acceptance_rate, given.mean_length) == (0.9, 100)


def test_the_placement_and_rows_that_a_run_would_take_do_not_hang_on_what_another_has_measured():
    for overrides in ([], ["batching.maxLength=16384"], ["placement.strategy=separate"]):
        with_run, without = plan(measured(draft_times=30.0), *overrides), plan(None, *overrides)
        assert (with_run.strategy, with_run.max_sequences, with_run.env_strings) == (
            without.strategy,
            without.max_sequences,
            without.env_strings,
        )


def test_a_drafter_that_turned_out_slow_is_recommended_away():
    few = "batching.maxSequences=16"
    assert plan(None, few).recommendation.changes == ()
    assert "drafter=null" in plan(measured(draft_times=9.0), few).recommendation.changes


def test_a_target_without_a_drafter_is_measured_too():
    alone = make_plan(job(1, drafter=None), TARGET, None, [H100], measured=measured(0.0, times=1.5, acceptance=None))
    nominal = plan_of("H100", drafter=None, mean_length=512)
    assert alone.ceiling.tokens_per_second == pytest.approx(nominal.ceiling.tokens_per_second / 1.5, rel=0.02)
