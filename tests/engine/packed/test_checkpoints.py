"""Checkpoints of AWQ, GPTQ and compressed-tensors, loaded as they are stored and held against what their formats say."""

import copy

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

from specbatch.engine.general.drafter import ModelDrafter
from specbatch.engine.general.model import CausalLM
from specbatch.engine.graphs.describe import check
from specbatch.engine.graphs.describe.describe import describe
from specbatch.engine.graphs.describe.modules import modules_of
from specbatch.engine.graphs.packing import pack_layer
from specbatch.engine.loading.load import load_causal_lm
from specbatch.engine.quantization.linears import QuantizedLinear
from specbatch.errors import ModelError
from tests.engine import tiny
from tests.engine.graphs import fast
from tests.engine.packed import checkpoints

SIZES = {"hidden_size": 192, "intermediate_size": 256, "num_hidden_layers": 2, "vocab_size": tiny.VOCAB}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "tie_word_embeddings": False}
DOWN = "model.layers.1.mlp.down_proj"


def model(made=Qwen3ForCausalLM, config=Qwen3Config, **others):
    torch.manual_seed(0)
    return made(config(**SIZES, **HEADS, initializer_range=0.1, max_position_embeddings=256, **others)).eval()


def load(folder, **arguments):
    return load_causal_lm(str(folder), device_map={"": "cpu"}, **arguments)


def packed_linears(loaded):
    return {name: part for name, part in loaded.model.named_modules() if isinstance(part, QuantizedLinear)}


def spoil(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.slow
@pytest.mark.parametrize("kind", checkpoints.KINDS)
def test_linears_stand_for_the_numbers_that_the_format_says(tmp_path, kind):
    stands_for = checkpoints.save(model(), tmp_path, kind)
    loaded = load(tmp_path, dtype="float32")
    linears = packed_linears(loaded)
    assert len(linears) == 2 * 7
    for name, linear in linears.items():
        assert torch.equal(linear.weight.dense(torch.float32), stands_for.get_submodule(name).weight)
        assert linear.values.nbytes * (1 if kind == "8 bits" else 2) == linear.in_features * linear.out_features
        middle = kind == "8 bits" or not linear.scales[..., 1].any()
        assert middle == (kind in {"gptq sym", "compressed", "compressed channel", "8 bits"})
    assert check.why_not(loaded) is None


@pytest.mark.parametrize("dtype", ["auto", "bfloat16"])
def test_scales_are_in_the_dtype_that_the_model_runs_in(tmp_path, dtype):
    whole = model()
    whole.config.dtype = torch.float16
    checkpoints.save(whole, tmp_path, "awq")
    loaded = load(tmp_path, dtype=dtype)
    expected = torch.float16 if dtype == "auto" else torch.bfloat16
    assert {linear.scales.dtype for linear in packed_linears(loaded).values()} == {expected}
    assert loaded.model.dtype == expected


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["awq", "gptq sym", "compressed asym", "8 bits"])
def test_both_engines_write_what_the_model_in_floating_point_writes(tmp_path, kind):
    made = model() if kind != "awq" else model(LlamaForCausalLM, LlamaConfig, attention_bias=True)
    stands_for, rows = checkpoints.save(made, tmp_path, kind), tiny.prompts(6)
    expected = tiny.greedy_reference(stands_for, rows, 12)
    requests, count = fast.requests(rows, 12), len(rows)
    for k in (0, 1, 4):
        drafter = ModelDrafter(CausalLM(tiny.noisy(stands_for)), prefill_chunk=32) if k else None
        sizes = {"max_sequences": 3, "num_speculative_tokens": k}
        out, _ = fast.decode(load(tmp_path, dtype="float32"), copy.deepcopy(drafter), requests, **sizes)
        assert tiny.tokens(out, count) == expected
    general, _ = tiny.decode(load(tmp_path, dtype="float32"), drafter, requests, **sizes)
    assert tiny.tokens(general, count) == expected


@pytest.mark.parametrize("kind", ["awq", "8 bits"])
def test_joined_weights_are_the_parts_whose_memory_they_are(tmp_path, kind):
    checkpoints.save(model(), tmp_path, kind)
    loaded = load(tmp_path, dtype="float32")
    layer = modules_of(loaded.model.model.layers[1], 1)
    parts = [part.weight.dense(torch.float32) for part in layer.qkv]
    packed = pack_layer(layer, describe(loaded.model, 64).layers[1])
    assert torch.equal(packed.qkv.dense(torch.float32), torch.cat(parts))
    assert packed.qkv.values.data_ptr() == layer.qkv[0].values.data_ptr()
    assert packed.qkv.scales.data_ptr() == layer.qkv[0].scales.data_ptr()


