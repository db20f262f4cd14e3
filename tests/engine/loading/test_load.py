import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import MixtralConfig, MixtralForCausalLM, Qwen3Config, Qwen3ForCausalLM

from specbatch.engine.loading import load
from specbatch.engine.loading.load import load_causal_lm
from specbatch.errors import ModelError
from tests.engine import architectures, tiny
from tests.engine.fp8.checkpoints import BLOCK_SCALED, compressed
from tests.engine.packed.checkpoints import AWQ


@pytest.fixture
def folder(tmp_path):
    tiny.qwen3().save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


def test_a_folder_of_safetensors_loads_in_the_dtype_asked_for(folder):
    for dtype, expected in (("auto", torch.float32), ("bfloat16", torch.bfloat16)):
        loaded = load_causal_lm(str(folder), device_map={"": "cpu"}, dtype=dtype)
        assert loaded.model.dtype == expected
        assert loaded.name == str(folder)


def test_pickle_weights_are_refused(folder):
    state = tiny.qwen3().state_dict()
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="safetensors"):
        load_causal_lm(str(folder), device_map={"": "cpu"})


@pytest.mark.parametrize("content", [None, b"", b"not safetensors at all"])
def test_missing_or_broken_weights_are_one_clear_error(folder, content):
    weights = folder / "model.safetensors"
    weights.unlink()
    if content is not None:
        weights.write_bytes(content)
    with pytest.raises(ModelError, match="cannot load") as caught:
        load_causal_lm(str(folder), device_map={"": "cpu"}, name="spec.target.model")
    assert caught.value.where == "spec.target.model"
    assert caught.value.remedy


def test_a_folder_that_is_no_model_is_one_clear_error(tmp_path):
    with pytest.raises(ModelError, match="cannot load"):
        load_causal_lm(str(tmp_path), device_map={"": "cpu"})


@pytest.mark.parametrize(
    ("kind", "cause"), [("lfm2", "convolutions in layer 0"), ("bloom", "alibi"), ("xlstm", "a recurrent state")]
)
def test_what_cannot_run_is_refused_before_its_weights_are_read(tmp_path, kind, cause):
    architectures.config(kind).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"not read")
    with pytest.raises(ModelError, match=f"is not supported: it has {cause}"):
        load_causal_lm(str(tmp_path), device_map={"": "cpu"})


def test_a_missing_gguf_file_is_one_clear_error(tmp_path):
    with pytest.raises(ModelError, match="cannot load"):
        load_causal_lm(str(tmp_path / "missing.gguf"), device_map={"": "cpu"})


def change(folder, rename=lambda key: key, **config):
    """The folder's tensors under other names (None: left out), and other fields of its config."""
    weights = load_file(folder / "model.safetensors")
    kept = {rename(key): value for key, value in weights.items() if rename(key) is not None}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    plain = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(plain | config))


CHANGES = {
    "a layer less in the weights": (
        {"rename": lambda key: None if ".layers.1." in key else key},
        "11 tensors of the m",
    ),
    "a layer less in the config": ({"num_hidden_layers": 1, "layer_types": ["full_attention"]}, "11 tensors that the"),
    "torch.compile": ({"rename": lambda key: f"_orig_mod.{key}"}, "torch.compile"),
    "a head of EAGLE": ({"rename": lambda key: key.replace("model.layers.0", "midlayer")}, "EAGLE head"),
    "another vocabulary": ({"vocab_size": 80}, r"lm_head.weight is \[64, 32\], the model's is \[80, 32\]"),
    "no head": ({"rename": lambda key: None if key == "lm_head.weight" else key}, "without its language-model head"),
    "a norm less": ({"rename": lambda key: None if key == "model.norm.weight" else key}, r"1 .* missing \(model.norm"),
}


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("kind", CHANGES)
def test_tensors_that_do_not_fit_the_model_are_refused_at_load(folder, monkeypatch, kind, large):
    monkeypatch.setattr(load, "_LARGE", 0 if large else 1 << 30)  # from there on headers are looked at first
    arguments, words = CHANGES[kind]
    change(folder, **arguments)
    if large:
        monkeypatch.setattr(load.AutoModelForCausalLM, "from_pretrained", lambda *_, **__: pytest.fail("was loaded"))
    with pytest.raises(ModelError, match=words):
        load_causal_lm(str(folder), device_map={"": "cpu"})


