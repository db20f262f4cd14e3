"""Pairs of real shapes with random weights, a known continuation and a designed acceptance: honest speed without a download.

The target always goes on from token x to order(x), a fixed permutation: o_proj and down_proj are so small that the residual stream
stays the token's embedding, and row order(x) of the head is that embedding. Every product and every byte of KV is paid for all the
same. The drafter is made alike, with a permutation that differs on a share 1 - acceptance of the tokens. Such a pair says nothing of
attention's correctness: real models test that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from accelerate.hooks import ModelHook, add_hook_to_module
from torch import Tensor
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from benchmarks.inputs.synthetic_fp8 import in_blocks, quantize_layers
from benchmarks.inputs.synthetic_int4 import in_groups
from specbatch.engine.quantization.linears import QuantizedLinear
from specbatch.engine.quantization.rounding import quantize

_MARGIN = 80.0  # logit of the right token; the others stay within 5 / sqrt(hidden size) of it around 0
_SMALL = 1e-3  # of o_proj and down_proj


@dataclass(frozen=True, slots=True)
class Shape:
    """A model's sizes. The head is never tied: what is read a step is the same.

    intermediate: of one expert, where there are experts
    model_type: transformers' name of its build
    settings: what its config has beside the sizes
    stored: what its linears are, see synthetic_fp8 and synthetic_int4; empty: floating point
    fp8_kv: keys and values are kept in FP8
    """

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int = 128
    vocab: int = 151936
    model_type: str = "qwen3"
    settings: Mapping[str, Any] = field(default_factory=dict)
    stored: Literal["", "fp8", "int4"] = ""
    fp8_kv: bool = False

    @property
    def body_params(self) -> int:
        """Numbers that every token is multiplied with but for the head's."""
        return self._body(max(1, self.per_token))

    def read_params(self, tokens: float) -> float:
        """Those of them that a forward of so many tokens reads, if each of these chooses its experts evenly and for itself."""
        if not self.experts:
            return self.body_params
        return self._body(self.experts * (1 - (1 - self.per_token / self.experts) ** tokens))

    def _body(self, mlps: float) -> Any:
        attention = 2 * self.hidden * self.head_dim * (self.heads + self.kv_heads)
        return self.layers * (attention + self.hidden * (self.experts + 3 * mlps * self.intermediate))

    @property
    def experts(self) -> int:
        """Of a layer; 0: it has one MLP."""
        return int(self.settings.get("num_experts") or self.settings.get("num_local_experts") or 0)

    @property
    def per_token(self) -> int:
        """Experts that a token goes to."""
        return int(self.settings.get("num_experts_per_tok", 0))

    @property
    def head_params(self) -> int:
        """Numbers of the head; the embedding has as many, which are looked up and not read."""
        return self.vocab * self.hidden

    @property
    def kv_numbers(self) -> int:
        """Numbers of KV a token."""
        return 2 * self.layers * self.kv_heads * self.head_dim

    def read_kv(self, length: float, number_bytes: int) -> float:
        """Bytes of KV that a row of so many tokens reads for its next one: of layers with a window, those within it."""
        window = self.settings.get("sliding_window") or length
        kinds = getattr(config_of(self, torch.float32), "layer_types", None) or ["sliding_attention"] * self.layers
        seen = sum(min(length, window) if kind == "sliding_attention" else length for kind in kinds) / self.layers
        return self.kv_numbers * seen * (1 + 2 / self.head_dim if self.fp8_kv else number_bytes)


def _experts(count: int, per_token: int, width: int) -> dict[str, Any]:
    """Settings of a Qwen3 with experts in every layer."""
    return {
        "num_experts": count,
        "num_experts_per_tok": per_token,
        "moe_intermediate_size": width,
        "norm_topk_prob": True,
        "mlp_only_layers": [],
    }


