"""What the config.json of an EAGLE-3 head says (Li et al., arXiv 2503.01840), in both of its public layouts; no torch.

A head is one decoder layer that drafts from the target's own hidden states: those of three of its layers are joined by `fc`, and each
position takes in the token that follows it. SafeAILab's layout (LlamaForCausalLMEagle3) has the numbers of the layer at the top, that of
vllm-project/speculators in `transformer_layer_config`, where what transformers has as a default is left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from reprlib import repr as short
from typing import Any

from specbatch.errors import ModelError

_ARCHITECTURE = re.compile(r"eagle-?3", re.IGNORECASE)
_MOST = 1 << 24  # of widths, tokens and positions: far above any head
_LARGEST = 1e30  # of a real number
_AGAIN = "download the head again"
_NEEDED: Mapping[str, tuple[str, ...]] = {
    "default": (),
    "linear": ("factor",),
    "dynamic": ("factor",),
    "yarn": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
    "longrope": (),
}  # numbers of a rope_type beside rope_theta
_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "llama": {
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_attention_heads": 32,
        "vocab_size": 32000,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-6,
    },
    "qwen3": {
        "hidden_size": 4096,
        "intermediate_size": 22016,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "head_dim": 128,
        "vocab_size": 151936,
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6,
    },
}


def is_eagle3(config: Mapping[str, Any]) -> bool:
    """Whether a parsed config.json is that of an EAGLE-3 head, by either layout."""
    kinds = config.get("architectures")
    if any(_ARCHITECTURE.search(str(kind)) for kind in (kinds if isinstance(kinds, list) else [kinds])):
        return True  # by a text alone, too, which Eagle3Config.of refuses: no model is to be made of it
    speculators = config.get("speculators_config")
    algorithm = speculators.get("algorithm") if isinstance(speculators, Mapping) else None
    return "eagle3" in (config.get("speculators_model_type"), algorithm)


@dataclass(frozen=True, slots=True)
class Eagle3Config:
    """A head, in numbers.

    vocab_size: of the target; draft_vocab_size: of the head's own logits, whose tokens d2t maps to the target's
    target_hidden_size: width of the target's hidden states
    layer_ids: the target's layers whose inputs are joined, counted from 0; None: as the paper has them, see layers_of
    norm_before_residual: the residual starts at the normed states; norm_before_fc: the joined states are normed
    rope: as transformers' rope_parameters
    mtp: it is the MTP layer of the target itself, see specbatch/mtp.py
    """

    hidden_size: int
    intermediate_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    draft_vocab_size: int
    target_hidden_size: int
    layer_ids: tuple[int, ...] | None
    rms_norm_eps: float
    max_positions: int
    rope: Mapping[str, Any]
    qk_norm: bool
    attention_bias: bool
    norm_before_residual: bool
    norm_before_fc: bool
    dtype: str | None
    mtp: bool = False

    @property
    def joined(self) -> int:
        """How many layers' states are joined."""
        return 3 if self.layer_ids is None else len(self.layer_ids)

    def layers_of(self, target_layers: int) -> tuple[int, ...]:
        """The target's layers whose inputs are joined: low, middle and high, unless the config names them."""
        return self.layer_ids or (min(2, target_layers - 1), target_layers // 2, max(0, target_layers - 3))

    @classmethod
    def of(cls, config: Mapping[str, Any], name: str) -> Eagle3Config:
        """Reads either layout.

        Args:
            config: the parsed config.json, for which is_eagle3 holds.
            name: of the model, as shown to people.

        Raises:
            ModelError: a number is missing, none or out of its range, or the head is of a kind that cannot run.
        """
        kinds = config.get("architectures")
        if not isinstance(kinds, list | None):
            raise _wrong(name, f"architectures is {short(kinds)}, not a list of names", _AGAIN)
        nested = config.get("transformer_layer_config")
        layer = nested if isinstance(nested, Mapping) else config
        family = str(layer.get("model_type", "llama"))
        if family not in _DEFAULTS:
            raise _wrong(name, f"its layer is built like {family}", "use a head whose layer is Llama's or Qwen3's")
        if layer is not config:
            layer = {**_DEFAULTS[family], **{key: value for key, value in layer.items() if value is not None}}
        hidden, vocab = _number(layer, "hidden_size", name), _number(layer, "vocab_size", name)
        heads, kv_heads, head_dim = _heads(layer, hidden, name)
        drafted = _number(config, "draft_vocab_size", name, vocab)
        if drafted > vocab:
            raise _wrong(name, f"draft_vocab_size is {drafted}, and vocab_size is {vocab}", _AGAIN)
        _refuse_foreign(config, layer, name)
        aux = config.get("eagle_config")
        options: Mapping[str, Any] = {**(aux if isinstance(aux, Mapping) else {}), **config}
        return cls(
            hidden_size=hidden,
            intermediate_size=_number(layer, "intermediate_size", name),
            num_heads=heads,
            num_kv_heads=kv_heads,
            head_dim=head_dim,
            vocab_size=vocab,
            draft_vocab_size=drafted,
            target_hidden_size=_number(config, "target_hidden_size", name, hidden),
            layer_ids=_layer_ids(config, name),
            rms_norm_eps=_epsilon(layer, name),
            max_positions=_number(layer, "max_position_embeddings", name, 2048),
            rope=_rope(layer, name),
            qk_norm=family == "qwen3",
            attention_bias=_flag(layer, "attention_bias", name),
            norm_before_residual=_flag(options, "norm_before_residual", name),
            norm_before_fc=_flag(options, "norm_before_fc", name),
            dtype=next(
                (str(one[key]) for one in (config, layer) for key in ("dtype", "torch_dtype") if one.get(key)), None
            ),
        )


def _refuse_foreign(config: Mapping[str, Any], layer: Mapping[str, Any], name: str) -> None:
    """What would draft by other rules than these."""
    layers = _number(layer, "num_hidden_layers", name, 1)
    options = config.get("eagle_config")
    joins = options.get("use_aux_hidden_state", True) if isinstance(options, Mapping) else True
    quantised = config.get("quantization_config") or layer.get("quantization_config")
    found = {
        f"it has {layers} layers, and one is supported": layers != 1,
        "it drafts from the target's last hidden states alone (use_aux_hidden_state: false), as EAGLE 1 and 2 do": not joins,
        "it drafts all tokens at once (parallel drafting)": bool(
            config.get("parallel_drafting") or config.get("mask_token_id")
        ),
        f"its activation is {layer.get('hidden_act')}": layer.get("hidden_act", "silu") != "silu",
        "its MLP has biases": bool(layer.get("mlp_bias", False)),
        "its weights are quantised": bool(quantised),
    }
    for what, holds in found.items():
        if holds:
            raise _wrong(name, what, "use an EAGLE-3 head of one Llama or Qwen3 layer, or another drafter")


def _layer_ids(config: Mapping[str, Any], name: str) -> tuple[int, ...] | None:
    """Layers counted by their inputs, as vLLM has them; `eagle_config` names the layers whose outputs are meant (NVIDIA, SGLang)."""
    nested = config.get("eagle_config")
    nested = nested if isinstance(nested, Mapping) else {}
    key = "eagle_aux_hidden_state_layer_ids"
    found, step = (config.get(key), 0) if config.get(key) else (nested.get(key), 1)
    if not found:
        return None
    if not isinstance(found, list) or not all(type(one) is int and one >= 0 for one in found):
        raise _wrong(name, f"{key} is {short(found)}, not a list of layers", _AGAIN)
    return tuple(one + step for one in found)


def _heads(layer: Mapping[str, Any], hidden: int, name: str) -> tuple[int, int, int]:
    """Heads of queries, heads of keys and values, and their width."""
    heads = _number(layer, "num_attention_heads", name)
    kv_heads = _number(layer, "num_key_value_heads", name, heads)
    if heads % kv_heads:
        raise _wrong(name, f"its {heads} heads cannot share {kv_heads} heads of keys and values evenly", _AGAIN)
    width = _number(layer, "head_dim", name, max(1, hidden // heads))
    if width % 2:
        raise _wrong(name, f"head_dim is {width}, and rotary embeddings turn pairs of numbers", _AGAIN)
    return heads, kv_heads, width


def _rope(layer: Mapping[str, Any], name: str) -> dict[str, Any]:
    """As transformers' rope_parameters, which looks at what is left when the head is built."""
    parameters = layer.get("rope_parameters") or layer.get("rope_scaling")
    if parameters and not isinstance(parameters, Mapping):
        raise _wrong(name, f"rope_scaling is {short(parameters)}, not an object", _AGAIN)
    rope = dict(parameters or {})
    kind = rope.pop("type", None) or rope.get("rope_type") or "default"
    if not isinstance(kind, str) or kind not in _NEEDED:
        raise _wrong(name, f"rope_type is {short(kind)}, not one of {', '.join(_NEEDED)}", "use another drafter")
    if rope.get("rope_theta") is None:
        theta = layer.get("rope_theta")
        rope["rope_theta"] = 10000.0 if theta is None else theta
    for key in ("rope_theta", *_NEEDED[kind]):
        if not _is_real(rope.get(key)) or rope[key] <= 0:
            raise _wrong(name, f"{key} of rope_type {kind} is {short(rope.get(key))}, not a positive number", _AGAIN)
    return rope | {"rope_type": kind}


def _epsilon(layer: Mapping[str, Any], name: str) -> float:
    value = layer.get("rms_norm_eps", 1e-6)
    if not _is_real(value) or not 0 <= value < 1:
        raise _wrong(name, f"rms_norm_eps is {short(value)}, not a number from 0 to 1", _AGAIN)
    return float(value)


def _flag(config: Mapping[str, Any], key: str, name: str) -> bool:
    value = config.get(key)
    if not isinstance(value, bool | None):
        raise _wrong(name, f"{key} is {short(value)}, neither true nor false", _AGAIN)
    return bool(value)


def _number(config: Mapping[str, Any], key: str, name: str, default: int | None = None) -> int:
    value = config.get(key)
    if value is None and default is not None:
        return default
    if type(value) is not int or value < 1:
        raise _wrong(name, f"{key} is {short(value)}, not a positive whole number", _AGAIN)
    if value > _MOST:
        raise _wrong(name, f"{key} is {short(value)}, and no head has more than {_MOST:,}", _AGAIN)
    return value


def _is_real(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST


def _wrong(name: str, what: str, remedy: str) -> ModelError:
    return ModelError(f"config.json of an EAGLE-3 head: {what}", where=name, remedy=remedy)
