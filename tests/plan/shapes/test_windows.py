"""Which layers look back how far: as transformers reads a config.json, and the engine its config."""

import pytest
import transformers

from specbatch.plan.shapes.hf_config import HfConfig

CASES = [
    {"model_type": "llama"},
    {"model_type": "mistral"},
    {"model_type": "mistral", "sliding_window": None},
    {"model_type": "mistral", "sliding_window": 64},
    {"model_type": "mixtral"},
    {"model_type": "mixtral", "sliding_window": 64},
    {"model_type": "phi3", "sliding_window": 2047},
    {"model_type": "phi3"},
    {"model_type": "gemma2"},
    {"model_type": "gemma3_text", "sliding_window": 512},
    {"model_type": "gemma3_text", "sliding_window": 512, "sliding_window_pattern": 3},
    {"model_type": "olmo3"},
    {"model_type": "cohere2", "sliding_window": 128},
    {"model_type": "qwen2", "sliding_window": 64},
    {"model_type": "qwen3", "sliding_window": 64, "use_sliding_window": False, "max_window_layers": 3},
    {"model_type": "qwen3", "sliding_window": 64, "use_sliding_window": True, "max_window_layers": 3},
    {"model_type": "qwen3", "sliding_window": 64, "use_sliding_window": True},
    {"model_type": "qwen3_moe", "sliding_window": 64, "use_sliding_window": True},
    {"model_type": "olmo3", "layer_types": ["full_attention", "sliding_attention"] * 4},
]


@pytest.mark.parametrize("config", CASES, ids=str)
def test_windows_are_those_of_transformers(config):
    raw = {"num_hidden_layers": 8, **config}
    read = transformers.AutoConfig.for_model(**raw)
    kinds, window = getattr(read, "layer_types", None), getattr(read, "sliding_window", None) or 0
    as_read = [window if kinds is None or kind == "sliding_attention" else 0 for kind in kinds or [""] * 8]
    assert HfConfig(raw, "a model").windows == tuple(as_read)
    assert HfConfig(read.to_dict(), "a model").windows == tuple(as_read)


def test_a_model_of_text_and_more_has_those_of_its_text():
    text = {"model_type": "gemma3_text", "num_hidden_layers": 7, "sliding_window": 1024}
    assert HfConfig({"model_type": "gemma3", "text_config": text}, "a model").windows == (1024,) * 5 + (0, 1024)


def test_an_unknown_family_counts_as_without_windows():
    assert HfConfig({"model_type": "new", "num_hidden_layers": 2, "sliding_window": 64}, "a model").windows == (0, 0)