SHAPES = {
    "8b": Shape(4096, 12288, 36, 32, 8),
    "1.7b": Shape(2048, 6144, 28, 16, 8),
    "0.6b": Shape(1024, 3072, 28, 16, 8),
    "llama-8b": Shape(4096, 14336, 32, 32, 8, 128, 128256, "llama"),
    "mistral-7b": Shape(4096, 14336, 32, 32, 8, 128, 32000, "mistral", {"sliding_window": 4096}),
    "phi-4": Shape(5120, 17920, 40, 40, 10, 128, 100352, "phi3", {"sliding_window": None}),
    "olmo3-7b": Shape(4096, 11008, 32, 32, 32, 128, 100278, "olmo3", {"sliding_window": 4096}),
    "gemma3-12b": Shape(3840, 15360, 48, 16, 8, 256, 262208, "gemma3_text", {"sliding_window": 1024}),
    "glm4-9b": Shape(4096, 13696, 40, 32, 2, 128, 151552, "glm4", {"attention_bias": True}),
    "qwen3-30b-a3b": Shape(2048, 768, 48, 32, 4, 128, 151936, "qwen3_moe", _experts(128, 8, 768)),
    "mixtral-8x7b": Shape(
        4096,
        14336,
        32,
        32,
        8,
        128,
        32000,
        "mixtral",
        {"num_local_experts": 8, "num_experts_per_tok": 2, "sliding_window": None},
    ),
    "tiny-moe": Shape(64, 32, 2, 4, 2, 16, 512, "qwen3_moe", _experts(16, 2, 32)),
    "8b-fp8": Shape(4096, 12288, 36, 32, 8, stored="fp8"),
    "8b-int4": Shape(4096, 12288, 36, 32, 8, stored="int4"),
    "tiny-int4": Shape(128, 192, 2, 4, 2, head_dim=16, vocab=512, stored="int4"),
    "tiny-fp8": Shape(128, 192, 2, 4, 2, head_dim=16, vocab=512, stored="fp8"),
    "tiny": Shape(128, 192, 2, 4, 2, head_dim=16, vocab=512),
    "tiny-128": Shape(256, 512, 2, 2, 1, vocab=512),  # heads as wide as real ones: other engines take no narrower
}
_NORMS_BEHIND = (
    "post_self_attn_layernorm",
    "post_mlp_layernorm",
    "post_feedforward_layernorm",
)  # of what is added; see _fill


class Order:
    """Which token follows which: one cycle through the vocabulary, so that no row runs in circles.

    Args:
        vocab: tokens.
        seed: of the cycle.
        inner: the first tokens, that rows are made of: the cycle is theirs, the others have one of their own; 0: all of them.
    """

    def __init__(self, vocab: int, seed: int = 0, inner: int = 0) -> None:
        self._seed = seed
        self.inner = inner or vocab
        self.next = torch.empty(vocab, dtype=torch.int64)
        generator = torch.Generator().manual_seed(seed)
        for first, end in ((0, self.inner), (self.inner, vocab)):
            cycle = first + torch.randperm(end - first, generator=generator)
            self.next[cycle] = cycle.roll(-1)
        self._following: list[int] = self.next.tolist()

    def expected(self, prompt: Sequence[int], count: int) -> list[int]:
        """The right continuation."""
        token, tokens = prompt[-1], []
        for _ in range(count):
            token = self._following[token]
            tokens.append(token)
        return tokens

    def agreeing(self, acceptance: float) -> Tensor:
        """Another permutation, the same on just so large a share of the rows' tokens, drawn at random.  # int64 [vocab]"""
        differing = round((1 - acceptance) * self.inner)
        assert differing != 1, "one token alone cannot be permuted"
        chosen = torch.randperm(self.inner, generator=torch.Generator().manual_seed(self._seed + 1))[:differing]
        other = self.next.clone()
        other[chosen] = self.next[chosen.roll(1)]
        return other


def config_of(shape: Shape, dtype: torch.dtype) -> PretrainedConfig:
    """The shape as transformers describes it."""
    sizes: dict[str, Any] = {
        "vocab_size": shape.vocab,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "max_position_embeddings": 40960,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": False,
        "pad_token_id": None,
        "dtype": dtype,
    }
    if shape.model_type == "qwen3":
        sizes["rope_parameters"] = {"rope_type": "default", "rope_theta": 1e6}
    return CONFIG_MAPPING[shape.model_type](**sizes | dict(shape.settings))


def even_split(shape: Shape, devices: Sequence[torch.device]) -> dict[str, torch.device]:
    """Module -> device: layers split by what a step reads; the embedding stands on the first device, the head on the last."""
    layers = {f"model.layers.{layer}": devices[stage] for layer, stage in enumerate(_stages(shape, len(devices)))}
    first, last = devices[0], devices[-1]
    return {"model.embed_tokens": first, "model.rotary_emb": first, **layers, "model.norm": last, "lm_head": last}


