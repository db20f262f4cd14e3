"""Modules that are given faster kernels compute what they did."""

from types import SimpleNamespace

import pytest
import torch
from transformers.activations import GELUTanh

from specbatch.engine.general.quicker_modules import AlignedLinear, FewRowsLayerNorm, align_head, in_one_kernel, quicken
from tests.engine import architectures


def test_a_model_keeps_its_weights_and_its_logits():
    model = architectures.build("gpt2")
    ids = torch.tensor([[3, 1, 4]])
    before, weights = model(ids).logits, {name: id(weight) for name, weight in model.named_parameters()}
    quicken(model)
    assert type(model.transformer.ln_f) is FewRowsLayerNorm
    assert {name: id(weight) for name, weight in model.named_parameters()} == weights
    assert torch.allclose(model(ids).logits, before, atol=1e-5)


def test_gelu_of_many_kernels_becomes_one_and_gives_the_same():
    model = architectures.build("gpt2")
    ids = torch.tensor([[3, 1, 4]])
    before = model(ids).logits
    in_one_kernel(model)
    assert isinstance(model.transformer.h[0].mlp.act, GELUTanh)
    assert torch.allclose(model(ids).logits, before, atol=1e-5)


@pytest.mark.parametrize("bias", [False, True])
def test_heads_of_odd_vocabularies_give_the_same_in_two_parts(bias):
    head = torch.nn.Linear(16, 21, bias=bias).bfloat16()
    x = torch.randn(3, 16).bfloat16()
    expected = head(x)
    align_head(SimpleNamespace(get_output_embeddings=lambda: head))
    assert type(head) is AlignedLinear
    assert torch.allclose(head(x), expected, rtol=0.02, atol=0.02)
    even = torch.nn.Linear(16, 24).bfloat16()
    align_head(SimpleNamespace(get_output_embeddings=lambda: even))
    assert type(even) is torch.nn.Linear