def test_a_large_model_whose_headers_fit_is_loaded(folder, monkeypatch):
    monkeypatch.setattr(load, "_LARGE", 0)
    assert load_causal_lm(str(folder), device_map={"": "cpu"}).num_layers == 2


def test_shards_are_looked_at_together(folder, monkeypatch):
    monkeypatch.setattr(load, "_LARGE", 0)
    tiny.qwen3(layers=3).save_pretrained(folder, max_shard_size="20KB")
    (folder / "model.safetensors").unlink()
    assert load_causal_lm(str(folder), device_map={"": "cpu"}).num_layers == 3


def test_a_head_tied_to_the_embedding_and_left_out_of_the_file_is_not_missing(folder):
    change(folder, lambda key: None if key == "lm_head.weight" else key, tie_word_embeddings=True)
    assert load_causal_lm(str(folder), device_map={"": "cpu"}).vocab_size == tiny.VOCAB


def test_what_transformers_ignores_on_purpose_is_no_error(folder):
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    load_causal_lm(str(folder), device_map={"": "cpu"})


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(folder, number):
    weights = load_file(folder / "model.safetensors")
    weights["model.embed_tokens.weight"][50, 3] = number  # a token that no check at load runs through
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        ModelError, match=r"1 of the 2048 numbers of model.embed_tokens.weight are not finite in float32"
    ):
        load_causal_lm(str(folder), device_map={"": "cpu"})


def test_weights_too_large_for_float16_are_refused_by_name(folder):
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][0] = 1e6
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"model.norm.weight are not finite in float16") as caught:
        load_causal_lm(str(folder), device_map={"": "cpu"}, dtype="float16")
    assert "bfloat16" in caught.value.remedy


def test_a_quantised_model_says_what_it_needs(folder):
    change(folder, quantization_config={"quant_method": "hqq"})
    with pytest.raises(ModelError, match="cannot load") as caught:
        load_causal_lm(str(folder), device_map={"": "cpu"})
    assert "quantised (hqq): pip install hqq; or set spec.engine.name to vllm" in caught.value.remedy


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        (compressed() | {"kv_cache_scheme": {"num_bits": 8}}, "(kv_cache_scheme): pip install compressed-tensors"),
        (compressed(type="int"), "its weights are int of 8 bits, and FP8 is read"),
        (
            {"quant_method": "gptq", "bits": 3},
            "since it has 3 bits a weight, not 4 or 8: pip install optimum gptqmodel",
        ),
    ],
)
def test_a_form_that_is_not_read_is_named_where_a_load_fails(folder, stored, said):
    change(folder, quantization_config=stored)
    with pytest.raises(ModelError, match="cannot load") as caught:
        load_causal_lm(str(folder), device_map={"": "cpu"})
    assert said in caught.value.remedy


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        ({"quant_method": "modelopt"}, "quantised by modelopt, which neither"),
        ({"quant_method": "nvfp4"}, "quantised by nvfp4, which neither"),
        ("awq", "is no object"),
    ],
)
def test_a_quantised_model_that_nothing_here_reads_is_refused_by_its_method(folder, stored, said):
    change(folder, quantization_config=stored)
    with pytest.raises(ModelError, match=said) as caught:
        load_causal_lm(str(folder), device_map={"": "cpu"})
    assert caught.value.remedy


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU reads some of these")
@pytest.mark.parametrize(
    ("stored", "said"),
    [
        ({"quant_method": "spqr"}, "pip install spqr_quant[gpu], on a GPU"),
        ({"quant_method": "higgs"}, "pip install flute-kernel fast_hadamard_transform, on a GPU"),
        ({"quant_method": "gptq"}, "it has 0 bits a weight, not 4 or 8: pip install optimum gptqmodel"),
    ],
)
def test_what_transformers_cannot_read_here_is_one_clear_error_whatever_it_raises(folder, stored, said):
    change(folder, quantization_config=stored)
    with pytest.raises(ModelError, match="cannot load") as caught:
        load_causal_lm(str(folder), device_map={"": "cpu"})
    assert said in caught.value.remedy


