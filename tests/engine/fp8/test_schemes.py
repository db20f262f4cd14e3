from copy import deepcopy

import pytest

from specbatch.engine.fp8.schemes import ignored, scheme_of
from tests.engine.fp8.checkpoints import BLOCK_SCALED, compressed

OTHERS = {
    "another method": {"quant_method": "awq"},
    "scales of inputs from calibration": BLOCK_SCALED | {"activation_scheme": "static"},
    "other blocks": BLOCK_SCALED | {"weight_block_size": [64, 64]},
    "one scale a weight": BLOCK_SCALED | {"weight_block_size": None},
    "scales that are powers of two": BLOCK_SCALED | {"scale_fmt": "ue8m0"},
    "integers": compressed(type="int"),
    "four bits": compressed(num_bits=4),
    "inputs by channel": compressed(inputs="channel"),
    "other blocks of compressed-tensors": compressed("block", block_structure=[64, 128]),
    "a quantised KV cache": compressed() | {"kv_cache_scheme": {"num_bits": 8}},
    "packed": compressed() | {"format": "pack-quantized"},
    "two groups": compressed() | {"config_groups": {"0": {}, "1": {}}},
    "some linears by a pattern": None,
}


@pytest.mark.parametrize("kind", OTHERS)
def test_what_is_not_multiplied_as_stored_is_left_to_transformers(kind):
    config = OTHERS[kind]
    if config is None:
        config = deepcopy(compressed())
        config["config_groups"]["group_0"]["targets"] = ["re:.*mlp.*"]
    assert scheme_of(config) is None


@pytest.mark.parametrize(
    ("config", "name", "scales", "block", "group"),
    [
        (BLOCK_SCALED, "weight_scale_inv", (2, 3), (128, 128), 128),
        (compressed(), "weight_scale", (200, 1), (1, 300), 300),
        (compressed("tensor"), "weight_scale", (1,), (200, 300), 300),
        (compressed("block", block_structure=[128, 128]), "weight_scale", (2, 3), (128, 128), 300),
        (compressed(inputs=None), "weight_scale", (200, 1), (1, 300), 0),
    ],
)
def test_a_scheme_has_the_shapes_that_its_checkpoints_have(config, name, scales, block, group):
    scheme = scheme_of(config)
    assert scheme.scale_name == name
    assert tuple(scheme.scale_shape(200, 300)) == scales
    assert scheme.block(200, 300) == block
    assert scheme.group(300) == group


def test_what_is_not_quantised_is_read_from_any_of_its_names():
    assert ignored({"ignore": ["lm_head", "re:.*gate$"]}) == ["lm_head", "re:.*gate$"]
    assert ignored({"modules_to_not_convert": ["model.layers.0.mlp.up_proj.weight"]}) == ["model.layers.0.mlp.up_proj"]
    assert ignored({"modules_to_not_convert": None}) == []
