"""The built-in shapes against what the models are known to have."""

import pytest

from specbatch.errors import ModelError
from specbatch.plan.shapes.known_models import known_config, known_models, nearest_models
from specbatch.plan.shapes.read_shape import read_shape, shape_from_config

# Parameters in billions, as the model card or the checkpoint's safetensors index has them; one model of every line of the table.
PUBLISHED = {
    "Qwen/Qwen3-0.6B": 0.596,
    "Qwen/Qwen3-1.7B": 1.72,
    "Qwen/Qwen3-4B": 4.02,
    "Qwen/Qwen3-4B-Instruct-2507": 4.02,
    "Qwen/Qwen3-8B": 8.19,
    "deepseek-ai/DeepSeek-R1-0528-Qwen3-8B": 8.19,
    "Qwen/Qwen3-14B": 14.77,
    "Qwen/Qwen3-32B": 32.76,
    "Qwen/Qwen3-30B-A3B": 30.53,
    "Qwen/Qwen3-Coder-30B-A3B-Instruct": 30.53,
    "Qwen/Qwen3-235B-A22B": 235.09,
    "Qwen/Qwen3-235B-A22B-Instruct-2507": 235.09,
    "Qwen/Qwen3-Coder-480B-A35B-Instruct": 480.15,
    "Qwen/Qwen2.5-0.5B-Instruct": 0.494,
    "Qwen/Qwen2.5-1.5B-Instruct": 1.54,
    "Qwen/Qwen2.5-Math-1.5B": 1.54,
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B": 1.78,
    "Qwen/Qwen2.5-Coder-3B": 3.09,
    "Qwen/Qwen2.5-7B-Instruct": 7.62,
    "Qwen/Qwen2.5-Math-7B": 7.62,
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B": 7.62,
    "Qwen/Qwen2.5-Coder-14B-Instruct": 14.77,
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-14B": 14.77,
    "Qwen/Qwen2.5-Coder-32B-Instruct": 32.76,
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B": 32.76,
    "Qwen/QwQ-32B": 32.76,
    "Qwen/Qwen2.5-72B-Instruct": 72.71,
    "TinyLlama/TinyLlama-1.1B-Chat-v1.0": 1.10,
    "meta-llama/Llama-2-7b-chat-hf": 6.74,
    "meta-llama/Llama-2-13b-chat-hf": 13.02,
    "meta-llama/Llama-2-70b-chat-hf": 68.98,
    "meta-llama/Meta-Llama-3-8B-Instruct": 8.03,
    "meta-llama/Meta-Llama-3-70B-Instruct": 70.55,
    "deepseek-ai/DeepSeek-R1-Distill-Llama-8B": 8.03,
    "meta-llama/Llama-3.3-70B-Instruct": 70.55,
    "meta-llama/Llama-3.1-405B-Instruct": 405.85,
    "meta-llama/Llama-3.2-1B-Instruct": 1.24,
    "meta-llama/Llama-3.2-3B-Instruct": 3.21,
    "HuggingFaceTB/SmolLM2-135M-Instruct": 0.1345,
    "HuggingFaceTB/SmolLM2-360M-Instruct": 0.362,
    "HuggingFaceTB/SmolLM2-1.7B-Instruct": 1.71,
    "HuggingFaceTB/SmolLM3-3B": 3.08,
    "01-ai/Yi-1.5-6B-Chat": 6.06,
    "01-ai/Yi-1.5-9B-Chat": 8.83,
    "01-ai/Yi-1.5-34B-Chat": 34.39,
    "tiiuae/Falcon3-1B-Instruct": 1.67,
    "tiiuae/Falcon3-3B-Instruct": 3.23,
    "tiiuae/Falcon3-7B-Instruct": 7.46,
    "tiiuae/Falcon3-10B-Instruct": 10.31,
    "mistralai/Mistral-7B-v0.1": 7.24,
    "mistralai/Mistral-7B-Instruct-v0.2": 7.24,
    "mistralai/Mistral-7B-Instruct-v0.3": 7.25,
    "mistralai/Ministral-8B-Instruct-2410": 8.02,
    "mistralai/Mistral-Nemo-Instruct-2407": 12.25,
    "mistralai/Codestral-22B-v0.1": 22.25,
    "mistralai/Mistral-Small-24B-Instruct-2501": 23.57,
    "mistralai/Devstral-Small-2505": 23.57,
    "mistralai/Mistral-Large-Instruct-2411": 122.61,
    "mistralai/Mixtral-8x7B-Instruct-v0.1": 46.70,
    "mistralai/Mixtral-8x22B-Instruct-v0.1": 140.63,
    "google/gemma-2b-it": 2.51,
    "google/gemma-7b-it": 8.54,
    "google/gemma-2-2b-it": 2.61,
    "google/gemma-2-9b-it": 9.24,
    "google/gemma-2-27b-it": 27.23,
    "google/gemma-3-270m-it": 0.268,
    "google/gemma-3-1b-it": 1.00,
    "google/gemma-3-4b-it": 4.30,
    "google/gemma-3-12b-it": 12.19,
    "google/gemma-3-27b-it": 27.43,
    "microsoft/Phi-3-mini-4k-instruct": 3.82,
    "microsoft/Phi-3.5-mini-instruct": 3.82,
    "microsoft/Phi-3-medium-4k-instruct": 13.96,
    "microsoft/Phi-4-mini-instruct": 3.84,
    "microsoft/phi-4": 14.66,
    "microsoft/Phi-4-reasoning": 14.66,
    "allenai/OLMo-2-0425-1B-Instruct": 1.48,
    "allenai/OLMo-2-1124-7B-Instruct": 7.30,
    "allenai/OLMo-2-1124-13B-Instruct": 13.72,
    "allenai/OLMo-2-0325-32B-Instruct": 32.23,
    "allenai/Olmo-3-7B-Instruct": 7.30,
    "allenai/Olmo-3-32B-Think": 32.23,
    "ibm-granite/granite-3.0-2b-instruct": 2.53,
    "ibm-granite/granite-3.0-8b-instruct": 8.17,
    "ibm-granite/granite-3.1-2b-instruct": 2.53,
    "ibm-granite/granite-3.1-8b-instruct": 8.17,
    "ibm-granite/granite-3.3-2b-instruct": 2.53,
    "ibm-granite/granite-3.3-8b-instruct": 8.17,
    "zai-org/glm-4-9b-chat-hf": 9.40,
    "zai-org/GLM-4-9B-0414": 9.40,
    "zai-org/GLM-4-32B-0414": 32.57,
    "ByteDance-Seed/Seed-OSS-36B-Instruct": 36.15,
    "CohereLabs/c4ai-command-r-v01": 34.98,
    "CohereLabs/aya-expanse-8b": 8.03,
    "CohereLabs/c4ai-command-r7b-12-2024": 8.03,
    "openai/gpt-oss-20b": 20.91,
    "openai/gpt-oss-120b": 116.83,
}
READS_PICTURES = {name for name in PUBLISHED if "text_config" in known_models()[name]}