@pytest.fixture
def mixture(tmp_path):
    config = MixtralConfig(
        vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, num_local_experts=4,
    )  # fmt: skip
    MixtralForCausalLM(config).save_pretrained(tmp_path)
    return tmp_path


def test_a_mixture_that_lacks_an_expert_is_refused(mixture):
    assert load_causal_lm(str(mixture), device_map={"": "cpu"}).num_layers == 1
    change(mixture, lambda key: None if ".experts.2." in key else key)
    with pytest.raises(ModelError, match="experts"):
        load_causal_lm(str(mixture), device_map={"": "cpu"})


OTHERWISE = "set spec.engine.name to vllm, or use the unquantised model"


@pytest.mark.parametrize("stored", [AWQ, compressed()], ids=["int4", "FP8"])
def test_quantised_experts_are_the_reason_given_where_they_do_not_load(mixture, stored):
    change(mixture, quantization_config=stored)
    with pytest.raises(ModelError, match="cannot load") as caught:
        load_causal_lm(str(mixture), device_map={"": "cpu"})
    assert "since it is a mixture of experts, and dense models are read: pip install" in caught.value.remedy
    assert caught.value.remedy.endswith(OTHERWISE)


def fails(model, name):
    raise ModelError("its forward fails", where=name)  # as FP8 does on a GPU, without the package `kernels`


@pytest.mark.parametrize("found", ["the weights do not fit config.json: ", "its forward fails"])
def test_quantised_experts_are_the_reason_given_where_transformers_loads_them_in_vain(mixture, found, monkeypatch):
    lacking = "q_proj" if "fit" in found else "none"
    change(mixture, lambda key: None if lacking in key else key, quantization_config=BLOCK_SCALED)
    monkeypatch.setattr(load, "CausalLM", fails)
    with pytest.raises(ModelError) as caught:
        load_causal_lm(str(mixture), device_map={"": "cpu"})
    said = (
        "transformers cannot load weights in a form of fp8 that is not read as stored (it is a mixture of experts, and"
    )
    assert caught.value.message.startswith(f"{said} dense models are read): {found}")
    assert caught.value.remedy == OTHERWISE


def write_gguf(path, model, leave_out="none"):
    gguf = pytest.importorskip("gguf")
    config = model.config
    writer = gguf.GGUFWriter(path, "qwen3")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_context_length(512)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([f"t{i}" for i in range(config.vocab_size)])
    writer.add_token_merges([])
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN3, config.num_hidden_layers)
    for key, value in model.state_dict().items():
        name = f"{names.get_name(key.removesuffix('.weight'))}.weight"
        if leave_out not in name:
            writer.add_tensor(name, value.float().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.slow
def test_tensors_missing_from_a_gguf_file_or_of_another_shape_are_refused(tmp_path):
    file = tmp_path / "m.gguf"
    settings = {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 64}
    model = Qwen3ForCausalLM(Qwen3Config(hidden_size=32, intermediate_size=48, **settings))
    write_gguf(file, model)
    assert load_causal_lm(str(file), device_map={"": "cpu"}).num_layers == 2
    write_gguf(file, model, leave_out="blk.1.ffn_up")
    with pytest.raises(ModelError, match=r"1 tensor of the model missing \(model.layers.1.mlp.up_proj.weight\)"):
        load_causal_lm(str(file), device_map={"": "cpu"})
    write_gguf(file, tiny.qwen3())  # heads of 8 numbers, where transformers reads a Qwen3 as one of 128
    with pytest.raises(ModelError, match="of another shape"):
        load_causal_lm(str(file), device_map={"": "cpu"})


def test_a_config_that_transformers_cannot_read_is_one_clear_error(folder):
    config = json.loads((folder / "config.json").read_text()) | {"architectures": "Qwen3ForCausalLM"}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"cannot load config\.json"):
        load.why_unsupported(str(folder))
