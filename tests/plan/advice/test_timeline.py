"""What the time line of a cycle claims: no GPU in two places, every group through one round, and the speed of the formula."""

import json
from collections import Counter
from itertools import pairwise

import pytest

from specbatch.plan.advice.timeline import draw, simulate
from specbatch.plan.ceiling import MOVE_SECONDS, Visit
from specbatch.plan.predicted import Lane, Span, Timeline
from tests.plan.builders import plan_of

RATIO = ["placement.strategy=multi_gpu_ratio", "placement.ratio={target: 6, drafter: 2}"]
SPLIT = [
    ("2xH100", ["placement.strategy=separate"], "qwen3-1.7b"),
    ("8xH100", RATIO, "qwen3-1.7b"),
    ("8xH100", [*RATIO, "placement.drafterReplicas=1"], "qwen3-1.7b"),
    ("8xH100", [*RATIO, "placement.microBatches=5", "placement.drafterReplicas=2"], "qwen3-1.7b"),
    ("4xH100", ["placement.strategy=multi_gpu_ratio", "placement.ratio={target: 3, drafter: 1}"], "qwen3-0.6b"),
    ("2x12GB@0.6TB/s", ["batching.maxLength=1024"], None),
]


@pytest.mark.parametrize(("gpus", "overrides", "drafter"), SPLIT)
def test_the_cycle_is_as_fast_as_the_formula_of_the_ceiling_says_or_a_little_slower(gpus, overrides, drafter):
    plan = plan_of(gpus, *overrides, drafter=drafter)
    line, ceiling = plan.timeline, plan.ceiling
    assert (line.groups, line.k) == (ceiling.groups, ceiling.num_speculative_tokens)
    assert 0.88 <= line.tokens_per_second * len(plan.replicas) / ceiling.tokens_per_second <= 1.005


@pytest.mark.parametrize(("gpus", "overrides", "drafter"), SPLIT)
def test_no_gpu_does_two_things_at_once_and_every_group_goes_through_one_round(gpus, overrides, drafter):
    line = plan_of(gpus, *overrides, drafter=drafter).timeline
    worked = Counter()
    for lane in line.lanes:
        for before, after in pairwise(sorted(lane.spans, key=lambda span: span.start)):
            assert before.end <= after.start + 1e-12
        assert lane.busy == pytest.approx(sum(span.end - span.start for span in lane.spans) / line.seconds)
        for span in lane.spans:
            worked[span.group] += span.end - span.start
    assert set(worked) == set(range(line.groups))
    assert max(worked.values()) == pytest.approx(min(worked.values()))


def test_groups_overlap_on_devices_of_their_own_and_moves_take_time():
    spans, starts = simulate(
        [Visit("draft", drafting=True, seconds=1.0), Visit("verify", drafting=False, seconds=1.0)], groups=2, rounds=4
    )
    spans.sort(key=lambda one: one[1].start)
    assert starts[1] - starts[0] == pytest.approx(2 + 2 * MOVE_SECONDS)
    (_, one), (_, other), (_, verified) = spans[:3]
    assert (one.group, verified.group, other.group) == (0, 0, 1)
    assert verified.start == pytest.approx(one.end + MOVE_SECONDS)
    assert other.start == one.end  # while the first is verified


def test_a_part_does_rounds_in_the_order_in_which_they_are_launched():
    """A stage waits for the end of a round that comes back to it, though the next one's work is ready; another part of its device does not."""
    there_and_back = [Visit("a", False, 1.0), Visit("b", False, 1.0), Visit("a", False, 1.0)]
    spans, starts = simulate(there_and_back, groups=2, rounds=4)
    assert starts[1] - starts[0] == pytest.approx(6, rel=0.01)
    assert [span.group for device, span in spans if device == "a"][:4] == [0, 0, 1, 1]
    of_its_own = [*there_and_back[:2], Visit("a", False, 1.0, part=1)]
    _, starts = simulate(of_its_own, groups=2, rounds=4)
    assert starts[-1] - starts[-2] == pytest.approx(4, rel=0.01)


@pytest.mark.slow
def test_one_gpu_has_no_time_line():
    assert plan_of("8xH100").timeline is None
    assert plan_of("2x4GB@0.6TB/s").timeline is None  # nothing fits


def test_a_line_is_drawn_in_capitals_where_it_verifies_and_small_letters_where_it_drafts():
    lanes = (Lane("cuda:0", (Span(0, False, 0.0, 0.5),), 0.5), Lane("cuda:1", (Span(1, True, 0.25, 1.0),), 0.75))
    drawn = list(draw(Timeline(1.0, 2, 1, 100.0, lanes)))
    assert drawn[0] == f"cuda:0  {'A' * 30}{'.' * 30}  busy  50%"
    assert drawn[1] == f"cuda:1  {'.' * 15}{'b' * 45}  busy  75%"


def test_the_time_line_is_in_the_json_of_the_plan():
    data = json.loads(json.dumps(plan_of("2xH100", "placement.strategy=separate").to_dict()))
    assert data["timeline"]["lanes"][1]["device"] == "cuda:1"
    assert data["timeline"]["lanes"][1]["spans"][0]["drafting"] is True
