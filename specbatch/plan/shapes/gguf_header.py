"""A GGUF file's header, read as the config.json that transformers would make of it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from specbatch.errors import ModelError

# GGUF's name of an architecture -> transformers' model_type, where they differ.
_MODEL_TYPES = {"qwen3moe": "qwen3_moe", "qwen2moe": "qwen2_moe"}

_FIELDS = {
    "num_hidden_layers": "block_count",
    "hidden_size": "embedding_length",
    "intermediate_size": "feed_forward_length",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length",
    "max_position_embeddings": "context_length",
    "num_experts": "expert_count",
    "num_experts_per_tok": "expert_used_count",
    "moe_intermediate_size": "expert_feed_forward_length",
}


def config_from_gguf(path: Path) -> dict[str, Any]:
    """The fields of config.json that a GGUF header gives.

    The dtype is float32: a GGUF file's weights are unpacked when loaded, and `auto` then means float32.

    Raises:
        ModelError: `gguf` is not installed, or the file is not GGUF.
    """
    try:
        from gguf import GGUFReader  # noqa: PLC0415 - a part of the runner extra; only GGUF files need it
    except ImportError as error:
        raise ModelError(
            "reading a GGUF file needs the package gguf", where=str(path), remedy="pip install gguf"
        ) from error
    try:
        reader = GGUFReader(path)
    except (ValueError, IndexError, OSError) as error:
        raise ModelError(
            f"this is not a GGUF file that can be read ({error})", where=str(path), remedy="download it again"
        ) from error
    kind = str(_field(reader, "general.architecture"))
    found = {key: _field(reader, f"{kind}.{name}") for key, name in _FIELDS.items()}
    shapes = {tensor.name: [int(size) for size in tensor.shape] for tensor in reader.tensors}
    _check_blocks(shapes, found["num_hidden_layers"], path)
    config = {key: value for key, value in found.items() if value is not None}
    if "token_embd.weight" in shapes:
        config["vocab_size"] = shapes["token_embd.weight"][1]  # GGUF: [width, rows]
    return config | {
        "model_type": _MODEL_TYPES.get(kind, kind),
        "tie_word_embeddings": "output.weight" not in shapes,
        "attention_bias": "blk.0.attn_q.bias" in shapes,
        "dtype": "float32",
    }


def _check_blocks(names: Iterable[str], said: object, path: Path) -> None:
    """transformers passes over blocks beyond the count of the header, and so would run a shorter model."""
    blocks = {int(found[1]) for name in names if (found := re.match(r"blk\.(\d+)\.", name))}
    if isinstance(said, int) and blocks and max(blocks) >= said:
        raise ModelError(
            f"the header says {said} layers (block_count), and there are tensors of {max(blocks) + 1}",
            where=str(path),
            remedy="convert the model again: layers for drafting several tokens (MTP) must be left out",
        )


def _field(reader: Any, key: str) -> Any:
    field = reader.get_field(key)
    return None if field is None else field.contents()