def test_groups_that_do_not_fill_half_the_inputs_are_kept_as_smaller_ones(tmp_path):
    stands_for = checkpoints.save(model(), tmp_path, "awq", 64)
    mlp = load(tmp_path, dtype="float32").model.model.layers[0].mlp
    assert (mlp.up_proj.weight.int4_group, mlp.down_proj.weight.int4_group) == (32, 64)  # of 192 and 256 inputs
    assert torch.equal(mlp.up_proj.weight.dense(torch.float32), stands_for.model.layers[0].mlp.up_proj.weight)


@pytest.mark.slow
def test_what_the_files_do_not_quantise_stays_a_linear(tmp_path):
    left = ["model.layers.0.self_attn.o_proj", DOWN]
    stands_for = checkpoints.save(model(), tmp_path, "gptq", left=left)
    loaded = load(tmp_path, dtype="float32")
    assert {name for name, part in loaded.model.named_modules() if type(part) is nn.Linear} == {"lm_head", *left}
    assert torch.equal(loaded.model.get_submodule(DOWN).weight, stands_for.get_submodule(DOWN).weight)
    assert check.why_not(loaded) is None


@pytest.mark.slow
def test_a_packed_head_is_read_as_such(tmp_path):
    stands_for = checkpoints.save(model(), tmp_path, "gptq_v2", head=True)
    loaded = load(tmp_path, dtype="float32")
    assert torch.equal(loaded.model.lm_head.weight.dense(torch.float32), stands_for.lm_head.weight)
    assert check.why_not(loaded) is None


@pytest.mark.slow
def test_inputs_in_an_order_of_their_own_take_the_general_path_which_gives_the_models_texts(tmp_path):
    rows = tiny.prompts(4)
    expected = tiny.greedy_reference(checkpoints.save(model(), tmp_path, "gptq", desc_act=True), rows, 12)
    loaded = load(tmp_path, dtype="float32")
    assert check.why_not(loaded) == "self_attn.q_proj of layer 0 is a DescActLinear"
    out, _ = tiny.decode(loaded, None, fast.requests(rows, 12), max_sequences=3, num_speculative_tokens=0)
    assert tiny.tokens(out, len(rows)) == expected


@pytest.mark.slow
def test_biases_of_zeros_that_the_model_does_not_have_are_left_out_and_others_added(tmp_path):
    checkpoints.save(model(), tmp_path, "gptq")
    names = [f"model.layers.{layer}.mlp.down_proj" for layer in (0, 1)]
    biases = [torch.zeros(192), torch.ones(192)]
    spoil(tmp_path, lambda tensors: tensors.update({f"{n}.bias": b for n, b in zip(names, biases, strict=True)}))
    loaded = load(tmp_path, dtype="float32")
    assert loaded.model.get_submodule(names[0]).bias is None
    assert torch.equal(loaded.model.get_submodule(names[1]).bias, biases[1])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tensors: tensors[f"{DOWN}.g_idx"].clamp_(max=3), f"{DOWN} has an index of groups of which not every one has 32"),
        (lambda tensors: tensors.pop(f"{DOWN}.qzeros"), f"1 tensor of the model missing .{DOWN}.qzeros"),
        (lambda tensors: tensors.update({f"{DOWN}.scales": torch.ones(4, 192)}), "another shape"),
        (lambda tensors: tensors[f"{DOWN}.scales"].fill_(torch.inf), "numbers of .*scales are not finite"),
        (lambda tensors: [tensors.pop(key) for key in list(tensors) if "qweight" in key], "the files have no qweight"),
    ],
    ids=["groups of other sizes", "no zero points", "other groups", "infinite scales", "no weights"],
)  # fmt: skip
def test_what_cannot_be_read_is_one_clear_error(tmp_path, change, said):
    checkpoints.save(model(), tmp_path, "gptq")
    spoil(tmp_path, change)
    with pytest.raises(ModelError, match=said) as caught:
        load(tmp_path)
    assert caught.value.remedy


def test_a_variant_that_is_left_to_transformers_says_why(tmp_path):
    checkpoints.save(model(), tmp_path, "awq")
    checkpoints.change(tmp_path, {"version": "gemv"})
    with pytest.raises(ModelError, match="cannot load") as caught:
        load(tmp_path)
    assert "since it is packed for the kernel gemv, and gemm is read: pip install gptqmodel" in caught.value.remedy
