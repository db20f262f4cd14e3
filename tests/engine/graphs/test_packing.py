"""Packed weights are the model's own."""

import pytest
import torch

from specbatch.engine.graphs.describe.describe import describe
from specbatch.engine.graphs.packing import pack_layers
from tests.engine.graphs import models

IDS = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]])


def packed_layers(model):
    return list(pack_layers(model, describe(model, 100)))


@pytest.mark.parametrize("kind", models.KINDS)
def test_the_models_parameters_become_views_and_it_computes_as_before(kind):
    model = models.build(kind)
    names = set(model.state_dict())
    with torch.inference_mode():
        before = model(IDS).logits
    layers = packed_layers(model)
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
    first, again = packed_layers(model), packed_layers(model)
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
    packed = packed_layers(model)[0].gate_up
    assert torch.equal(packed, expected)
    assert (packed.data_ptr() == flat[size:].data_ptr()) == in_order
