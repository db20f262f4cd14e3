"""An EAGLE-3 head in plain PyTorch (Li et al., arXiv 2503.01840): one decoder layer over the target's hidden states.

Position i takes the target's states there, joined by `fc` from several of its layers, and the token at i + 1; it predicts the token at
i + 2. Beyond the target's states the head goes on from its own output, before its last norm.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

from specbatch.eagle3 import Eagle3Config


class Attention(nn.Module):
    """Projections of the layer; queries, keys and values come from the token's embedding and the states beside it."""

    def __init__(self, config: Eagle3Config) -> None:
        super().__init__()
        wide, bias = config.hidden_size if config.mtp else 2 * config.hidden_size, config.attention_bias
        queries, keys = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
        self.q_proj = nn.Linear(wide, queries, bias=bias)
        self.k_proj = nn.Linear(wide, keys, bias=bias)
        self.v_proj = nn.Linear(wide, keys, bias=bias)
        self.o_proj = nn.Linear(queries, config.hidden_size, bias=False)
        if config.qk_norm:
            self.q_norm = nn.RMSNorm(config.head_dim, config.rms_norm_eps)
            self.k_norm = nn.RMSNorm(config.head_dim, config.rms_norm_eps)


class Mlp(nn.Module):
    """The gated MLP."""

    def __init__(self, config: Eagle3Config) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[..., hidden] -> [..., hidden]"""
        out: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class Layer(nn.Module):
    """The one decoder layer, under the names of Llama's."""

    def __init__(self, config: Eagle3Config) -> None:
        super().__init__()
        self.self_attn = Attention(config)
        self.mlp = Mlp(config)
        self.input_layernorm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.hidden_norm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)


class Eagle3Head(nn.Module):
    """The head's weights, and its forward but for the attention, which the caller has KV for.

    draft_to_target: the target's token of each of the head's; None: they are the same  # int64 [draft_vocab]

    Args:
        config: in numbers.
    """

    draft_to_target: Tensor | None

    def __init__(self, config: Eagle3Config) -> None:
        super().__init__()
        self.config = config
        width = config.hidden_size
        self.embed_tokens = nn.Embedding(config.vocab_size, width)
        if config.norm_before_fc:
            self.input_norm = nn.RMSNorm(config.joined * config.target_hidden_size, config.rms_norm_eps)
        self.fc = nn.Linear(config.joined * config.target_hidden_size, width, bias=False)
        self.layer = Layer(config)
        self.norm = nn.RMSNorm(width, config.rms_norm_eps)
        self.lm_head = nn.Linear(width, config.draft_vocab_size, bias=False)
        self.register_buffer("draft_to_target", None)
        self.rotary_emb = LlamaRotaryEmbedding(rotary_config(config))

    @property
    def device(self) -> torch.device:
        """Where it stands."""
        return self.fc.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Of its weights."""
        return self.fc.weight.dtype

    def join(self, hidden: Tensor) -> Tensor:
        """The states of the target's layers, beside each other, as one.  # [..., joined * target_hidden] -> [..., hidden]"""
        joined: Tensor = self.fc(self.input_norm(hidden) if self.config.norm_before_fc else hidden)
        return joined

    def qkv(self, tokens: Tensor, states: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What attention is over.

        Args:
            tokens: the tokens that follow the positions  # int64 [n, tokens]
            states: of the positions  # [n, tokens, hidden]
            positions: int64 [n, tokens]

        Returns:
            queries, keys and values [n, heads, tokens, head_dim], and the residual [n, tokens, hidden]
        """
        layer = self.layer
        normed = layer.hidden_norm(states)
        both = torch.cat([layer.input_layernorm(self._embed(tokens)), normed], -1)
        return *self._heads(both, positions), normed if self.config.norm_before_residual else states

    def _embed(self, tokens: Tensor) -> Tensor:
        embedded: Tensor = self.embed_tokens(tokens.clamp(max=self.embed_tokens.num_embeddings - 1))
        return embedded

    def _heads(self, x: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        attention, width = self.layer.self_attn, self.config.head_dim
        shape = (*positions.shape, -1, width)
        query, key = attention.q_proj(x).view(shape), attention.k_proj(x).view(shape)
        if self.config.qk_norm:
            query, key = attention.q_norm(query), attention.k_norm(key)
        cos, sin = self.rotary_emb(x, positions.clamp(min=0))
        query, key = apply_rotary_pos_emb(query.transpose(1, 2), key.transpose(1, 2), cos, sin)
        return query, key, attention.v_proj(x).view(shape).transpose(1, 2)

    def finish(self, attended: Tensor, residual: Tensor) -> Tensor:
        """What follows attention: states that the next position goes on from.

        Args:
            attended: [n, tokens, heads * head_dim]
            residual: from qkv  # [n, tokens, hidden]
        """
        layer = self.layer
        states: Tensor = residual + layer.self_attn.o_proj(attended)
        out: Tensor = states + layer.mlp(layer.post_attention_layernorm(states))
        return out

    def logits(self, states: Tensor) -> Tensor:
        """Of what finish left.  # [..., hidden] -> [..., draft_vocab]"""
        logits: Tensor = self.lm_head(self.norm(states))
        return logits

    def of_target(self, logits: Tensor, vocab_size: int) -> Tensor:
        """Logits over the target's tokens; those that the head does not know are never drafted.  # [..., draft_vocab] -> [..., vocab_size]"""
        if self.draft_to_target is None:
            return logits
        wide = logits.new_full((*logits.shape[:-1], vocab_size), -torch.inf)
        wide[..., self.draft_to_target] = logits
        return wide


def rotary_config(config: Eagle3Config) -> LlamaConfig:
    """What transformers makes a rotary embedding of."""
    return LlamaConfig(
        hidden_size=config.hidden_size,
        num_attention_heads=config.num_heads,
        num_key_value_heads=config.num_kv_heads,
        head_dim=config.head_dim,
        max_position_embeddings=config.max_positions,
        rope_parameters=dict(config.rope),
    )
