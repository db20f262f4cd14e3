"""Packed weights are the model's own, and models that the fast path would get wrong are refused with a reason."""

import pytest
import torch
from torch import nn
from transformers import (
    GemmaConfig,
    GemmaForCausalLM,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from specbatch.engine.general.model import CausalLM
from specbatch.engine.graphs.packing import pack_layers, why_not
from tests.engine.graphs import models

IDS = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]])


@pytest.mark.parametrize("kind", models.KINDS)
def test_every_shape_that_is_listed_is_taken(kind):
    assert why_not(CausalLM(models.build(kind))) is None


@pytest.mark.parametrize("kind", models.KINDS)
def test_the_models_parameters_become_views_and_it_computes_as_before(kind):
    model = models.build(kind)
    names = set(model.state_dict())
    with torch.inference_mode():
        before = model(IDS).logits
    layers = pack_layers(model)
    with torch.inference_mode():
        assert torch.equal(model(IDS).logits, before)
    assert set(model.state_dict()) == names
    for packed, layer in zip(layers, model.model.layers, strict=True):
        attention, mlp = layer.self_attn, layer.mlp
        together = [attention.q_proj, attention.k_proj, attention.v_proj]
        assert torch.equal(packed.qkv, torch.cat([module.weight for module in together]))
        assert torch.equal(packed.gate_up, torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight]))
        pairs = [(packed.qkv, m.weight) for m in together] + [
            (packed.gate_up, m.weight) for m in (mlp.gate_proj, mlp.up_proj)
        ]
        if packed.qkv_bias is not None:
            assert torch.equal(packed.qkv_bias, torch.cat([module.bias for module in together]))
            pairs += [(packed.qkv_bias, module.bias) for module in together]
        for whole, part in pairs:
            assert whole.untyped_storage().data_ptr() == part.untyped_storage().data_ptr()
        assert packed.o.data_ptr() == attention.o_proj.weight.data_ptr()
        assert packed.device == torch.device("cpu")
    assert (layers[0].q_norm is not None) == kind.startswith("qwen3")
    assert (layers[0].qkv_bias is not None) == kind.startswith("qwen2")


def test_packing_again_finds_what_is_packed():
    model = models.build("qwen2, biased")
    first, again = pack_layers(model), pack_layers(model)
    for one, other in zip(first, again, strict=True):
        for name in ("qkv", "qkv_bias", "gate_up"):
            mine, found = getattr(one, name), getattr(other, name)
            assert (mine.data_ptr(), mine.shape, mine.stride()) == (found.data_ptr(), found.shape, found.stride())
            assert torch.equal(mine, found)


@pytest.mark.parametrize("in_order", [True, False])
def test_parameters_that_lie_side_by_side_are_taken_as_they_are_only_in_their_order(in_order):
    model = models.build("llama")
    size = 40 * 24
    flat = torch.randn(3 * size)  # as a loader may lay weights out: one piece of memory for many
    mlp = model.model.layers[0].mlp
    first, second = (mlp.gate_proj.weight, mlp.up_proj.weight)[:: 1 if in_order else -1]
    first.data, second.data = flat[size : 2 * size].view(40, 24), flat[2 * size :].view(40, 24)
    expected = torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight])
    packed = pack_layers(model)[0].gate_up
    assert torch.equal(packed, expected)
    assert (packed.data_ptr() == flat[size:].data_ptr()) == in_order


def edited(change):
    """A tiny Llama that is taken but for the change."""
    wrapped = CausalLM(models.build("llama"))
    change(wrapped)
    return wrapped


def biased(module):
    module.bias = nn.Parameter(torch.zeros(module.out_features))


class Quantized(nn.Linear):
    """Stands for any replacement of a plain linear."""


def replaced(model):
    layer = model.model.model.layers[1]
    layer.mlp.down_proj = Quantized(40, 24, bias=False)


REFUSED = {
    "its dtype is torch.float64": lambda model: model.model.double(),
    "its activation is gelu": lambda model: setattr(model.config, "hidden_act", "gelu"),
    "its rotary embedding is dynamic": lambda model: model.config.rope_parameters.update(rope_type="dynamic"),
    "its rotary embedding is longrope": lambda model: model.config.rope_parameters.update(rope_type="longrope"),
    "1.mlp.down_proj is a Quantized": replaced,
    "0.self_attn.o_proj has a bias": lambda model: biased(model.model.model.layers[0].self_attn.o_proj),
    "2.mlp.gate_proj has a bias": lambda model: biased(model.model.model.layers[2].mlp.gate_proj),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_the_fast_path_does_not_compute_is_refused(reason):
    assert why_not(edited(REFUSED[reason])) == reason


def test_another_architecture_is_refused():
    config = GemmaConfig(**models.SIZES, head_dim=8)
    assert why_not(CausalLM(GemmaForCausalLM(config).float())) == "its architecture is gemma"


@pytest.mark.parametrize(
    "model",
    [
        MistralForCausalLM(MistralConfig(**models.SIZES, sliding_window=64)),
        Qwen2ForCausalLM(Qwen2Config(**models.SIZES, use_sliding_window=True, sliding_window=64, max_window_layers=1)),
    ],
    ids=["mistral", "qwen2"],
)
def test_a_sliding_window_is_refused(model):
    assert why_not(CausalLM(model.float())) == "it has sliding-window attention"


def test_a_llama_with_attention_bias_is_refused_for_its_output_projection():
    model = LlamaForCausalLM(models.KINDS["llama"][1](**models.SIZES, attention_bias=True)).float()
    assert why_not(CausalLM(model)) == "0.self_attn.o_proj has a bias"
