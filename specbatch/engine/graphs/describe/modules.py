"""Where a decoder of transformers has its parts, by the names of its modules; what is not known here is no part of a description."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from specbatch.engine.graphs.describe.description import NotDescribedError
from specbatch.engine.graphs.experts.modules import MoeModules, moe_of
from specbatch.engine.quantization.linears import QuantizedLinear

# The norms of a layer: before attention, after it, before the MLP, after it. None: there is none.
_NORMS = (
    ("input_layernorm", None, "post_attention_layernorm", None),
    ("attention_layernorm", None, "feedforward_layernorm", None),
    ("input_layernorm", None, "pre_feedforward_layernorm", None),
    (None, "post_attention_layernorm", None, "post_feedforward_layernorm"),
    ("input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm"),
    ("input_layernorm", "post_self_attn_layernorm", "post_attention_layernorm", "post_mlp_layernorm"),
    ("input_layernorm", "post_norm1", "post_attention_layernorm", "post_norm2"),
)
Linear = nn.Linear | QuantizedLinear
_LINEARS = (nn.Linear, QuantizedLinear)
_QKV = (("q_proj", "k_proj", "v_proj"), ("qkv_proj",))
_GATE_UP = (("gate_proj", "up_proj"), ("gate_up_proj",), ("up_proj",))
_ACTIVATIONS = ("act_fn", "activation_fn")


@dataclass(frozen=True, slots=True)
class LayerModules:
    """One layer's modules.

    norms: before attention, after it, before the MLP, after it; None where there is none
    qkv: one linear, or three
    head_norms: of queries and of keys, or neither
    gate_up: a gate and what it multiplies, in one linear or two; or the MLP's only linear before its activation
    moe: a mixture of experts; gate_up and down are those of the MLP that every token goes through beside it, or () and None
    """

    norms: tuple[Any, Any, Any, Any]
    attention: Any
    qkv: tuple[Linear, ...]
    head_norms: tuple[Any, ...]
    o: Linear
    gate_up: tuple[Linear, ...]
    activation: Any
    down: Linear | None
    gated: bool
    moe: MoeModules | None = None

    @property
    def linears(self) -> tuple[Linear, ...]:
        """All of them."""
        return (*self.qkv, self.o, *self.gate_up, *([] if self.down is None else [self.down]))


def decoder_of(model: Any) -> Any:
    """The module that holds embedding, layers and last norm: the base model, or the part of it that is about text."""
    base = model.base_model
    return base if hasattr(base, "layers") else getattr(base, "language_model", base)


def check_around(model: Any) -> None:
    """Refuses what stands around the layers and is not known here.

    Raises:
        NotDescribedError: with what there is.
    """
    decoder, head = decoder_of(model), model.get_output_embeddings()
    known = {"embed_tokens", "layers", "norm", "rotary_emb"}
    if (odd := _others("its decoder has", decoder, known)) is not None:
        raise NotDescribedError(odd)
    if missing := sorted(name for name in known if not hasattr(decoder, name)):
        raise NotDescribedError(f"its decoder has no {missing[0]}")
    if type(head) not in _LINEARS:
        raise NotDescribedError(f"its head is a {type(head).__name__}")
    if head.bias is not None:
        raise NotDescribedError("its head has a bias")


def modules_of(layer: Any, number: int) -> LayerModules:
    """A layer's modules.

    Args:
        layer: of transformers.
        number: for the reason.

    Raises:
        NotDescribedError: the layer is built of others; with what it has.
    """
    has = f"layer {number} has"
    children = dict(layer.named_children())
    norms = {name for name in children if "norm" in name}
    places = next((places for places in _NORMS if set(filter(None, places)) == norms), None)
    if "self_attn" not in children or "mlp" not in children:
        kinds = ", ".join(f"{type(child).__name__} ({name})" for name, child in children.items())
        raise NotDescribedError(f"layer {number} is no attention and MLP (self_attn and mlp), but {kinds}")
    if places is None:
        raise NotDescribedError(f"{has} norms of other names ({', '.join(sorted(norms)) or 'none'})")
    _refuse_others(has, layer, {"self_attn", "mlp", *norms})
    attention, mlp = children["self_attn"], children["mlp"]
    qkv = _first(
        _QKV, attention, f"{has} an attention of {type(attention).__name__}, without q_proj, k_proj and v_proj"
    )
    o = getattr(attention, "o_proj", None)
    if o is None:
        raise NotDescribedError(f"{has} a {type(attention).__name__} without its last linear")
    head_norms = tuple(
        getattr(attention, name) for name in ("q_norm", "k_norm") if name in dict(attention.named_children())
    )
    _refuse_others(has, attention, {*qkv, "o_proj", "q_norm", "k_norm"})
    moe, gate_up, activation, down = _parts_of(has, mlp)
    if activation is None or len(head_norms) == 1:
        raise NotDescribedError(f"{has} no activation of a known name, or one norm for queries and keys")
    found = LayerModules(
        norms=tuple(None if name is None else children[name] for name in places),  # type: ignore[arg-type]  # four
        attention=attention,
        qkv=tuple(getattr(attention, name) for name in qkv),
        head_norms=head_norms,
        o=o,
        gate_up=gate_up,
        activation=activation,
        down=down,
        gated=moe is not None or len(gate_up) > 1 or hasattr(mlp, "gate_up_proj"),
        moe=moe,
    )
    for name, module in layer.named_modules():
        if any(module is linear for linear in found.linears) and type(module) not in _LINEARS:
            raise NotDescribedError(f"{name} of layer {number} is a {type(module).__name__}")
    for linears in (found.qkv, found.gate_up):
        if len({type(linear) for linear in linears}) > 1:
            raise NotDescribedError(f"{has} quantized weights in some of {len(linears)} linears that are read as one")
        if len({linear.bias is None for linear in linears}) > 1:
            raise NotDescribedError(f"{has} biases in some of {len(linears)} linears that are read as one")
    return found


def _parts_of(has: str, mlp: Any) -> tuple[MoeModules | None, tuple[Any, ...], Any, Any]:
    """A mixture of experts, if it is one; the first linears, the activation and the last linear of the MLP, or of the one beside the experts."""
    mixture = moe_of(mlp, has)
    if mixture is None:
        return None, *_mlp_of(has, mlp)
    moe, known = mixture
    _refuse_others(has, mlp, known)
    gate_up, _, down = ((), None, None) if moe.shared is None else _mlp_of(has, moe.shared)
    return moe, gate_up, getattr(moe.experts, "act_fn", None), down


def _mlp_of(has: str, mlp: Any) -> tuple[tuple[Any, ...], Any, Any]:
    """An MLP's first linears, its activation and its last linear."""
    gate_up = _first(_GATE_UP, mlp, f"{has} a {type(mlp).__name__} as its MLP")
    down = getattr(mlp, "down_proj", None)
    if down is None:
        raise NotDescribedError(f"{has} a {type(mlp).__name__} without its last linear")
    _refuse_others(has, mlp, {*gate_up, "down_proj", *_ACTIVATIONS})
    activation = next((getattr(mlp, name) for name in _ACTIVATIONS if hasattr(mlp, name)), None)
    return tuple(getattr(mlp, name) for name in gate_up), activation, down


def _first(choices: Iterable[tuple[str, ...]], module: Any, otherwise: str) -> tuple[str, ...]:
    names = dict(module.named_children())
    found = next((choice for choice in choices if all(name in names for name in choice)), None)
    if found is None:
        raise NotDescribedError(otherwise)
    return found


def _refuse_others(has: str, module: Any, known: set[str]) -> None:
    if (odd := _others(has, module, known)) is not None:
        raise NotDescribedError(odd)


def _others(has: str, module: Any, known: set[str]) -> str | None:
    """What a module has beside what is known: children that hold or are more than dropout, and parameters of its own."""
    children: Mapping[str, Any] = dict(module.named_children())
    for name, child in children.items():
        if name not in known and not isinstance(child, (nn.Dropout, nn.Identity)):
            return f"{has} a {type(child).__name__} ({name})"
    own = next((name for name, _ in module.named_parameters(recurse=False)), None)
    return None if own is None else f"{has} a parameter of its own ({own})"