def build(
    shape: Shape, following: Tensor, places: Mapping[str, torch.device], dtype: torch.dtype, seed: int
) -> PreTrainedModel:
    """A model that goes on from x to following[x], its weights made where they stay.

    Args:
        shape: sizes.
        following: a permutation  # int64 [vocab]
        places: module -> device, for every module, as `even_split` or a plan has them; "" is the whole model.
        dtype: of the weights.
        seed: of the weights.
    """
    config = config_of(shape, dtype)
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(config).to(dtype)
    for name, device in places.items():
        model.get_submodule(name).to_empty(device=device)
    rotary = model.model.rotary_emb  # its frequencies are computed, not stored: to_empty leaves junk
    model.model.rotary_emb = type(rotary)(config=config).to(next(rotary.buffers()).device)
    if hasattr(model.model.embed_tokens, "embed_scale"):  # likewise
        model.model.embed_tokens.embed_scale.fill_(model.model.embed_tokens.scalar_embed_scale)
    _fill(model, shape, seed)
    set_head(model, following)
    if shape.stored:
        quantize_layers(model, {"fp8": in_blocks, "int4": in_groups}[shape.stored])
    if len(set(places.values())) > 1:
        _carry_between_devices(model, places)
    model.generation_config.eos_token_id = None
    return model.eval()


@torch.no_grad()
def _fill(model: PreTrainedModel, shape: Shape, seed: int) -> None:
    """Weights by which each product keeps its input's size, apart from the small ones; norms are 1, but for those that would make the small ones large."""
    generators: dict[torch.device, torch.Generator] = {}
    offset = 1.0 if shape.model_type.startswith("gemma") else 0.0
    behind = _NORMS_BEHIND
    if any("feedforward" in name for name, _ in model.named_parameters()):
        behind = (*_NORMS_BEHIND, "post_attention_layernorm")
    for name, weight in model.named_parameters():
        if weight.dim() == 1:
            weight.fill_(0.0 if any(norm in name for norm in behind) or "bias" in name else 1.0).sub_(offset)
        elif name != "lm_head.weight":
            scale = _MARGIN / shape.hidden if "embed_tokens" in name else weight.shape[-1] ** -0.5
            scale *= _SMALL if "o_proj" in name or "down_proj" in name else 1.0
            if weight.device not in generators:
                generators[weight.device] = torch.Generator(weight.device).manual_seed(seed)
            weight.normal_(0.0, scale, generator=generators[weight.device])


@torch.no_grad()
def set_head(model: Any, following: Tensor) -> None:
    """Makes a model that was built go on from x to following[x]: row following[x] of the head is the embedding of x.

    Args:
        model: from `build`; its head is overwritten in place.
        following: a permutation  # int64 [vocab]
    """
    before = torch.empty_like(following)
    before[following] = torch.arange(len(following))
    embedding: Tensor = model.model.embed_tokens.weight
    head, rows = model.lm_head, embedding[before.to(embedding.device)]
    if isinstance(head, QuantizedLinear):
        few = quantize(rows, head.weight.quantization)
        head.values.copy_(few.values)
        head.scales.copy_(few.scales)
    else:
        head.weight.copy_(rows)


def _stages(shape: Shape, count: int) -> list[int]:
    """Which stage each layer belongs to, the head counting as the layers that it weighs."""
    head = shape.head_params * shape.layers / shape.read_params(float("inf"))
    share = (shape.layers + head) / count
    return [min(int((layer + 0.5) / share), count - 1) for layer in range(shape.layers)]


class _Carry(ModelHook):
    """Takes a module's inputs to its device, and what it gives to another: one that goes with accelerate's own hooks."""

    def __init__(self, device: torch.device, back: torch.device | None = None) -> None:
        self.device, self.back = device, back

    def pre_forward(self, module: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        del module
        return _to(args, self.device), _to(kwargs, self.device)

    def post_forward(self, module: Any, output: Any) -> Any:
        del module
        return output if self.back is None else _to(output, self.back)


def _carry_between_devices(model: Any, places: Mapping[str, torch.device]) -> None:
    """Lets transformers' own forward run over a split: every part takes its inputs to its device, and logits come back."""
    first = model.model.embed_tokens.weight.device
    for name, device in places.items():
        if "embed_tokens" not in name:
            add_hook_to_module(model.get_submodule(name), _Carry(device, first if name == "lm_head" else None))


def _to(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, tuple):
        return tuple(_to(item, device) for item in value)
    return {name: _to(item, device) for name, item in value.items()} if isinstance(value, dict) else value
