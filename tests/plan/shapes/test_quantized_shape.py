"""What a drafter in fewer bits weighs, and which models cannot be one."""

from dataclasses import replace

import pytest

from specbatch.errors import ModelError
from specbatch.plan.advice.render import render
from specbatch.plan.device_map import place_model
from specbatch.plan.planner import make_plan
from specbatch.plan.shapes.quantized_shape import quantized
from specbatch.plan.shapes.read_shape import shape_from_config
from tests.plan.builders import H100, config, shape, tiny
from tests.plan.builders import job as job_of


@pytest.mark.parametrize(("quantization", "bits"), [("int8", 8), ("fp8", 8), ("int4", 4.5)])
@pytest.mark.parametrize("tied", [False, True])
def test_layers_and_head_are_counted_in_bits_and_the_embedding_as_it_is(quantization, bits, tied):
    whole = tiny(3, tied=tied)
    few = quantized(whole, quantization)
    linears = whole.span().params + whole.head
    assert few.weight_bytes == pytest.approx(linears * bits / 8 + 2 * (whole.embedding + whole.after), abs=2)
    assert few.step_bytes == pytest.approx(linears * bits / 8 + 2 * whole.after, abs=2)
    assert few.kv_bytes_per_token == whole.kv_bytes_per_token


@pytest.mark.parametrize("devices", [("cuda:0",), ("cuda:0", "cuda:1")])
def test_the_parts_on_devices_add_up_to_the_whole(devices):
    few = quantized(shape("qwen3-0.6b"), "int4")
    assert place_model(few, devices, 1).weight_bytes == pytest.approx(few.weight_bytes, abs=4)


def test_without_quantization_nothing_changes():
    assert quantized(tiny(2), None) == tiny(2)


def test_a_plan_says_what_the_drafters_weights_are_in():
    few = quantized(shape("qwen3-0.6b"), "int8")
    plan = make_plan(job_of(1), shape("qwen3-8b"), few, [H100])
    assert any(line.startswith("drafter qwen3-0.6b, weights in int8") for line in render(plan))
    whole = make_plan(job_of(1), shape("qwen3-8b"), shape("qwen3-0.6b"), [H100])
    assert plan.ceiling.tokens_per_second > whole.ceiling.tokens_per_second


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"quantization_config": {"quant_method": "fp8"}}, r"quantized already \(fp8\)"),
        ({"model_type": "qwen3_moe", "num_experts": 8, "num_experts_per_tok": 2}, "a mixture of experts"),
    ],
)
def test_what_cannot_be_quantized_is_refused_by_its_config(changes, why):
    with pytest.raises(ModelError, match=why):
        shape_from_config(config("qwen3-0.6b") | changes, "drafter", quantization="int8")


def test_a_head_cannot_be_quantized():
    with pytest.raises(ModelError, match="an EAGLE-3 head"):
        quantized(replace(tiny(1), eagle3=object()), "int8")


BLOCKS = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}
CHANNELS = {
    "quant_method": "compressed-tensors",
    "config_groups": {
        "group_0": {"targets": ["Linear"], "weights": {"type": "float", "num_bits": 8, "strategy": "channel"}}
    },
    "ignore": ["lm_head"],
}


@pytest.mark.parametrize("stored", [BLOCKS, CHANNELS | {"modules_to_not_convert": ["lm_head", "model.norm"]}])
def test_a_checkpoint_in_fp8_is_counted_as_it_is_stored(stored):
    whole = shape_from_config(config("qwen3-8b"), "m")
    found = shape_from_config(config("qwen3-8b") | {"quantization_config": stored}, "m")
    assert whole.weight_bytes - found.weight_bytes == whole.span().params
    assert whole.step_bytes - found.step_bytes == whole.span().params
    assert place_model(found, ("cuda:0", "cuda:1"), 1).weight_bytes == found.weight_bytes
    assert "linears in FP8" in found.source
    plan = make_plan(job_of(1), found, None, [H100])
    assert "target m, weights in fp8" in "\n".join(render(plan))


@pytest.mark.parametrize(
    "stored",
    [
        BLOCKS | {"weight_block_size": None},
        BLOCKS | {"activation_scheme": "static"},
        BLOCKS | {"modules_to_not_convert": ["model.layers.0.mlp.down_proj"]},
        {"quant_method": "awq", "version": "gemv"},
        {"quant_method": "gptq", "bits": 3},
    ],
)
def test_other_quantised_checkpoints_are_counted_at_the_most_they_take(stored):
    found = shape_from_config(config("qwen3-8b") | {"quantization_config": stored}, "m")
    assert found.weight_bytes == shape_from_config(config("qwen3-8b"), "m").weight_bytes
    assert "which is the most it takes" in found.source
    assert ("(it is packed for the kernel gemv, and gemm is read)" in found.source) == (stored.get("version") == "gemv")


AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True, "version": "gemm"}
INTEGERS = {"type": "int", "num_bits": 4, "strategy": "group", "group_size": 32}
PACKED = {
    "quant_method": "compressed-tensors",
    "format": "pack-quantized",
    "config_groups": {"group_0": {"targets": ["Linear"], "weights": INTEGERS}},
}


@pytest.mark.parametrize(
    ("stored", "bits", "head_bits"),
    [
        (AWQ, 4.25, 16),
        ({"quant_method": "gptq", "bits": 4, "group_size": 128, "sym": True}, 4.25, 16),
        (PACKED | {"ignore": ["lm_head"]}, 5, 16),
        (PACKED, 5, 5),
    ],
)
def test_a_checkpoint_of_4_bits_is_counted_as_it_is_kept(stored, bits, head_bits):
    whole = shape_from_config(config("qwen3-8b"), "m")
    found = shape_from_config(config("qwen3-8b") | {"quantization_config": stored}, "m")
    expected = (whole.span().params * bits + whole.head * head_bits) / 8 + 2 * (whole.embedding + whole.after)
    assert found.weight_bytes == pytest.approx(expected, abs=2)
    assert "linears in 4 bits" in found.source
    plan = make_plan(job_of(1), found, None, [H100])
    assert "target m, weights in int4" in "\n".join(render(plan))


@pytest.mark.parametrize(("changes", "widened"), [({"weight_block_size": [64, 64]}, True), ({}, False)])
def test_fp8_that_a_cpu_widens_is_said_by_a_plan_for_a_cpu_alone(changes, widened):
    found = shape_from_config(config("qwen3-0.6b") | {"quantization_config": BLOCKS | changes}, "m")
    notes = [" ".join(make_plan(job_of(gpus), found, None, [H100] * gpus).notes) for gpus in (0, 1)]
    assert ["another model than the checkpoint means" in said for said in notes] == [widened, False]
