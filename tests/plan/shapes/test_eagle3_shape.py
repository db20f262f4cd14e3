"""Heads of both public layouts are counted to the byte, and refused by name where they do not fit their target."""

import json

import pytest
import torch
from safetensors.torch import save_file

from specbatch.eagle3 import Eagle3Config, is_eagle3
from specbatch.engine.general.eagle3_head import Eagle3Head
from specbatch.engine.general.mtp_head import MtpHead
from specbatch.errors import ModelError, VocabularyMismatchError
from specbatch.plan.planner import make_plan
from specbatch.plan.shapes.read_shape import read_shape, shape_from_config, shape_in
from tests.plan.builders import H100, job, shape

# AngelSlim/Qwen3-8B_eagle3 and RedHatAI/Qwen3-8B-speculator.eagle3, as their layouts have it.
FLAT = {
    "architectures": ["LlamaForCausalLMEagle3"],
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "num_hidden_layers": 1,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151936,
    "draft_vocab_size": 32000,
    "max_position_embeddings": 40960,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000,
    "rope_scaling": None,
    "torch_dtype": "bfloat16",
}
# What transformers has as a default is left out in `transformer_layer_config`: 4096 wide, 32 heads.
NESTED = {
    "architectures": ["Eagle3Speculator"],
    "auto_map": {"": "eagle3.Eagle3SpeculatorConfig"},
    "draft_vocab_size": 32000,
    "norm_before_residual": True,
    "speculators_config": {"algorithm": "eagle3", "verifier": {"name_or_path": "Qwen/Qwen3-8B"}},
    "speculators_model_type": "eagle3",
    "torch_dtype": "bfloat16",
    "transformer_layer_config": {
        "model_type": "llama",
        "head_dim": 128,
        "intermediate_size": 12288,
        "num_hidden_layers": 1,
        "num_key_value_heads": 8,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000,
        "vocab_size": 151936,
    },
}


def written(folder, config):
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("config", [FLAT, NESTED], ids=["SafeAILab", "speculators"])
def test_both_layouts_say_the_same(config, tmp_path):
    head = Eagle3Config.of(config, "h")
    sizes = head.hidden_size, head.num_heads, head.num_kv_heads, head.intermediate_size, head.vocab_size
    assert sizes == (4096, 32, 8, 12288, 151936)
    assert head.layers_of(36) == (2, 18, 33)
    assert head.norm_before_residual == (config is NESTED)
    found = shape_in(written(tmp_path, config), "h", drafting=True)
    assert (found.kv_bytes_per_token, found.num_layers, found.why_general) == (4096, 1, None)


@pytest.mark.parametrize("config", [FLAT, NESTED | {"norm_before_fc": True}], ids=["SafeAILab", "speculators"])
@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_every_parameter_is_counted(config, family, tmp_path):
    config = json.loads(json.dumps(config))
    config.get("transformer_layer_config", config)["model_type"] = family
    with torch.device("meta"):
        head = Eagle3Head(Eagle3Config.of(config, "h"))
    assert shape_in(written(tmp_path, config), "h", drafting=True).params == sum(p.numel() for p in head.parameters())


def test_an_embedding_that_is_the_targets_is_not_counted(tmp_path):
    whole = shape_in(written(tmp_path, FLAT), "h", drafting=True)
    save_file({"fc.weight": torch.zeros(1)}, tmp_path / "model.safetensors")
    assert whole.params - shape_in(tmp_path, "h", drafting=True).params == 151936 * 4096


