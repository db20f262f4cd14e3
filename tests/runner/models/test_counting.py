"""Models of families that the planner has no formula for, counted in the model itself."""

import json

import pytest

from specbatch.plan.device_map import place_model
from specbatch.plan.shapes.read_shape import shape_from_config
from specbatch.runner.models import counting
from specbatch.runner.models.counting import count_shape
from tests.runner.causal_configs import TYPES, tiny_config

pytestmark = pytest.mark.slow


def built(plain):
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    return AutoModelForCausalLM.from_config(CONFIG_MAPPING[plain["model_type"]].from_dict(plain)).eval()


def cached_numbers(model):
    """Numbers that each layer really gives to the cache for a token."""
    import torch
    from transformers import DynamicCache

    cache = DynamicCache()
    with torch.inference_mode():
        model(input_ids=torch.tensor([[5, 6, 7]]), past_key_values=cache, use_cache=True)
    return [sum(states.numel() // 3 for states in (layer.keys, layer.values)) for layer in cache.layers]


def test_more_than_sixty_kinds_of_models_are_tried():
    assert len(TYPES) >= 60


@pytest.mark.parametrize("kind", TYPES)
def test_parameters_cache_and_placement_are_those_of_the_model(kind):
    plain = tiny_config(kind)
    model = built(plain)
    shape = shape_from_config(plain, kind, "float32", count=count_shape)
    assert shape.known_layout
    assert shape.params == sum(parameter.numel() for parameter in model.parameters())
    assert [layer.kv for layer in shape.layers] == cached_numbers(model)
    assert shape.step_bytes <= shape.weight_bytes
    devices = ("cuda:0", "cuda:1", "cuda:2")
    placed = place_model(shape, devices, kv_tokens=10)
    assert sum(stage.weight_bytes for stage in placed.stages) == shape.weight_bytes
    assert sum(stage.kv_bytes for stage in placed.stages) == 10 * shape.kv_bytes_per_token
    modules = (
        dict(model.named_modules(remove_duplicate=False)) | dict(model.named_parameters()) | dict(model.named_buffers())
    )
    assert set(placed.device_map) <= set(modules), "the map names modules that the model does not have"
    on: dict[str, int] = dict.fromkeys(devices, 0)
    for name, parameter in model.named_parameters():
        owners = {device for module, device in placed.device_map.items() if f"{name}.".startswith(f"{module}.")}
        assert len(owners) == 1, f"{name} belongs to {owners}"
        on[owners.pop()] += parameter.numel() * 4
    assert on == {stage.device: stage.weight_bytes for stage in placed.stages}


@pytest.mark.parametrize("kind", ["gpt2", "opt", "gemma3_text", "llama"])
def test_a_tied_head_is_counted_once_and_stands_with_its_embedding(kind):
    plain = tiny_config(kind) | {"tie_word_embeddings": True}
    shape = shape_from_config(plain, kind, count=count_shape)
    assert shape.tied
    assert shape.params == sum(parameter.numel() for parameter in built(plain).parameters())
    placed = place_model(shape, ["cuda:0", "cuda:1"]).device_map
    assert next(device for name, device in placed.items() if name.endswith("lm_head")) == "cuda:0"


def test_a_qwen3_moe_saved_by_transformers_5_is_planned(tmp_path):
    from transformers import Qwen3MoeConfig

    Qwen3MoeConfig(num_experts=8, num_hidden_layers=2).save_pretrained(tmp_path)
    plain = json.loads((tmp_path / "config.json").read_text())
    shape = shape_from_config(plain, "m")
    assert (shape.num_experts, shape.known_layout) == (8, True)
    assert shape.params == shape_from_config(plain, "m", count=count_shape).params


def test_only_the_experts_that_tokens_go_to_are_read():
    shape = shape_from_config(tiny_config("ernie4_5_moe"), "m", count=count_shape)
    assert (shape.num_experts, shape.experts_per_token) == (4, 2)
    layer = shape.layers[-1]
    assert shape.active_params(layer, 2) == layer.shared_params + layer.expert_params // 2
    assert shape.active_params(layer, 2) > shape.layers[0].params  # the first layer of Ernie is dense


def test_the_text_part_of_a_model_of_more_is_counted_with_what_is_loaded_beside_it():
    text = {key: value for key, value in tiny_config("gemma3_text").items() if key != "model_type"}
    vision = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 28,
    }
    plain = {"model_type": "gemma3", "text_config": text, "vision_config": vision | {"patch_size": 14}}
    shape = shape_from_config(plain, "m", count=count_shape)
    assert shape.num_layers == 3
    assert shape.params == sum(parameter.numel() for parameter in built(plain).parameters())
    assert shape.before > 0


@pytest.mark.parametrize(
    "plain",
    [
        {"model_type": "newcomer"},
        {},
        {"model_type": "llama", "hidden_size": 65, "num_attention_heads": 0},
        {"model_type": "t5"},
        {"model_type": "mixtral", "num_local_experts": "many"},
        {"model_type": ["gpt2"]},
    ],
)
def test_what_transformers_cannot_build_is_not_counted(plain):
    assert count_shape(plain) is None


def test_without_transformers_nothing_is_counted_and_the_shape_is_estimated(monkeypatch):
    monkeypatch.setattr(counting.importlib.util, "find_spec", lambda name: None)
    assert counting.counter() is None
    shape = shape_from_config(tiny_config("gpt2"), "m", count=counting.counter())
    assert not shape.known_layout
    assert shape.num_layers == 3


@pytest.mark.parametrize("kind", TYPES)
def test_an_estimate_is_of_the_right_size_where_nothing_can_count(kind):
    plain = tiny_config(kind)
    estimated, counted = shape_from_config(plain, kind), shape_from_config(plain, kind, count=count_shape)
    assert 0.5 < estimated.params / counted.params < 1.6
    assert estimated.num_layers == counted.num_layers
