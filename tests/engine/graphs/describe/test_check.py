"""A description that is wrong about a model is found out at load, whatever it is wrong about; one that cannot say it is refused with a reason."""

import threading

import pytest
import torch
from torch import nn
from transformers import Gemma3Config, Gemma3ForConditionalGeneration

from specbatch.engine.general.model import CausalLM
from specbatch.engine.graphs.describe.check import why_not, why_wrong
from specbatch.engine.graphs.describe.describe import describe
from specbatch.plan.recorded import RECORDED
from tests.engine import architectures
from tests.engine.graphs import models
from tests.engine.graphs.describe import families


def limited(model, longest=families.LONGEST):
    wrapped = CausalLM(model)
    wrapped.limit_rows(longest)
    return wrapped


@pytest.mark.parametrize("kind", models.KINDS)
def test_every_shape_of_the_first_four_families_is_taken(kind):
    assert why_not(limited(models.build(kind))) is None


@pytest.mark.parametrize("name", families.FAMILIES)
def test_a_family_is_taken_and_a_wrong_description_of_it_is_not(name):
    model = limited(families.build(name))
    assert why_not(model) is None
    described = describe(model.model, model.longest)
    wrong = families.mutant(name, described)
    assert wrong != described
    assert "logits would differ" in why_wrong(model, wrong)


def test_weights_of_sixteen_bits_are_checked_as_sharply():
    """A scale that roundings to 16 bits would hide."""
    model = limited(families.build("granite").bfloat16())
    assert why_not(model) is None
    described = describe(model.model, model.longest)
    assert why_wrong(model, families.around(embed_scale=described.embed_scale * 1.002)(described)) is not None


def test_scores_that_are_scaled_far_on_are_found_where_rows_reach_so_far():
    model = limited(families.build("ministral3"), 256)
    assert why_not(model) is None
    model.limit_rows(300)
    assert why_not(model).endswith("at position 288")


def test_layers_that_rotate_by_a_rule_that_is_not_read_are_found():
    """EXAONE 4 rotates only its layers with windows, where it has any."""
    kinds = ["sliding_attention", "full_attention"]
    assert "logits would differ" in why_not(limited(architectures.build("exaone4", layer_types=kinds)))


def test_a_layer_that_differs_in_a_plain_attribute_alone_is_checked():
    model = families.build("llama")
    attention = type(model.model.layers[2].self_attn)

    class Turned(attention):
        """Attention that is turned around where an attribute says so."""

        def forward(self, *args, **kwargs):
            out, weights = super().forward(*args, **kwargs)
            return (-out if self.turned else out), weights

    Turned.__module__ = attention.__module__
    for number, layer in enumerate(model.model.layers):
        layer.self_attn.turned = number == 2
        layer.self_attn.__class__ = Turned
    assert "logits would differ" in why_not(limited(model))
    model.model.layers[2].self_attn.turned = False
    assert why_not(limited(model)) is None


def test_the_check_leaves_a_model_as_it_was():
    model = families.build("gemma3")
    ids = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7]])
    with torch.inference_mode():
        before = model(ids).logits
    config = model.config.to_dict()
    assert why_not(limited(model)) is None
    model.set_attn_implementation("sdpa")
    with torch.inference_mode():
        assert torch.equal(model(ids).logits, before)
    assert model.config.to_dict() == config


def test_the_text_part_of_a_model_that_reads_pictures_is_taken():
    text = families.build("gemma3").config.to_dict()
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    pictures = small | {"image_size": 28, "patch_size": 14, "vision_use_head": False}
    config = Gemma3Config(text_config=text, vision_config=pictures, mm_tokens_per_image=4, image_token_index=48)
    torch.manual_seed(3)
    assert why_not(limited(Gemma3ForConditionalGeneration(config).float().eval())) is None


def test_a_factor_that_is_called_as_another_models_and_multiplies_where_that_divides_is_found():
    """HyperCLOVA X multiplies by logits_scaling, by which Granite divides."""
    assert why_not(limited(architectures.build("hyperclovax", logits_scaling=1.0))) is None
    assert "logits would differ" in why_not(limited(architectures.build("hyperclovax", logits_scaling=4.0)))


def test_code_that_fails_where_it_is_copied_leaves_the_model_to_the_general_runner():
    model = limited(models.build("llama"))
    model.model.model.lock = threading.Lock()
    assert why_not(model) == "it cannot be run beside its description (TypeError: cannot pickle '_thread.lock' object)"


def edited(change):
    """A tiny Llama that is taken but for the change."""
    wrapped = limited(models.build("llama"))
    change(wrapped.model)
    return wrapped


class Quantized(nn.Linear):
    """Stands for any replacement of a plain linear."""


def replaced(model):
    model.model.layers[1].mlp.down_proj = Quantized(40, 24, bias=False)


REFUSED = {
    "its dtype is torch.float64": lambda model: model.double(),
    "its activation is Tanh": lambda model: setattr(model.model.layers[0].mlp, "act_fn", nn.Tanh()),
    "mlp.down_proj of layer 1 is a Quantized": replaced,
    "layer 2 has a Linear (adapter)": lambda model: model.model.layers[2].add_module("adapter", nn.Linear(2, 2)),
    "its head has a bias": lambda model: setattr(model.lm_head, "bias", nn.Parameter(torch.zeros(50))),
    "its norm is a LayerNorm": lambda model: setattr(model.model, "norm", nn.LayerNorm(24)),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_a_description_cannot_say_is_refused(reason):
    assert why_not(edited(REFUSED[reason])) == reason


OTHERS = {
    "cohere": "layer 0 has norms of other names (input_layernorm)",
    "hunyuan_v1_moe": "layer 0 has a HunYuanMoEV1RMSNorm (query_layernorm)",
    "gpt2": "its decoder has a Embedding (wte)",
    "hunyuan_v1_dense": "layer 0 has a HunYuanDenseV1RMSNorm (query_layernorm)",
    "stablelm": "its norm is a LayerNorm",
    "nemotron": "its norm is a NemotronLayerNorm1P",
    "youtu": "layer 0 has an attention of YoutuAttention, without q_proj, k_proj and v_proj",
}


@pytest.mark.parametrize("kind", OTHERS)
def test_another_architecture_is_refused_for_what_it_has(kind):
    assert why_not(limited(architectures.build(kind))) == OTHERS[kind]


def test_the_plan_knows_the_types_that_are_taken():
    taken = {kind for kind, _, _ in families.FAMILIES.values()}
    assert set(RECORDED) - {"gemma3", "mimo"} == taken  # mimo is Qwen2's modules