@pytest.mark.parametrize(("where", "layers"), [("top", (1, 5, 9)), ("eagle_config", (2, 6, 10))])
def test_layers_are_counted_by_their_inputs_and_in_eagle_config_by_their_outputs(where, layers):
    ids = {"eagle_aux_hidden_state_layer_ids": [1, 5, 9]}
    config = FLAT | (ids if where == "top" else {"eagle_config": ids})
    assert Eagle3Config.of(config, "h").layers_of(36) == layers


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_hidden_layers": 2}, "it has 2 layers"),
        ({"eagle_config": {"use_aux_hidden_state": False}}, "as EAGLE 1 and 2 do"),
        ({"hidden_act": "gelu"}, "its activation is gelu"),
        ({"hidden_size": "wide"}, "hidden_size is 'wide'"),
        ({"vocab_size": None}, "vocab_size is None"),
        ({"model_type": "deepseek_v3"}, "its layer is built like deepseek_v3"),
        ({"quantization_config": {"quant_method": "fp8"}}, "its weights are quantised"),
        ({"eagle_aux_hidden_state_layer_ids": "2,18"}, "not a list of layers"),
    ],
)
def test_a_head_of_another_kind_is_refused_by_name(change, words):
    with pytest.raises(ModelError, match=words):
        Eagle3Config.of(FLAT | change, "h")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rms_norm_eps": None}, "rms_norm_eps is None, not a number from 0 to 1"),
        ({"rms_norm_eps": "small"}, "rms_norm_eps is 'small'"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps is nan"),
        ({"rope_theta": "10k"}, "rope_theta of rope_type default is '10k'"),
        ({"rope_theta": -10000.0}, "rope_theta of rope_type default is -10000.0"),
        ({"rope_theta": 10**400}, "not a positive number"),
        ({"rope_scaling": ["linear", 2.0]}, "rope_scaling is .*, not an object"),
        ({"rope_scaling": {"type": "linear"}}, "factor of rope_type linear is None"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "low_freq_factor of rope_type llama3 is None"),
        ({"rope_scaling": {"rope_type": "foo"}}, "rope_type is 'foo', not one of"),
        ({"rope_scaling": {"rope_type": ["linear"]}}, "rope_type is .'linear'., not one of"),
        ({"num_key_value_heads": 3}, "its 32 heads cannot share 3 heads"),
        ({"num_key_value_heads": 64}, "its 32 heads cannot share 64 heads"),
        ({"num_attention_heads": 0}, "num_attention_heads is 0, not a positive whole number"),
        ({"num_attention_heads": 32.0}, "num_attention_heads is 32.0"),
        ({"head_dim": 15}, "head_dim is 15"),
        ({"intermediate_size": 0}, "intermediate_size is 0"),
        ({"intermediate_size": 10**30}, "no head has more than"),
        ({"hidden_size": None}, "hidden_size is None"),
        ({"vocab_size": "x"}, "vocab_size is 'x'"),
        ({"draft_vocab_size": 151937}, "draft_vocab_size is 151937, and vocab_size is 151936"),
        ({"norm_before_residual": "no"}, "norm_before_residual is 'no', neither true nor false"),
        ({"architectures": "LlamaForCausalLMEagle3"}, "architectures is 'LlamaForCausalLMEagle3', not a list"),
    ],
)
def test_a_number_that_a_head_cannot_have_is_refused_where_the_config_is_read(change, words, tmp_path):
    with pytest.raises(ModelError, match=words) as refused:
        shape_in(written(tmp_path, FLAT | change), "heads/own", drafting=True)
    assert refused.value.where == "heads/own"
    assert refused.value.remedy


def test_a_config_with_odd_names_of_its_kind_is_read_as_another_models():
    assert not is_eagle3({"speculators_model_type": ["eagle"], "architectures": None})


@pytest.mark.parametrize("kind", ["EagleModel", "MedusaModel", "LlamaForCausalLM"])
def test_other_heads_and_models_are_none(kind):
    assert not is_eagle3({"architectures": [kind]})
    assert not is_eagle3({"speculators_config": {"algorithm": "medusa"}})


def test_a_head_is_no_target(tmp_path):
    with pytest.raises(ModelError, match="an EAGLE-3 head can be the drafter"):
        read_shape(str(written(tmp_path, FLAT)))


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"hidden_size": 2048}, ModelError, "2048 wide, and those of qwen3-8b are 4096"),
        ({"vocab_size": 128256}, VocabularyMismatchError, "128256 tokens, and qwen3-8b has 151936"),
        ({"eagle_aux_hidden_state_layer_ids": [2, 20, 36]}, ModelError, "layers 2, 20, 36, and qwen3-8b has 36 layers"),
    ],
)
def test_a_head_for_another_target_is_refused_before_anything_is_loaded(change, error, words, tmp_path):
    head = shape_in(written(tmp_path, FLAT | change), "h", drafting=True)
    with pytest.raises(error, match=words):
        make_plan(job(1), shape("qwen3-8b"), head, [H100])


