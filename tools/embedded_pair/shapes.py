"""The two models' shapes, and the bytes that each reads per decoding step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transformers import Qwen3Config

from tools.embedded_pair.tokenizer import MAX_LENGTH, VOCAB_SIZE

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase


def target_config(tokenizer: PreTrainedTokenizerBase) -> Qwen3Config:
    """Sixteen layers of width 128: deep and thin, so that a step costs latency more than bytes."""
    return _config(tokenizer, layers=16, hidden=128, intermediate=384, heads=4, kv_heads=2)


def drafter_config(tokenizer: PreTrainedTokenizerBase) -> Qwen3Config:
    """One layer of width 96: a twenty-third of the target's bytes, a sixteenth of its kernels."""
    return _config(tokenizer, layers=1, hidden=96, intermediate=192, heads=4, kv_heads=2)


def _config(
    tokenizer: PreTrainedTokenizerBase, *, layers: int, hidden: int, intermediate: int, heads: int, kv_heads: int
) -> Qwen3Config:
    assert len(tokenizer) == VOCAB_SIZE
    return Qwen3Config(
        vocab_size=VOCAB_SIZE,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=32,
        max_position_embeddings=MAX_LENGTH,
        max_window_layers=layers,
        initializer_range=0.05,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="bfloat16",
        attn_implementation="sdpa",
    )


def bytes_per_step(model: nn.Module, bytes_per_weight: int = 2) -> int:
    """Weight bytes that one decoding step reads: every layer and the head (tied, so the embedding is counted once)."""
    return bytes_per_weight * sum(weight.numel() for weight in model.parameters())
