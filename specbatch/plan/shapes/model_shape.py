"""A model's shape: enough numbers to know every byte that it stores and reads, without loading it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

from specbatch.eagle3 import Eagle3Config
from specbatch.plan.recorded import RECORDED

SINKS = 16  # first tokens that a drafter with a window sees, as in engine/graphs/drafters/windowed.py


@dataclass(frozen=True, slots=True)
class LayerShape:
    """One decoder layer, or several together, in numbers (not bytes)."""

    shared_params: int  # that every token runs through
    expert_params: int  # of all experts; 0 in a dense layer
    kv: int  # keys and values of one token
    window: int = 0  # positions that a token sees; 0: all before it

    @property
    def params(self) -> int:
        """All parameters."""
        return self.shared_params + self.expert_params


@dataclass(frozen=True, slots=True)
class ModuleNames:
    """How a model calls its modules, in the order of a forward."""

    before: tuple[str, ...] = ("model.embed_tokens", "model.rotary_emb")  # on the first layer's device
    layers: str = "model.layers"  # layer i is model.layers.i
    after: tuple[str, ...] = ("model.norm",)  # on the last layer's device
    head: str = "lm_head"


@dataclass(frozen=True)
class ModelShape:
    """A decoder-only model; exact for known families and for models counted in transformers' own code, else an estimate.

    All `*_bytes` are in the dtype the model runs in (`dtype_bytes` a number), which may differ from the checkpoint's.
    """

    name: str
    architecture: str  # transformers' model_type
    dtype_bytes: int
    layers: tuple[LayerShape, ...]
    embedding: int  # parameters of the token embedding
    head: int  # parameters that the head reads a step; the embedding's own when tied
    before: (
        int  # parameters beside the token embedding on the first layer's device: positions, projections, other senses
    )
    after: int  # parameters on the last layer's device: the last norm, and what else follows the layers
    hidden_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int  # of one expert, where there are experts
    vocab_size: int
    tied: bool  # lm_head is embed_tokens
    num_experts: int = 0  # 0: dense
    experts_per_token: int = 0
    max_positions: int | None = None  # None: not said
    sliding_window: bool = False  # in any layer
    foreign: str = ""  # what the native engine cannot run in it: "attention sinks"
    quantised_by: str = ""  # the checkpoint's own quant_method
    left: str = ""  # of a quantised checkpoint, what is left to transformers: "weights quantised by hqq"
    mtp_layers: int = 0  # beside its own; they draft further tokens
    mtp: Eagle3Config | None = field(default=None, compare=False)  # the first of them, where it can draft here
    modules: ModuleNames = ModuleNames()
    known_layout: bool = True  # the names of its modules are known, and counts are exact
    counted: bool = False  # in the model itself, not by the formula of a family
    kv_traced: bool = True  # False: keys and values by the config's numbers, because no forward could be traced
    source: str = ""  # where the shape was read, for people
    eagle3: Eagle3Config | None = field(default=None, compare=False)  # of an EAGLE-3 head, which is no model by itself
    window: int | None = None  # drafter.window: of a row, the last tokens that have KV at least
    fp8_kv: bool = False  # kvDtype: fp8, where the pair has pages
    quantization: str = (
        ""  # of the weights of layers, and of the head where it has head_bits; stored so, or made at load
    )
    weight_bits: float | None = None  # of a number of layers, with its part of the scales; None: dtype_bytes
    head_bits: float | None = None  # of the head

    def seen(self, length: int) -> int:
        """Tokens of a row of so many that have KV, on average."""
        return length if self.window is None else min(length, SINKS + self.window * 3 // 2)

    @cached_property
    def largest_window(self) -> int:
        """Positions that a token sees in layers with a window; 0: there are none."""
        return max((layer.window for layer in self.layers), default=0)

    def sliding_kv(self, first: int = 0, count: int | None = None) -> int:
        """Of `span`, the keys and values of one token in layers with a window."""
        return self._sliding[self.num_layers if count is None else first + count] - self._sliding[first]

    def read_kv(self, first: int, count: int, length: int) -> int:
        """Keys and values that a row of so many tokens reads in these layers for its next one."""
        sliding, seen = self.sliding_kv(first, count), self.seen(length)
        return (self.span(first, count).kv - sliding) * seen + sliding * min(seen, self.largest_window)

    @cached_property
    def _sliding(self) -> list[int]:
        """Of the first n layers, for every n."""
        return [*accumulate((layer.kv if layer.window else 0 for layer in self.layers), initial=0)]

    @property
    def num_layers(self) -> int:
        """How many decoder layers it has."""
        return len(self.layers)

    @property
    def why_general(self) -> str | None:
        """What keeps the model on the general runner on GPUs, as far as the shape shows; None: rounds are recorded, KV is in pages."""
        if self.eagle3 is not None:
            return None
        if self.foreign:
            return f"it has {self.foreign}"
        if self.architecture not in RECORDED:
            return f"its architecture is {self.architecture}"
        if self.architecture in {"exaone4", "exaone_moe"} and self.sliding_window:
            return "its layers without a window do not rotate positions"
        return None

    @property
    def widened(self) -> str:
        """What a CPU makes of a checkpoint in FP8 that is left to transformers, a sentence; empty of others."""
        if self.quantised_by != "fp8" or not self.left:
            return ""
        return f"it has {self.left}: on a CPU transformers widens them and rounds no inputs, which is another model than the checkpoint means"

    @cached_property
    def _sums(self) -> list[LayerShape]:
        """The first n layers taken together, for every n."""
        columns = zip(*((layer.shared_params, layer.expert_params, layer.kv) for layer in self.layers), strict=True)
        return [LayerShape(*sums) for sums in zip(*(accumulate(column, initial=0) for column in columns), strict=True)]

    def span(self, first: int = 0, count: int | None = None) -> LayerShape:
        """`count` layers from `first` on, taken together; all that follow when None."""
        before, until = self._sums[first], self._sums[self.num_layers if count is None else first + count]
        return LayerShape(
            shared_params=until.shared_params - before.shared_params,
            expert_params=until.expert_params - before.expert_params,
            kv=until.kv - before.kv,
        )

    def active_params(self, span: LayerShape, experts: float) -> int:
        """Parameters of a span that are read where tokens go to so many of each layer's experts."""
        share = min(experts, self.num_experts)
        return span.shared_params + (int(span.expert_params * share / self.num_experts) if share else 0)

    def different_experts(self, tokens: float) -> float:
        """How many of a layer's experts so many tokens go to, if each chooses evenly and for itself."""
        return (
            self.num_experts * (1 - (1 - self.experts_per_token / self.num_experts) ** tokens)
            if self.num_experts
            else 0.0
        )

    @property
    def has_own_head(self) -> bool:
        """Whether the head takes memory of its own: a tied one does where it is quantized, beside an embedding that is not."""
        return not self.tied or self.head_bits is not None

    @property
    def bits(self) -> tuple[float, float]:
        """Of a number of layers, and of one of the head."""
        whole = 8.0 * self.dtype_bytes
        return self.weight_bits or whole, self.head_bits or whole

    def read_bytes(self, params: int, head: int = 0) -> int:
        """Bytes of so many parameters of layers, and of the head."""
        of_layers, of_head = self.bits
        return int(params * of_layers + head * of_head) // 8

    @property
    def params(self) -> int:
        """All parameters, a tied head counted once."""
        head = 0 if self.tied else self.head
        return self.span().params + self.before + self.after + self.embedding + head

    @property
    def weight_bytes(self) -> int:
        """Bytes of all parameters in memory."""
        head = self.head if self.has_own_head else 0
        return (
            self.read_bytes(self.span().params, head) + (self.before + self.after + self.embedding) * self.dtype_bytes
        )

    @property
    def step_bytes(self) -> int:
        """Bytes of weights read by one decode step of a large batch: everything but embeddings that are looked up."""
        return self.read_bytes(self.span().params, self.head) + self.after * self.dtype_bytes

    @property
    def kv_number_bytes(self) -> Fraction:
        """Bytes of one number of keys and values; in FP8 those of a head have a scale of 16 bits."""
        return Fraction(self.head_dim + 2, self.head_dim) if self.fp8_kv else Fraction(self.dtype_bytes)

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes of keys and values of one token."""
        return int(self.span().kv * self.kv_number_bytes)


# Counts a model from its parsed config.json, or from the .gguf file it was read of: a shape without name and source; None where it cannot.
Counter = Callable[[Mapping[str, Any], Path | None], ModelShape | None]
