"""What a quantization_config says of packed integers."""

import pytest

from specbatch.packed_weights import PackedWeights, packed_weights, why_left
from tests.engine.packed.checkpoints import AWQ, GPTQ, config

COMPRESSED = config("compressed")


def weights(**changes):
    """Of compressed-tensors' only group."""
    group = COMPRESSED["config_groups"]["group_0"]
    return COMPRESSED | {"config_groups": {"group_0": group | {"weights": group["weights"] | changes}}}


@pytest.mark.parametrize(
    ("stored", "found"),
    [
        (AWQ | {"group_size": 128}, PackedWeights("awq", 4, 128, symmetric=False)),
        (GPTQ | {"group_size": -1, "sym": True}, PackedWeights("gptq_v2", 4, 0, symmetric=True)),
        (GPTQ | {"checkpoint_format": None, "desc_act": True}, PackedWeights("gptq", 4, 32, symmetric=False)),
        (GPTQ | {"dynamic": {"-:.*down.*": {}}}, PackedWeights("gptq_v2", 4, 32, symmetric=False)),
        (COMPRESSED, PackedWeights("compressed-tensors", 4, 32, symmetric=True)),
        (config("compressed asym", 128), PackedWeights("compressed-tensors", 4, 128, symmetric=False)),
        (config("8 bits"), PackedWeights("compressed-tensors", 8, 0, symmetric=True)),
    ],
)
def test_a_config_says_how_linears_are_packed(stored, found):
    assert packed_weights(stored) == found
    assert why_left(stored) is None


@pytest.mark.parametrize(
    ("stored", "why"),
    [
        (AWQ | {"version": "GEMV"}, "for the kernel gemv"),
        (AWQ | {"zero_point": False}, "no zero points"),
        (AWQ | {"bits": 8}, "8 bits"),
        (GPTQ | {"bits": 3}, "3 bits"),
        (GPTQ | {"bits": 8, "sym": True}, "8 bits a weight have scales by group"),
        (GPTQ | {"group_size": 16}, "groups of 16 inputs"),
        (GPTQ | {"group_size": "128"}, "its group_size is '128', and must be a number"),
        (GPTQ | {"bits": "4"}, "its bits is '4', and must be a number"),
        (AWQ | {"bits": "4"}, "its bits is '4', and must be a number"),
        (AWQ | {"group_size": "64"}, "its group_size is '64', and must be a number"),
        (weights(num_bits="4"), "its num_bits is '4', and must be a number"),
        (weights(group_size=True), "its group_size is True, and must be a number"),
        (GPTQ | {"checkpoint_format": "marlin"}, "packed as marlin"),
        (GPTQ | {"pack_dtype": "int64"}, "words of int64"),
        (GPTQ | {"dynamic": {"+:.*down.*": {"bits": 8}}}, "not quantised alike"),
        (weights(strategy="tensor"), "scales by tensor"),
        (weights(type="float"), "weights are float"),
        (COMPRESSED | {"kv_cache_scheme": {"num_bits": 8}}, "KV cache"),
        (COMPRESSED | {"config_groups": COMPRESSED["config_groups"] | {"group_1": {}}}, "in 2 ways"),
        (COMPRESSED | {"sparsity_config": {"format": "sparse-24-bitmask"}}, "sparse"),
    ],
)
def test_a_variant_that_is_not_read_is_told_from_the_others(stored, why):
    assert packed_weights(stored) is None
    assert why in why_left(stored)


@pytest.mark.parametrize("stored", [{"quant_method": "fp8"}, {}, COMPRESSED | {"format": "float-quantized"}])
def test_other_methods_are_none_of_these(stored):
    assert packed_weights(stored) is None
    assert why_left(stored) is None


@pytest.mark.parametrize(
    ("group", "ins", "kept"),
    [(128, 4096, 128), (128, 896, 64), (0, 4096, 128), (64, 576, 32), (128, 96, 0), (32, 96, 0)],
)
def test_groups_are_made_smaller_where_half_the_inputs_are_not_whole_ones(group, ins, kept):
    assert PackedWeights("awq", 4, group, symmetric=False).kept_group(ins) == kept
