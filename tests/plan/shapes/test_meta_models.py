"""Real configs built in transformers on the meta device: no weights, but every parameter and buffer by name."""

import pytest

import specbatch.engine.loading.mimo  # noqa: F401  # which transformers is to know
from specbatch.plan.device_map import place_model
from specbatch.plan.shapes.families import FAMILIES
from specbatch.plan.shapes.read_shape import shape_from_config
from tests.plan.builders import CONFIGS, config

REAL = sorted(path.stem for path in CONFIGS.glob("*.json"))

# Odd sizes on purpose: no two products of them are alike.
SMALL = {
    "num_hidden_layers": 3,
    "hidden_size": 96,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "intermediate_size": 176,
    "vocab_size": 320,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
VARIANTS = [
    ("llama", {}),
    ("llama", {"attention_bias": True, "mlp_bias": True, "head_dim": 24}),
    ("llama", {"tie_word_embeddings": True}),
    ("mistral", {}),
    ("mistral", {"head_dim": 40}),
    ("qwen2", {}),
    ("mimo", {}),
    ("qwen3", {}),
    ("qwen3", {"attention_bias": True, "tie_word_embeddings": True}),
    ("granite", {"attention_bias": True, "mlp_bias": True}),
    ("smollm3", {}),
    ("phi3", {}),
    ("olmo2", {}),
    ("gemma", {}),
    ("gemma2", {"head_dim": 24}),
    ("gemma3_text", {"head_dim": 24}),
    ("olmo3", {}),
    ("glm", {"attention_bias": True, "head_dim": 16}),
    ("glm4", {"attention_bias": False, "head_dim": 16}),
    ("seed_oss", {"attention_bias": True, "attention_out_bias": False, "head_dim": 40}),
    ("cohere", {}),
    ("cohere2", {}),
    ("gpt_oss", {"attention_bias": True, "num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 24}),
    ("mixtral", {"num_local_experts": 4, "num_experts_per_tok": 2}),
    ("qwen3_moe", {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 40}),
]

pytestmark = pytest.mark.slow


def meta_model(plain):
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    plain = dict(plain)
    settings = AutoConfig.for_model(plain.pop("model_type"), **plain)
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(settings, dtype=torch.bfloat16)


@pytest.fixture(scope="module", params=REAL)
def real(request):
    return config(request.param), meta_model(config(request.param))


def test_parameters_and_bytes_are_those_of_the_model(real):
    plain, model = real
    shape = shape_from_config(plain, "m", "bfloat16")
    assert shape.params == sum(parameter.numel() for parameter in model.parameters())
    assert shape.weight_bytes == sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())


def test_the_cache_is_that_of_the_model(real):
    plain, model = real
    shape = shape_from_config(plain, "m", "bfloat16")
    rows = [
        layer.self_attn.k_proj.weight.shape[0] + layer.self_attn.v_proj.weight.shape[0] for layer in model.model.layers
    ]
    assert shape.kv_bytes_per_token == 2 * sum(rows)


@pytest.mark.parametrize("gpus", range(1, 9))
@pytest.mark.parametrize("first", [0, 3])
def test_every_parameter_and_buffer_is_placed_exactly_once(real, gpus, first):
    plain, model = real
    shape = shape_from_config(plain, "m")
    devices = [f"cuda:{first + index}" for index in range(gpus)]
    placed = place_model(shape, devices).device_map
    tensors = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    modules = dict(model.named_modules())
    assert any("rotary_emb" in name for name, _ in tensors)
    for name, _ in tensors:
        owners = [module for module in placed if name.startswith(f"{module}.")]
        assert len(owners) == 1, f"{name} belongs to {owners}"
    assert set(placed) <= set(modules), "the map names modules that the model does not have"
    if shape.tied:
        assert placed["lm_head"] == placed["model.embed_tokens"]


@pytest.mark.parametrize(("kind", "change"), VARIANTS)
def test_every_known_family_is_counted_exactly(kind, change):
    plain = {"model_type": kind, **SMALL, **change}
    model = meta_model(plain)
    shape = shape_from_config(plain, kind)
    assert shape.known_layout
    assert shape.params == sum(parameter.numel() for parameter in model.parameters())
    placed = place_model(shape, ["cuda:1", "cuda:2"]).device_map
    for name, _ in [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]:
        assert sum(name.startswith(f"{module}.") for module in placed) == 1, name


def test_no_known_family_is_left_out_of_this_file():
    assert {kind for kind, _ in VARIANTS} == set(FAMILIES)
