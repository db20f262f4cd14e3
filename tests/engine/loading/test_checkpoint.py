"""What a load reports, judged by names and shapes."""

import pytest

from specbatch.engine.loading.checkpoint import check_fit
from specbatch.errors import ModelError

LAYER = [f"model.layers.{n}.mlp.{part}_proj.weight" for n in (2, 10) for part in ("up", "down")]


def info(missing=(), unused=(), mismatched=()):
    return {"missing_keys": set(missing), "unexpected_keys": set(unused), "mismatched_keys": set(mismatched)}


def refusal(**found) -> ModelError:
    with pytest.raises(ModelError) as caught:
        check_fit(info(**found), "spec.target.model")
    assert caught.value.where == "spec.target.model"
    assert caught.value.remedy
    return caught.value


def test_nothing_missing_and_nothing_left_over_is_a_fit():
    check_fit(info(), "m")


def test_missing_tensors_are_counted_and_the_first_in_layer_order_are_named():
    message = refusal(missing=LAYER).message
    assert "4 tensors of the model missing (model.layers.2.mlp.down_proj.weight, model.layers.2.mlp.up" in message
    assert "model.layers.10.mlp.down_proj.weight, and 1 more)" in message


def test_one_tensor_is_not_called_tensors():
    assert "1 tensor of the model missing (a)" in refusal(missing=["a"]).message


def test_a_shape_that_differs_is_told_with_both_shapes():
    message = refusal(mismatched=[("lm_head.weight", (640, 32), (512, 32))]).message
    assert "1 tensor of another shape (lm_head.weight is [640, 32], the model's is [512, 32])" in message


@pytest.mark.parametrize(
    "key",
    [
        "transformer.h.0.attn.bias",
        "transformer.h.0.attn.masked_bias",
        "transformer.h.3.attn.attention.bias",
        "transformer.h.3.attn.causal_mask",
        "model.layers.3.self_attn.rotary_emb.inv_freq",
    ],
)
def test_constants_that_models_compute_are_not_missed(key):
    check_fit(info(unused=[key]), "m")


def test_layers_for_drafting_are_left_out_where_the_config_counts_them_and_refused_where_not():
    check_fit(info(unused=["model.layers.3.eh_proj.weight"]), "m", mtp_layers=range(3, 4))
    with pytest.raises(ModelError, match=r"no place for \(model\.layers\.4\.eh_proj"):
        check_fit(info(unused=["model.layers.3.enorm.weight", "model.layers.4.eh_proj.weight"]), "m", mtp_layers=[3])


@pytest.mark.parametrize("key", ["transformer.h.0.attn.c_attn.bias", "model.layers.0.self_attn.q_proj.bias"])
def test_a_bias_that_the_model_has_no_place_for_is_refused(key):
    assert "no place for" in refusal(unused=[key]).message


def test_a_vision_tower_is_needless_only_where_the_text_part_of_more_was_loaded():
    found = info(unused=["vision_tower.encoder.0.weight", "multi_modal_projector.linear.weight"])
    check_fit(found, "m", text_only=True)
    with pytest.raises(ModelError, match="2 tensors"):
        check_fit(found, "m")


@pytest.mark.parametrize(
    ("missing", "unused", "words", "remedy"),
    [
        (LAYER, ["base_model.model.model.layers.0.mlp.up_proj.lora_A.weight"], "LoRA adapter", "merge_and_unload"),
        (LAYER, ["model.layers.0.mlp.up_proj.base_layer.weight"], "LoRA adapter", "merge_and_unload"),
        (LAYER, ["midlayer.mlp.up_proj.weight", "fc.weight"], "EAGLE head", "ngram"),
        ([], ["d2t", "t2d"], "EAGLE head", "ngram"),
        (["lm_head.weight"], ["medusa_head.0.0.linear.weight"], "Medusa", "ngram"),
        (LAYER, [f"_orig_mod.{key}" for key in LAYER], "torch.compile", "_orig_mod"),
        (LAYER, [f"model._orig_mod.{key[6:]}" for key in LAYER], "torch.compile", "_orig_mod"),
        (LAYER, [f"_fsdp_wrapped_module.{key}" for key in LAYER], "FSDP", "full state dict"),
        (LAYER, [f"module.{key}" for key in LAYER], "DeepSpeed", "zero_to_fp32"),
        (LAYER, [key.replace("weight", "qweight") for key in LAYER], "GPTQ or AWQ", "quantization_config"),
        ([], [f"{key}.absmax" for key in LAYER], "bitsandbytes", "quantization_config"),
        ([], [f"{key}_scale_inv" for key in LAYER], "8 or 4 bits", "quantization_config"),
        (["lm_head.weight"], ["score.weight"], "classifier", "AutoModelForCausalLM"),
        (["lm_head.weight"], [], "base model without its language-model head", "tie_word_embeddings"),
        (LAYER, [f"llm.{key}" for key in LAYER], "lost or gained a prefix", "save_pretrained"),
    ],
)
def test_what_the_folder_seems_to_hold_is_named_with_its_own_remedy(missing, unused, words, remedy):
    error = refusal(missing=missing, unused=unused)
    assert words in error.message
    assert remedy in error.remedy


def test_layers_beyond_the_config_are_no_special_kind_but_a_config_that_does_not_fit():
    error = refusal(unused=LAYER)
    assert "seems" not in error.message
    assert "num_hidden_layers" in error.remedy
