"""Several drafters in one placement: when `auto` takes them, what the plan tells of them, and where they are refused."""

import json
from itertools import pairwise

import pytest

from specbatch.errors import ModelError, SpecError
from specbatch.plan.advice.render import render
from specbatch.plan.ceiling import Visit, cycle_seconds
from specbatch.plan.gpus import parse_gpus
from specbatch.plan.layouts import SHARES
from specbatch.plan.planner import make_plan
from specbatch.plan.shapes.read_shape import read_shape
from tests.plan.builders import job, plan_of, shape

RATIO = ["placement.strategy=multi_gpu_ratio", "placement.ratio={target: 6, drafter: 2}", "batching.maxLength=1024"]


def drafters(plan):
    return [drafter.devices for drafter in plan.replicas[0].drafters]


def test_auto_puts_a_whole_drafter_on_each_gpu_where_that_is_predicted_to_be_faster():
    plan, stages = plan_of("8xH100", *RATIO), plan_of("8xH100", *RATIO, "placement.drafterReplicas=1")
    assert drafters(plan) == [("cuda:6",), ("cuda:7",)]
    assert drafters(stages) == [("cuda:6", "cuda:7")]
    assert plan.ceiling.tokens_per_second > 1.1 * stages.ceiling.tokens_per_second
    assert all(drafter.weight_bytes == plan.replicas[0].drafter.weight_bytes for drafter in plan.replicas[0].drafters)


@pytest.mark.slow
def test_a_drafter_that_no_gpu_holds_whole_stays_in_stages():
    plan = plan_of("8x10GB@2TB/s", *RATIO, drafter="llama-3-8b", target="llama-3-8b")
    assert drafters(plan) == [("cuda:6", "cuda:7")]
    asked = plan_of(
        "8x10GB@2TB/s",
        *RATIO,
        "placement.drafterReplicas=2",
        drafter="llama-3-8b",
        target="llama-3-8b",
    )
    assert drafters(asked) == [("cuda:6",), ("cuda:7",)]
    assert not asked.fits


def test_drafters_may_have_several_gpus_each():
    fours = ["placement.strategy=multi_gpu_ratio", "placement.ratio={target: 4, drafter: 4}"]
    plan = plan_of("8xH100", *fours, "placement.drafterReplicas=2")
    assert drafters(plan) == [("cuda:4", "cuda:5"), ("cuda:6", "cuda:7")]
    assert plan.env_strings["DRAFTER_GPU"] == "cuda:4,cuda:5+cuda:6,cuda:7"
    assert SHARES[4] == [1, 2, 4]


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("replicas", [1, 2])
def test_the_placement_variables_give_the_same_plan(count, replicas):
    ratio = [RATIO[0], "placement.ratio={target: 2, drafter: 2}", f"placement.drafterReplicas={count}"]
    plan = plan_of(f"{4 * replicas}xH100", *ratio)
    again = plan_of(f"{4 * replicas}xH100", env=dict(plan.env_strings))
    assert len(plan.replicas) == replicas
    assert again.replicas == plan.replicas
    assert again.env_strings == plan.env_strings


def test_a_drafter_may_share_the_targets_gpu_and_have_another_elsewhere():
    plan = plan_of("2xH100", env={"TARGET_GPU": "cuda:0", "DRAFTER_GPU": "cuda:0+cuda:1"})
    assert drafters(plan) == [("cuda:0",), ("cuda:1",)]
    assert plan.replicas[0].devices == ("cuda:0", "cuda:1")
    assert plan.fits
    shared, other = plan.devices
    assert shared.weight_bytes > other.weight_bytes > 0


def test_the_plan_tells_of_every_drafter():
    plan = plan_of("8xH100", *RATIO)
    text = "\n".join(render(plan))
    assert "drafter 1, qwen3-1.7b" in text
    assert "drafter 2, qwen3-1.7b" in text
    assert "multi_gpu_ratio 6:2 with 2 drafters" in text
    assert "DRAFTER_GPU=cuda:6+cuda:7" in text
    data = json.loads(json.dumps(plan.to_dict()))
    assert data["replicas"][0]["more_drafters"][0]["device_map"]["lm_head"] == "cuda:7"


def test_each_drafter_drafts_for_every_other_group():
    line = plan_of("8xH100", *RATIO, "placement.microBatches=5").timeline
    groups = {lane.device: {span.group for span in lane.spans} for lane in line.lanes}
    assert groups["cuda:6"] == {0, 2, 4}
    assert groups["cuda:7"] == {1, 3}
    assert groups["cuda:0"] == {0, 1, 2, 3, 4}
    for lane in line.lanes:
        assert all(
            one.end <= other.start + 1e-12 for one, other in pairwise(sorted(lane.spans, key=lambda span: span.start))
        )


def test_a_gpu_is_held_for_the_groups_of_its_own_drafter():
    visits = [Visit("d0", True, 6.0, drafters=("d0", "d1")), Visit("t", False, 1.0)]
    assert cycle_seconds(visits, 4) == pytest.approx(12, rel=0.01)
    assert cycle_seconds(visits, 3) == pytest.approx(12, rel=0.01)  # two of them on the first
    shared = [Visit("t", True, 6.0, drafters=("t", "d1")), Visit("t", False, 5.0)]
    assert cycle_seconds(shared, 2) == pytest.approx(6 + 5 + 5, rel=0.01)


def test_drafters_keep_kv_for_a_share_of_the_rows_each():
    """As stages have KV of a share of the layers."""
    rows = [
        {use.rows for use in plan_of("8xH100", *RATIO, f"placement.drafterReplicas={count}").devices[6:]}
        for count in (1, 2)
    ]
    assert min(rows[1]) >= min(rows[0])


def test_the_kv_of_each_drafter_follows_from_the_free_memory_of_its_own_gpu():
    gpus, two = "7xH100-80GB,1xA100-40GB", "placement.drafterReplicas=2"
    plan = plan_of(gpus, *RATIO, two, "batching.maxSequences=1000")
    large, small = plan.replicas[0].drafters
    assert large.kv_bytes > 1.5 * small.kv_bytes
    uses = {use.device: use for use in plan.devices}
    for drafter in (large, small):
        (device,) = drafter.devices
        assert uses[device].kv_bytes == drafter.kv_bytes
        assert 0 <= uses[device].free_bytes < 1 << 24


@pytest.mark.parametrize(
    ("overrides", "env", "error", "words"),
    [
        (
            ["placement.microBatches=1"],
            {"TARGET_GPU": "cuda:0", "DRAFTER_GPU": "cuda:1+cuda:2"},
            ModelError,
            "microBatches is 1",
        ),
        (
            [*RATIO, "placement.drafterReplicas=2"],
            {"TARGET_GPU_RATIO": "5", "DRAFTER_GPU_RATIO": "3"},
            SpecError,
            "cannot share evenly",
        ),
    ],
)
def test_drafters_without_groups_or_gpus_for_each_are_refused(overrides, env, error, words):
    with pytest.raises(error, match=words):
        plan_of("8xH100", *overrides, env=env)


def test_models_of_the_general_engine_have_one_drafter():
    other, drafter, gpus = read_shape("openai/gpt-oss-20b"), shape("qwen3-1.7b"), parse_gpus("8xH100")
    assert len(drafters(make_plan(job(8, *RATIO), other, drafter, gpus))) == 1
    with pytest.raises(ModelError, match="the general engine has one group of rows"):
        make_plan(job(8, *RATIO, "placement.drafterReplicas=2"), other, drafter, gpus)