def test_a_head_without_an_embedding_of_the_targets_width_is_refused(tmp_path):
    save_file({"fc.weight": torch.zeros(1)}, tmp_path / "model.safetensors")
    head = shape_in(written(tmp_path, FLAT | {"hidden_size": 2048, "target_hidden_size": 4096}), "h", drafting=True)
    with pytest.raises(ModelError, match="no embedding of its own"):
        make_plan(job(1), shape("qwen3-8b"), head, [H100])


def test_method_eagle3_takes_no_model():
    spec = job(1, "drafter.method=eagle3")
    with pytest.raises(ModelError, match="describes no EAGLE-3 head"):
        make_plan(spec, shape("qwen3-8b"), shape("qwen3-0.6b"), [H100])


def test_a_head_leaves_room_for_more_kv_than_a_draft_model_and_stays_on_one_gpu(tmp_path):
    head = shape_in(written(tmp_path, FLAT), "h", drafting=True)
    plan = make_plan(job(1), shape("qwen3-8b"), head, [H100])
    model = make_plan(job(1), shape("qwen3-8b"), shape("qwen3-1.7b"), [H100])
    assert plan.fits
    assert plan.ceiling.acceptance_rate == 0.7
    assert plan.devices[0].reserve["hidden states"] == int(3.25 * 4096 * 3 * 4096 * 2)
    assert plan.replicas[0].target.kv_bytes > model.replicas[0].target.kv_bytes
    assert plan.replicas[0].drafter.device_map == {"": "cuda:0"}
    assert plan.ceiling.tokens_per_second > plan.ceiling.target_only
    spread = job(4, "placement.strategy=multi_gpu_ratio", "placement.ratio={target: 2, drafter: 2}")
    with pytest.raises(ModelError, match="is one layer, and 2 GPUs"):
        make_plan(spread, shape("qwen3-8b"), head, [H100] * 4)


@pytest.mark.parametrize("asked", ["kvDtype=fp8", "window=256"])
def test_a_head_found_by_its_config_has_no_kv_in_fp8_and_no_window(asked, tmp_path):
    head = shape_in(written(tmp_path, FLAT), "h", drafting=True)
    field = asked.partition("=")[0]
    with pytest.raises(ModelError, match=rf"drafter.{field} is for draft models, and it is an EAGLE-3 head"):
        make_plan(job(1, f"drafter.{asked}"), shape("qwen3-8b"), head, [H100])


# XiaomiMiMo/MiMo-7B-Base.
MIMO = {
    "model_type": "mimo",
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 151680,
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-5,
    "rope_theta": 640000,
    "num_nextn_predict_layers": 1,
    "torch_dtype": "bfloat16",
}


def test_a_models_own_layer_for_drafting_is_counted_to_the_byte_as_its_drafter():
    target = shape_from_config(MIMO, "mimo")
    assert target.why_general is None
    plan = make_plan(job(1, "drafter={method: mtp}", drafter=None), target, None, [H100])
    drafter = plan.replicas[0].drafter
    with torch.device("meta"):
        head = MtpHead(target.mtp)
    own = sum(weight.numel() for weight in head.parameters())
    shared = head.embed_tokens.weight.numel() + head.input_norm.weight.numel()
    assert drafter.weight_bytes == 2 * (own - shared)
    assert drafter.devices == ("cuda:0",)
    assert any("the first drafts with `drafter: {method: mtp}`" in note for note in plan.notes)


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (MIMO | {"num_nextn_predict_layers": 0}, "counts no layers for drafting"),
        (MIMO | {"model_type": "qwen2"}, "those of model type 'qwen2' do not run here"),
    ],
)
def test_a_model_without_a_layer_that_can_draft_is_refused_by_name(config, why):
    with pytest.raises(ModelError, match=why):
        make_plan(job(1, "drafter={method: mtp}", drafter=None), shape_from_config(config, "own"), None, [H100])


def test_a_model_whose_architectures_are_a_text_is_refused_by_name():
    with pytest.raises(ModelError, match="architectures is 'LlamaForCausalLM', not a list of names"):
        shape_from_config(MIMO | {"architectures": "LlamaForCausalLM"}, "own")
