"""Shapes of well-known models, so that `specbatch plan` works on a laptop without their files.

Each row is the model's config.json, cut to what a shape needs. A config.json that is at hand always wins.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

_NUMBERS = (
    "num_hidden_layers",
    "hidden_size",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "intermediate_size",
)


def _config(model_type: str, vocab: int, positions: int, *numbers: int, tied: bool = False) -> dict[str, Any]:
    """A config.json with its numbers in the order of `_NUMBERS`."""
    return {
        "model_type": model_type,
        **dict(zip(_NUMBERS, numbers, strict=True)),
        "vocab_size": vocab,
        "max_position_embeddings": positions,
        "tie_word_embeddings": tied,
        "dtype": "bfloat16",
    }


_qwen3 = partial(_config, "qwen3", 151936, 40960)
_llama3 = partial(_config, "llama", 128256, 8192)
_llama31 = partial(_config, "llama", 128256, 131072)
_smollm2 = partial(_config, "llama", 49152, 8192, tied=True)

_QWEN3 = {
    "0.6B": _qwen3(28, 1024, 16, 8, 128, 3072, tied=True),
    "1.7B": _qwen3(28, 2048, 16, 8, 128, 6144, tied=True),
    "4B": _qwen3(36, 2560, 32, 8, 128, 9728, tied=True),
    "8B": _qwen3(36, 4096, 32, 8, 128, 12288),
    "14B": _qwen3(40, 5120, 40, 8, 128, 17408),
    "32B": _qwen3(64, 5120, 64, 8, 128, 25600),
}
_LLAMA = {
    "Meta-Llama-3-8B": _llama3(32, 4096, 32, 8, 128, 14336),
    "Meta-Llama-3-70B": _llama3(80, 8192, 64, 8, 128, 28672),
    "Llama-3.1-8B": _llama31(32, 4096, 32, 8, 128, 14336),
    "Llama-3.1-70B": _llama31(80, 8192, 64, 8, 128, 28672),
    "Llama-3.2-1B": _llama31(16, 2048, 32, 8, 64, 8192, tied=True),
    "Llama-3.2-3B": _llama31(28, 3072, 24, 8, 128, 8192, tied=True),
}
_SMOLLM2 = {
    "135M": _smollm2(30, 576, 9, 3, 64, 1536),
    "360M": _smollm2(32, 960, 15, 5, 64, 2560),
    "1.7B": _smollm2(24, 2048, 32, 32, 64, 8192),
}

KNOWN_MODELS: Mapping[str, Mapping[str, Any]] = {
    **{f"Qwen/Qwen3-{size}": config for size, config in _QWEN3.items()},
    **{f"Qwen/Qwen3-{size}-Base": config for size, config in _QWEN3.items() if size != "32B"},
    **{f"meta-llama/{name}": config for name, config in _LLAMA.items()},
    **{f"meta-llama/{name}-Instruct": config for name, config in _LLAMA.items()},
    "meta-llama/Llama-3.3-70B-Instruct": _LLAMA["Llama-3.1-70B"],
    **{f"HuggingFaceTB/SmolLM2-{size}": config for size, config in _SMOLLM2.items()},
    **{f"HuggingFaceTB/SmolLM2-{size}-Instruct": config for size, config in _SMOLLM2.items()},
}


def known_config(model: str) -> Mapping[str, Any] | None:
    """The config of a well-known hub id, whatever its capitals; None where it is not listed."""
    by_lower = {name.lower(): config for name, config in KNOWN_MODELS.items()}
    return by_lower.get(model.lower())
