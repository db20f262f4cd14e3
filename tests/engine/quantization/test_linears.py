"""Weights in fewer bits: how far they are off, and what a model with them refuses."""

import copy
import gc
import weakref

import pytest
import torch
from torch import nn

from specbatch.engine.general.drafter import ModelDrafter
from specbatch.engine.general.model import CausalLM
from specbatch.engine.graphs.describe.check import why_not
from specbatch.engine.loading.load import load_causal_lm
from specbatch.engine.quantization.linears import QuantizedLinear, quantize_linears
from specbatch.engine.quantization.rounding import GROUP, quantize
from specbatch.errors import ModelError
from tests.engine import tiny
from tests.engine.fp8 import checkpoints
from tests.engine.graphs import fast

QUANTIZATIONS = ["fp8", "int8", "int4"]
BITS = {"fp8": 8, "int8": 8, "int4": 4 + 16 / GROUP}


def wide(seed=1):
    """As tiny.qwen3, of a width that int4 takes."""
    torch.manual_seed(seed)
    config = copy.deepcopy(tiny.qwen3().config)
    config.hidden_size, config.intermediate_size, config.head_dim = 64, 128, 16
    return type(tiny.qwen3())(config).float().eval()


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_a_matrix_is_rounded_to_the_nearest_of_the_numbers_that_there_are(quantization):
    weight = torch.randn(12, 128, generator=torch.Generator().manual_seed(0)) * torch.logspace(-6, 2, 12)[:, None]
    few = quantize(weight, quantization)
    assert few.shape == weight.shape
    off = (few.dense(torch.float32) - weight).abs()
    if quantization == "int4":  # numbers may be cut off where the others gain by it
        assert bool((off.norm(dim=-1) < 0.11 * weight.norm(dim=-1)).all())
    else:
        largest = weight.abs().amax() if quantization == "fp8" else weight.abs().amax(-1, keepdim=True)  # of the block
        step = {"int8": largest / 127 / 2 + largest / 1000, "fp8": weight.abs() / 16 + largest / 448 * 2**-10}
        assert bool((off <= step[quantization] * 1.05).all())
    assert few.nbytes <= weight.numel() * BITS[quantization] / 8 + 4 * 12


@pytest.mark.parametrize("size", [(200, 300), (8192 + 200, 128)], ids=str)  # the second: in two parts
def test_fp8_is_what_a_checkpoint_in_blocks_has_and_rounds_inputs(size):
    weight = torch.randn(size, generator=torch.Generator().manual_seed(0)) * torch.logspace(-3, 3, size[0])[:, None]
    few, stored = quantize(weight, "fp8"), checkpoints.quantized(weight, (128, 128), 128)
    assert torch.equal(few.values.view(torch.uint8), stored.values.view(torch.uint8))
    assert torch.equal(few.scales, stored.scales)
    assert (few.rows, few.columns, few.group) == (stored.rows, stored.columns, stored.group)


def test_a_row_of_zeros_stays_one():
    for quantization in QUANTIZATIONS:
        assert not quantize(torch.zeros(2, 64), quantization).dense(torch.float32).any()


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_every_linear_of_a_model_is_replaced_and_its_own_weights_are_gone(quantization):
    model = wide()
    before = [weakref.ref(module.weight) for module in model.modules() if type(module) is nn.Linear]
    embedding = model.get_input_embeddings().weight
    quantize_linears(model, quantization, "tiny")
    gc.collect()
    assert not any(weight() is not None for weight in before)
    assert not any(type(module) is nn.Linear for module in model.modules())
    assert isinstance(model.get_output_embeddings(), QuantizedLinear)
    assert model.get_input_embeddings().weight is embedding


def test_a_tied_head_leaves_the_embedding_as_it_is():
    model = wide()
    model.lm_head.weight = model.model.embed_tokens.weight
    kept = model.model.embed_tokens.weight.clone()
    quantize_linears(model, "int4", "tiny")
    assert torch.equal(model.model.embed_tokens.weight, kept)
    assert model.get_output_embeddings().weight.nbytes < kept.nbytes / 6


@pytest.mark.slow
@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_a_quantized_model_has_the_fast_path_and_its_packed_weights_are_the_modules_own(quantization):
    model = wide()
    quantize_linears(model, quantization, "tiny")
    wrapped = CausalLM(model)
    wrapped.limit_rows(128)
    assert why_not(wrapped) is None
    made = fast.engine(CausalLM(wide()), ModelDrafter(wrapped), num_speculative_tokens=2, max_sequences=2)
    made.warmup()
    packed = made.runner.pair.drafter.decoder.stages[0].layers[0]
    assert packed.qkv.values.data_ptr() == model.model.layers[0].self_attn.q_proj.values.data_ptr()


@pytest.mark.slow
@pytest.mark.parametrize(("quantization", "rule"), [("int8", "coupled"), ("fp8", "coupled"), ("int4", "rejection")])
def test_a_quantized_drafter_changes_no_greedy_token_and_drafts_alike_in_both_engines(quantization, rule):
    model, rows = wide(), tiny.prompts(5)
    expected = tiny.greedy_reference(model, rows, 12)
    twin = copy.deepcopy(model)
    quantize_linears(twin, quantization, "tiny")
    target, drafter = CausalLM(model), ModelDrafter(CausalLM(twin), prefill_chunk=32)
    sizes = {"max_sequences": 3, "num_speculative_tokens": 3, "acceptance_rule": rule}
    out, engine = fast.decode(target, drafter, fast.requests(rows, 12), **sizes)
    general, _ = tiny.decode(target, drafter, fast.requests(rows, 12), **sizes)
    assert tiny.tokens(out, len(rows)) == tiny.tokens(general, len(rows)) == expected
    assert fast.counts(out) == fast.counts(general)
    assert (
        engine.stats.acceptance_rate > {"int8": 0.8, "fp8": 0.5, "int4": 0.3}[quantization]
    )  # random weights: near ties


@pytest.mark.parametrize("dtype", ["auto", "bfloat16"])
def test_a_drafter_is_quantized_as_it_is_loaded(tmp_path, dtype):
    wide().save_pretrained(tmp_path)
    loaded = load_causal_lm(str(tmp_path), device_map={"": "cpu"}, dtype=dtype, quantization="int8")
    values = loaded.model.lm_head.values
    assert values.dtype == torch.int8
    assert loaded.placement()["lm_head.values"] == "cpu"


def test_what_cannot_be_packed_is_refused_with_the_remedy():
    with pytest.raises(ModelError, match="32 inputs, and int4 needs a multiple of 64") as caught:
        quantize_linears(tiny.qwen3(), "int4", "tiny")
    assert caught.value.remedy == "set drafter.quantization to int8"


def test_matrices_that_are_no_linears_are_named():
    model = wide()
    model.model.layers[1].experts = nn.ParameterList([nn.Parameter(torch.zeros(2, 4, 4))])
    with pytest.raises(ModelError, match=r"linears, and model\.layers\.1\.experts\.0 is none"):
        quantize_linears(model, "int8", "tiny")


def test_weights_of_fewer_bits_already_are_refused():
    model = wide()
    model.lm_head.weight = nn.Parameter(torch.zeros(64, 64, dtype=torch.float8_e4m3fn), requires_grad=False)
    with pytest.raises(ModelError, match=r"the weights of lm_head are float8_e4m3fn"):
        quantize_linears(model, "int8", "tiny")