def test_every_line_of_the_table_has_a_published_count():
    assert {id(known_models()[name]) for name in PUBLISHED} == {id(config) for config in known_models().values()}


@pytest.mark.parametrize("name", sorted(PUBLISHED.keys() - READS_PICTURES))
def test_a_built_in_shape_has_the_published_parameters(name):
    shape = shape_from_config(known_models()[name], name)
    assert shape.known_layout
    assert shape.params / 1e9 == pytest.approx(PUBLISHED[name], rel=0.005)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(READS_PICTURES))
def test_a_model_that_reads_pictures_has_them_where_transformers_counts_it(name):
    from specbatch.runner.models.counting import count_shape

    shape = shape_from_config(known_models()[name], name, count=count_shape)
    assert shape.counted
    assert shape.params / 1e9 == pytest.approx(PUBLISHED[name], rel=0.005)


@pytest.mark.parametrize(
    ("name", "active"),
    [
        ("Qwen/Qwen3-30B-A3B", 3.3),
        ("Qwen/Qwen3-235B-A22B", 22),
        ("mistralai/Mixtral-8x7B-v0.1", 12.9),
        ("openai/gpt-oss-120b", 5.1),
        ("openai/gpt-oss-20b", 3.6),
    ],
)
def test_of_experts_a_token_reads_the_published_active_parameters(name, active):
    shape = shape_from_config(known_models()[name], name)
    read = shape.active_params(shape.span(), shape.experts_per_token) + shape.embedding + shape.head
    assert read / 1e9 == pytest.approx(active, rel=0.05) or (read - shape.embedding) / 1e9 == pytest.approx(
        active, rel=0.05
    )


def test_a_model_is_found_by_any_capitals_and_in_anybodys_copy():
    assert known_config("qwen/qwen3-8b") == ("Qwen/Qwen3-8B", known_models()["Qwen/Qwen3-8B"])
    assert known_config("unsloth/Llama-3.2-1B-Instruct")[0] == "meta-llama/Llama-3.2-1B-Instruct"
    assert known_config("someone/Qwen3-8B-AWQ") is None
    copy = read_shape("unsloth/Qwen3-8B", env={"HF_HUB_CACHE": "/nonexistent"})
    assert copy.source == "built-in table, as Qwen/Qwen3-8B: no config.json on this machine"


def test_an_unknown_model_is_answered_with_those_of_nearly_its_name():
    assert "Qwen/Qwen3-8B" in nearest_models("Qwen/Qwen3-9B")
    with pytest.raises(ModelError, match=r"built-in shapes of nearly that name: .*Llama-3.1-8B"):
        read_shape("meta-llama/Llama-3.1-8", env={"HF_HUB_CACHE": "/nonexistent"})


def test_a_quantised_model_is_said_to_be_counted_in_full():
    assert (
        "quantised (mxfp4), counted at 2 bytes a number"
        in shape_from_config(known_models()["openai/gpt-oss-20b"], "m").source
    )
