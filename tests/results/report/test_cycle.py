"""The figure of a cycle, from what a run measured of its GPUs."""

import dataclasses
from itertools import pairwise

import pytest

from specbatch.results.report.cycle import Cycle, Lane, cycle_chart, cycle_of
from specbatch.results.report.facts import gather
from specbatch.results.report.report import write_report
from specbatch.results.storage.folder import Folder
from specbatch.results.summary import RunSummary
from tests.results.builders import finish_run, make_row

MEASURED = {
    "completion_tokens": 600,
    "seconds": 2.0,
    "rounds": 100,
    "row_rounds": 2400,
    "drafted": 900,
    "accepted": 700,
    "drafted_by_position": (900,),
    "accepted_by_position": (700,),
    "phase_seconds": {"prefill": 0.5, "draft": 0.4, "verify": 0.6, "host": 0.1},
    "device_busy_seconds": {"cuda:0": 0.09, "cuda:1": 0.05, "cuda:2": 0.04},
    "device_sampled_seconds": {"cuda:0": 0.1, "cuda:1": 0.1, "cuda:2": 0.1},
    "micro_batches": 3,
}
SPLIT = {"TARGET_GPU": "cuda:0,cuda:1", "DRAFTER_GPU": "cuda:2"}


def facts(run_dir, env=SPLIT, **changes):
    finish_run(run_dir, [make_row(0)], summary=RunSummary(**(MEASURED | changes)), env=env)
    return gather(Folder(run_dir))


def test_each_gpu_is_at_work_as_long_as_measured_drafter_first(run_dir):
    cycle = cycle_of(facts(run_dir))
    assert cycle.interval == pytest.approx(1.0 / 100)  # drafting and verifying of 100 rounds, without prefill
    assert [(lane.device, lane.drafting) for lane in cycle.lanes] == [
        ("cuda:2", True),
        ("cuda:0", False),
        ("cuda:1", False),
    ]
    assert [lane.seconds for lane in cycle.lanes] == pytest.approx([0.004, 0.009, 0.005])
    assert [lane.begin for lane in cycle.lanes] == pytest.approx([0, 0.004, 0.013])


@pytest.mark.parametrize("begin", [0.0, 0.013, 0.029, 0.09])
def test_the_bars_of_a_gpu_do_not_overlap_and_are_its_share_of_the_cycle(begin):
    lane = Lane("cuda:0", drafting=False, begin=begin, seconds=0.009)
    cycle = Cycle(0.01, 3, (lane,), replicas=1)
    bars = sorted((start, start + seconds) for _, start, seconds in cycle.bars(lane))
    assert sum(end - start for start, end in bars) == pytest.approx(3 * 0.009)
    assert all(before[1] <= after[0] + 1e-9 for before, after in pairwise(bars))
    assert bars[0][0] >= 0
    assert bars[-1][1] <= 0.03 + 1e-9


def test_each_of_several_drafters_has_every_other_group(run_dir):
    busy = {"cuda:0": 0.09, "cuda:1": 0.04, "cuda:2": 0.05}
    env = {"TARGET_GPU": "cuda:0", "DRAFTER_GPU": "cuda:1+cuda:2"}
    cycle = cycle_of(facts(run_dir, env=env, micro_batches=4, device_busy_seconds=busy))
    first, second, target = cycle.lanes
    assert [group for group, *_ in cycle.bars(first)] == [0, 2]
    assert [group for group, *_ in cycle.bars(second)] == [1, 3]
    assert sum(seconds for *_, seconds in cycle.bars(first)) == pytest.approx(first.seconds * 4)
    assert target.begin == pytest.approx(max(first.of_own, second.of_own)) == pytest.approx(0.01)


def test_a_target_without_drafter_and_one_group_is_drawn_too(run_dir):
    alone = {"drafted": 0, "accepted": 0, "drafted_by_position": (), "accepted_by_position": (), "micro_batches": 1}
    alone["device_busy_seconds"] = {"cuda:0": 0.05, "cuda:1": 0.04}
    cycle = cycle_of(facts(run_dir, env={"TARGET_GPU": "cuda:0,cuda:1"}, **alone))
    assert (cycle.groups, [lane.device for lane in cycle.lanes]) == (1, ["cuda:0", "cuda:1"])


def test_more_work_than_an_interval_holds_was_of_several_groups(run_dir):
    """A run that ends with one group had more before: its GPUs were at work for 1.8 intervals in each."""
    assert cycle_of(facts(run_dir, micro_batches=1)).groups == 2


def test_of_replicas_the_first_is_drawn_and_it_is_said(run_dir):
    env = {"TARGET_GPU": "cuda:0;cuda:1", "DRAFTER_GPU": "cuda:2;cuda:3"}
    found = facts(run_dir, env=env)
    assert [lane.device for lane in cycle_of(found).lanes] == ["cuda:2", "cuda:0"]
    assert "in the first of 2 replicas: cuda:2 40%, cuda:0 90%." in cycle_chart(found).caption


def test_a_share_beyond_all_of_the_time_is_all_of_it(run_dir):
    cycle = cycle_of(facts(run_dir, device_busy_seconds={"cuda:0": 0.102, "cuda:1": 0.05, "cuda:2": 0.04}))
    assert cycle.lanes[1].seconds == cycle.interval


def test_a_run_on_one_device_says_why_it_has_no_such_figure(run_dir):
    assert "had one device" in cycle_of(facts(run_dir, device_busy_seconds={}, device_sampled_seconds={}))


def test_before_a_manifest_is_there_the_figure_waits(run_dir):
    found = facts(run_dir)
    found.status = dataclasses.replace(
        found.status, shards=[dataclasses.replace(shard, manifest=None) for shard in found.status.shards]
    )
    assert "when a run ends" in cycle_of(found)


@pytest.mark.slow
def test_the_report_has_the_figure(run_dir):
    facts(run_dir)
    page = write_report(run_dir).read_text()
    assert '<figure id="cycle"' in page
    assert "a round ended every 10.0 ms" in page
    assert (run_dir / "figures" / "cycle.png").exists()
