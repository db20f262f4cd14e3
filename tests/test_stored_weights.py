"""Which quantised checkpoints the native engine reads, why not, and what else would."""

from copy import deepcopy

import pytest
import transformers
from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

from specbatch import stored_weights
from specbatch.fp8_weights import is_read
from specbatch.stored_weights import has_experts, left, needed, unreadable, why_left
from tests.engine.fp8.checkpoints import BLOCK_SCALED, compressed
from tests.engine.packed.checkpoints import AWQ


def group(config, **changes):
    """With other fields in compressed-tensors' only group."""
    config = deepcopy(config)
    config["config_groups"]["group_0"] |= changes
    return config


STATIC = {"num_bits": 8, "type": "float", "symmetric": True, "strategy": "tensor", "dynamic": False}


@pytest.mark.parametrize(
    ("stored", "why"),
    [
        (BLOCK_SCALED | {"weight_block_size": None}, "no weight_block_size"),
        (BLOCK_SCALED | {"weight_block_size": [64, 64]}, "blocks of 64 x 64"),
        (BLOCK_SCALED | {"weight_block_size": 128}, "blocks of 128 (weight_block_size)"),
        (BLOCK_SCALED | {"activation_scheme": "static"}, "are static (activation_scheme)"),
        (BLOCK_SCALED | {"scale_fmt": "ue8m0"}, "ue8m0 (scale_fmt)"),
        (group(compressed(), input_activations=STATIC), "static (input_activations)"),
        (group(compressed(), targets=["re:.*_proj"]), "by re:.*_proj (targets)"),
        (group(compressed(), targets=None), "by None (targets)"),
        (compressed() | {"kv_cache_scheme": {"num_bits": 8}}, "kv_cache_scheme"),
        (compressed() | {"format": "int-quantized"}, "int-quantized (format)"),
        (compressed() | {"format": "nvfp4-pack-quantized"}, "nvfp4-pack-quantized (format)"),
        (compressed(type="int"), "int of 8 bits"),
        (compressed(inputs="channel"), "by channel (input_activations)"),
        (compressed("block", block_structure=[64, 128]), "[64, 128] (block_structure)"),
        (compressed() | {"config_groups": {"0": {}, "1": {}}}, "in 2 ways"),
    ],
)
def test_a_form_of_fp8_that_is_not_read_is_named_by_its_field(stored, why):
    assert not is_read(stored)
    assert why in why_left(stored)
    assert why in left(stored, experts=False)


@pytest.mark.parametrize("stored", [BLOCK_SCALED, compressed(), compressed(inputs=None), AWQ])
def test_of_what_is_read_nothing_is_left(stored):
    assert why_left(stored) is None
    assert left(stored, experts=False) == ""
    assert "mixture of experts" in left(stored, experts=True)


@pytest.mark.parametrize("field", ["num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"])
def test_a_mixture_of_experts_is_known_by_how_many_it_has(field):
    assert has_experts({field: 8})
    assert has_experts({"text_config": {field: 8}})
    assert not has_experts({field: 0, "num_experts_per_tok": 2})


def test_another_method_is_left_by_its_name():
    assert left({"quant_method": "hqq"}, experts=False) == "weights quantised by hqq"


def test_gptq_needs_both_packages_that_transformers_asks_for():
    assert needed("gptq").startswith("pip install optimum gptqmodel")


def test_only_packages_that_are_not_there_are_missing(monkeypatch):
    monkeypatch.setitem(stored_weights._PACKAGES, "gptq", ("numpy", "no-such-package-of-ours"))
    assert stored_weights.missing("gptq") == ["no-such-package-of-ours"]
    assert stored_weights.missing("fp8") == []  # which transformers widens without


def test_the_methods_known_are_those_of_the_release_of_transformers_that_is_installed():
    assert transformers.__version__.startswith(stored_weights._RELEASE)
    registered = {*AUTO_QUANTIZATION_CONFIG_MAPPING, "bitsandbytes"} - {"specbatch"}  # ours, where it is imported
    assert registered - {"nvfp4"} == stored_weights._PACKAGES.keys()


@pytest.mark.parametrize("method", ["modelopt", "nvfp4", "None"])
def test_a_method_that_transformers_does_not_know_is_unreadable_unless_another_release_is_installed(
    method, monkeypatch
):
    assert unreadable(method) == " that transformers does not read"
    monkeypatch.setattr(stored_weights, "_RELEASE", "5.0.")
    assert unreadable(method) == ""


def test_a_package_is_found_by_its_module_where_its_build_has_another_name(monkeypatch):
    monkeypatch.setitem(stored_weights._PACKAGES, "fbgemm_fp8", ("tests",))  # which no distribution has
    assert stored_weights.missing("fbgemm_fp8") == []
