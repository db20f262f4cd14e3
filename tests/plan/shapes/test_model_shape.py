import pytest

from specbatch.errors import ModelError
from specbatch.plan.shapes.known_models import known_models
from specbatch.plan.shapes.read_shape import shape_from_config
from tests.plan.builders import config, shape


@pytest.mark.parametrize(
    ("name", "read_gigabytes", "kv_kib"),
    [("qwen3-8b", 15.14, 144), ("qwen3-1.7b", 3.44, 112), ("qwen3-0.6b", 1.19, 112)],
)
def test_step_and_cache_bytes_are_those_measured(name, read_gigabytes, kv_kib):
    model = shape(name)
    assert model.step_bytes / 1e9 == pytest.approx(read_gigabytes, abs=0.005)
    assert model.kv_bytes_per_token == kv_kib * 1024


def test_the_head_of_qwen3_8b_weighs_3_2_layers():
    model = shape("qwen3-8b")
    assert model.head / model.span(0, 1).params == pytest.approx(3.2, abs=0.05)


def test_a_tied_model_stores_its_embedding_once_and_reads_it_as_the_head():
    tied = shape("qwen3-1.7b")
    assert tied.weight_bytes == tied.step_bytes


def test_an_untied_embedding_is_stored_but_not_read():
    untied = shape("qwen3-8b")
    assert untied.weight_bytes - untied.step_bytes == 2 * untied.embedding


@pytest.mark.parametrize(("dtype", "size"), [("auto", 2), ("bfloat16", 2), ("float16", 2), ("float32", 4)])
def test_dtype_scales_every_byte(dtype, size):
    model = shape_from_config(config("qwen3-0.6b"), "m", dtype)
    assert model.dtype_bytes == size
    assert model.weight_bytes == model.params * size


def test_auto_dtype_follows_the_config():
    assert shape_from_config(config("qwen3-0.6b") | {"dtype": "float32"}, "m").dtype_bytes == 4


def test_missing_head_dim_and_kv_heads_take_the_defaults_of_transformers():
    plain = shape_from_config({k: v for k, v in config("llama-3-8b").items() if k != "num_key_value_heads"}, "m")
    assert (plain.head_dim, plain.num_kv_heads) == (128, 32)


def test_an_unknown_model_type_is_estimated_and_says_so():
    model = shape_from_config(config("llama-3-8b") | {"model_type": "newcomer"}, "m")
    assert not model.known_layout
    assert model.params == shape("llama-3-8b").params


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"hidden_size": None}, "hidden_size is missing"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0, not a positive whole number"),
        ({"vocab_size": "many"}, "vocab_size is 'many'"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000, and no model has more than 2,000"),
        ({"model_type": "new", "n_routed_experts": 10**9}, "num_experts is 1000000000"),
        ({"is_encoder_decoder": True}, "encoder-decoder"),
        ({"dtype": "int4"}, "dtype 'int4'"),
    ],
)
def test_what_cannot_be_planned_is_refused_with_a_remedy(change, expected):
    with pytest.raises(ModelError, match="remedy") as refused:
        shape_from_config(config("llama-3-8b") | change, "my-model")
    assert expected in str(refused.value)
    assert refused.value.where == "my-model"


def test_a_mixture_of_experts_stores_all_of_them():
    model = shape_from_config(
        config("qwen3-0.6b")
        | {"model_type": "qwen3_moe", "num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 256},
        "moe",
    )
    layer = model.span(0, 1)
    assert layer.params - model.active_params(layer, 2) == 6 * 3 * 1024 * 256


@pytest.mark.parametrize(
    ("hub_id", "file"),
    [
        ("Qwen/Qwen3-8B", "qwen3-8b"),
        ("Qwen/Qwen3-1.7B", "qwen3-1.7b"),
        ("Qwen/Qwen3-0.6B", "qwen3-0.6b"),
        ("meta-llama/Meta-Llama-3-8B", "llama-3-8b"),
        ("meta-llama/Llama-3.2-1B-Instruct", "llama-3.2-1b"),
    ],
)
def test_built_in_shapes_are_those_of_the_real_configs(hub_id, file):
    built_in, real = shape_from_config(known_models()[hub_id], "m"), shape_from_config(config(file), "m")
    assert built_in == real


def test_a_mixture_of_an_unknown_kind_is_estimated_with_its_experts():
    model = shape_from_config(
        config("llama-3-8b")
        | {"model_type": "new", "n_routed_experts": 16, "moe_topk": 2, "moe_intermediate_size": 512},
        "m",
    )
    assert (model.num_experts, model.experts_per_token, model.intermediate_size) == (16, 2, 512)
    assert not model.known_layout


def test_a_config_of_text_and_more_is_estimated_by_its_text():
    text = {key: value for key, value in config("llama-3-8b").items() if key != "model_type"}
    model = shape_from_config({"model_type": "new_vl", "text_config": text, "vision_config": {"hidden_size": 7}}, "m")
    assert model.params == shape("llama-3-8b").params
    assert not model.known_layout
