"""Modules that are given faster kernels compute what they did."""

from types import SimpleNamespace

import pytest
import torch
from transformers.activations import GELUTanh

from specbatch.engine.general.quicker_modules import AlignedLinear, FewRowsLayerNorm, align_head, in_one_kernel, quicken
from specbatch.engine.graphs.ops import product_of_few
from tests.engine import architectures


@pytest.mark.parametrize("kind", ["gpt2", "opt"])
@pytest.mark.parametrize("most", [None, 0, 2])
def test_a_model_keeps_its_weights_and_its_logits(kind, most):
    """Also where some linears, or all, leave their tokens to PyTorch."""
    model = architectures.build(kind)
    ids, taken = torch.tensor([[3, 1], [4, 1]]), []

    def product(x, weight, bias):
        if len(x) > most:
            return None
        taken.append(weight.shape)
        return torch.nn.functional.linear(x, weight, bias)

    with torch.no_grad():
        before, weights = model(ids).logits, {name: id(weight) for name, weight in model.named_parameters()}
        one = model(ids[:1]).logits
        quicken(model, product if most is not None else None)
        assert {name: id(weight) for name, weight in model.named_parameters()} == weights
        assert any(type(module) is FewRowsLayerNorm for module in model.modules())
        assert torch.allclose(model(ids).logits, before, atol=1e-5)
        assert not taken
        assert torch.allclose(model(ids[:1]).logits, one, atol=1e-5)
    linears = [name for name, weight in model.named_parameters() if weight.dim() == 2 and "emb" not in name and "wte" not in name and "wpe" not in name]  # fmt: skip
    assert len(taken) == (len(linears) if most else 0)


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


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["gpt2", "opt"])
@pytest.mark.parametrize("rows", [1, 2, 7, 30])
def test_kernels_of_few_tokens_give_a_models_logits(kind, rows):
    device = torch.device("cuda")
    model = architectures.build(kind).to(device, torch.bfloat16)
    ids = torch.arange(rows, device=device)[:, None] % 7
    with torch.no_grad():
        before = model(ids).logits.float()
        quicken(model, product_of_few(device))
        difference = (model(ids).logits.float() - before).abs().max()
    assert difference < 0.03 * before.abs().max()
