"""What is kept free of KV, against what was measured."""

import pytest

from specbatch.plan.planner import make_plan
from specbatch.plan.types import DRIVER
from tests.plan.builders import job, plan_of, shape

GB = 1e9
# Beyond weights and KV, without the CUDA context: benchmarks/README.md, Qwen3-8B with Qwen3-1.7B, on an H100 and an H200.
MEASURED = {1: 1.2, 32: 2.7, 128: 3.4, 512: 3.4}


def kept(plan):
    """GB beside driver and margin."""
    return sum(size for name, size in plan.devices[0].reserve.items() if name not in {DRIVER, "margin"}) / GB


@pytest.mark.parametrize(("rows", "measured"), MEASURED.items())
@pytest.mark.parametrize("gpu", ["H100", "H200"])
def test_what_is_kept_is_what_was_measured_and_the_margin_is_more_than_the_rest(gpu, rows, measured):
    plan = plan_of(gpu, f"batching.maxSequences={rows}", "batching.maxLength=257")
    assert kept(plan) == pytest.approx(measured, abs=0.15)
    assert kept(plan) * GB + plan.devices[0].reserve["margin"] > measured * GB
    assert plan.kv_reserve == {"cuda:0": plan.devices[0].reserve_bytes - plan.devices[0].reserve[DRIVER]}


def test_drawing_from_whole_distributions_needs_what_it_took():
    """7 and 19 GB were measured at 32 and 128 rows where tokens were drawn by sorting."""
    sorting = ["decoding.temperature=0.6", "decoding.topP=0.95", "decoding.topK=100", "batching.maxLength=257"]
    for rows, measured in ((32, 7), (128, 19)):
        assert kept(plan_of("H200", *sorting, f"batching.maxSequences={rows}")) == pytest.approx(measured, rel=0.12)
    assert kept(plan_of("H200", *sorting[:2], "batching.maxSequences=128", "batching.maxLength=257")) < 3.6
    by_rejection = [*sorting[:1], "decoding.acceptanceRule=rejection", "batching.maxSequences=128"]
    assert kept(plan_of("H200", *by_rejection)) > 15


def test_a_fixed_k_keeps_room_for_the_logits_of_all_its_tokens():
    fixed, adaptive = (
        plan_of("H200", "batching.maxSequences=512", f"decoding.numSpeculativeTokens={k}") for k in (8, "auto")
    )
    assert fixed.devices[0].reserve["logits"] == pytest.approx(4.5 * adaptive.devices[0].reserve["logits"], rel=0.001)


def test_a_device_without_a_head_keeps_no_room_for_logits():
    plan = plan_of("3xH100", "placement.strategy=multi_gpu_ratio", "placement.ratio={target: 2, drafter: 1}")
    assert [bool(use.reserve["logits"]) for use in plan.devices] == [False, True, True]


def test_the_general_engine_keeps_float32_logits_and_probabilities():
    plan = make_plan(job(0), shape("qwen3-0.6b"), shape("qwen3-0.6b"), [])
    assert plan.devices[0].reserve["logits"] == 8 * 8 * 9 * 151936


@pytest.mark.parametrize(("rows", "measured"), [(128, 1.7), (256, 1.9), (512, 2.3)])
def test_a_gpu_with_nothing_but_the_drafter_keeps_what_was_measured_there(rows, measured):
    plan = plan_of("2xH200", "placement.strategy=separate", f"batching.maxSequences={rows}", "batching.maxLength=385")
    reserve = plan.devices[1].reserve
    kept_there = sum(size for name, size in reserve.items() if name not in {DRIVER, "margin"}) / GB
    assert kept_there == pytest.approx(measured, abs=0.25)
    assert kept_there * GB + reserve["margin"] > measured * GB
    assert reserve["logits"] < plan.devices[0].reserve["logits"]
