"""A model's shape: enough numbers to know every byte that it stores and reads, without loading it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from specbatch.plan.parts import Parts

QkNorm = Literal["none", "head", "full"]
_PAGED = ("llama", "mistral", "qwen2", "qwen3")  # engine/graphs/packing.py has the last word, when the model is loaded


@dataclass(frozen=True, slots=True)
class ModelShape:
    """A decoder of the Llama kind: attention with grouped heads, an MLP, norms; counts are exact for known families.

    All `*_bytes` are in the dtype the model runs in (`dtype_bytes` a number), which may differ from the checkpoint's.
    """

    name: str
    architecture: str  # transformers' model_type
    num_layers: int
    hidden_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int  # of one expert, where there are experts
    vocab_size: int
    tied: bool  # lm_head is embed_tokens
    dtype_bytes: int
    qkv_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    qk_norm: QkNorm = "none"  # a norm a head (Qwen3), or over all heads (OLMo 2)
    norms_per_layer: int = 2
    gated_mlp: bool = True
    num_experts: int = 0  # 0: dense
    experts_per_token: int = 0
    max_positions: int | None = None  # None: not said
    sliding_window: bool = False  # in any layer
    known_layout: bool = True  # the names of its modules are known, and counts are exact
    parts: Parts | None = None  # counted in the model itself: then they stand for the numbers of Llama's layer
    source: str = ""  # where the shape was read, for people

    @property
    def is_paged(self) -> bool:
        """Whether on GPUs its KV is kept in pages: the engine's fast path, as far as the shape tells."""
        plain = not (self.output_bias or self.mlp_bias or self.sliding_window or self.num_experts)
        return plain and self.architecture in _PAGED

    @property
    def attention_params(self) -> int:
        """Numbers in one layer's attention, its norms of queries and keys included."""
        queries, keys = self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim
        count = self.hidden_size * (2 * queries + 2 * keys)
        if self.qkv_bias:
            count += queries + 2 * keys
        if self.output_bias:
            count += self.hidden_size
        if self.qk_norm == "head":
            count += 2 * self.head_dim
        elif self.qk_norm == "full":
            count += queries + keys
        return count

    @property
    def mlp_params(self) -> int:
        """Numbers in one MLP: of the layer, or of one of its experts."""
        hidden, inner = self.hidden_size, self.intermediate_size
        count = (3 if self.gated_mlp else 2) * hidden * inner
        if self.mlp_bias:
            count += (2 if self.gated_mlp else 1) * inner + hidden
        return count

    def layer_params(self, experts: int | None = None) -> int:
        """Numbers in one layer, with so many of its experts (all, when None); dense layers have none to choose."""
        fixed = self.attention_params + self.norms_per_layer * self.hidden_size
        if not self.num_experts:
            return fixed + self.mlp_params
        router = self.num_experts * self.hidden_size
        return fixed + router + self.mlp_params * (self.num_experts if experts is None else experts)

    def span_params(self, first: int, count: int, experts: int | None = None) -> int:
        """Numbers in `count` layers from `first` on, with so many of each layer's experts (all, when None)."""
        if self.parts is None:
            return count * self.layer_params(experts)
        share = 1.0 if experts is None or not self.num_experts else min(1.0, experts / self.num_experts)
        return sum(layer.fixed + round(share * layer.experts) for layer in self.parts.layers[first : first + count])

    def span_kv_bytes(self, first: int, count: int) -> int:
        """Bytes of keys and values of one token in `count` layers from `first` on."""
        if self.parts is None:
            return count * 2 * self.num_kv_heads * self.head_dim * self.dtype_bytes
        return sum(layer.kv for layer in self.parts.layers[first : first + count]) * self.dtype_bytes

    @property
    def embed_params(self) -> int:
        """Numbers in the token embedding."""
        return self.vocab_size * self.hidden_size if self.parts is None else self.parts.embedding

    @property
    def head_params(self) -> int:
        """Numbers that the head reads; they are the embedding's own when tied."""
        return self.embed_params if self.parts is None else self.parts.head

    @property
    def params(self) -> int:
        """All numbers, a tied head counted once."""
        around = self.hidden_size if self.parts is None else self.parts.before + self.parts.after
        head = 0 if self.tied else self.head_params
        return self.span_params(0, self.num_layers) + around + self.embed_params + head

    @property
    def layer_bytes(self) -> int:
        """Bytes of one layer; of the average one where layers differ."""
        return self.span_params(0, self.num_layers) // self.num_layers * self.dtype_bytes

    @property
    def norm_bytes(self) -> int:
        """Bytes of the last norm, and of what else follows the layers."""
        return (self.hidden_size if self.parts is None else self.parts.after) * self.dtype_bytes

    @property
    def before_bytes(self) -> int:
        """Bytes that stand with the first layer beside the token embedding: embeddings of positions, other senses."""
        return 0 if self.parts is None else self.parts.before * self.dtype_bytes

    @property
    def embed_bytes(self) -> int:
        """Bytes of the token embedding. A step looks up rows of it: as good as no read, unless it is the head too."""
        return self.embed_params * self.dtype_bytes

    @property
    def head_bytes(self) -> int:
        """Bytes that the head reads a step; they are the embedding's own when tied."""
        return self.head_params * self.dtype_bytes

    @property
    def weight_bytes(self) -> int:
        """Bytes of all parameters in memory."""
        return self.params * self.dtype_bytes

    @property
    def step_bytes(self) -> int:
        """Bytes of weights read by one decode step of a large batch: everything but embeddings that are looked up."""
        return self.span_params(0, self.num_layers) * self.dtype_bytes + self.norm_bytes + self.head_bytes

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes of keys and values of one token."""
        return self.span_kv_bytes(0, self.num_layers)
