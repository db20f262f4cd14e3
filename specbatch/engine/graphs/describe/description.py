"""A decoder as data: all that its weights do not tell."""

from __future__ import annotations

from dataclasses import dataclass


class NotDescribedError(Exception):
    """A model computes what a description cannot say: "its layers have a Conv1d (conv)"."""


@dataclass(frozen=True, slots=True)
class AttentionKind:
    """What sets a layer's attention apart from Llama's; no field does by default.

    window: positions that a query sees, its own among them; 0: all before it
    softcap: scores become softcap * tanh(score / softcap); 0: as they are
    rotated: leading numbers of a head that are rotated; 0: all
    interleaved: neighbours are rotated against each other, as in GPT-J, not halves, as in GPT-NeoX
    """

    window: int = 0
    softcap: float = 0.0
    rotated: int = 0
    interleaved: bool = False


PLAIN = AttentionKind()


@dataclass(frozen=True, slots=True)
class Activation:
    """An activation by the name that `activations` has for it, and its numbers, where it has any."""

    name: str = "silu"
    numbers: tuple[float, ...] = ()


SILU = Activation()


@dataclass(frozen=True, slots=True)
class LayerDescription:
    """One layer.

    scale: of the attention scores
    rope: the kind of layer under which the model's rotary embedding knows it, "" where it knows one; None: positions are not rotated
    gated: the MLP multiplies what it activates with a second product
    """

    scale: float
    rope: str | None = ""
    attention: AttentionKind = PLAIN
    activation: Activation = SILU
    gated: bool = True


@dataclass(frozen=True, slots=True)
class DecoderDescription:
    """All layers, and what stands around them.

    eps: of all norms
    norm_offset: what is added to the weights of norms before they multiply (Gemma: 1)
    embed_scale: embeddings are multiplied by it
    residual_scale: what attention and MLP add to the hidden states is multiplied by it (Granite)
    logit_scale: logits are multiplied by it
    logit_softcap: then they become softcap * tanh(logit / softcap); 0: they stay
    """

    layers: tuple[LayerDescription, ...]
    kv_heads: int
    head_dim: int
    eps: float
    norm_offset: float = 0.0
    embed_scale: float = 1.0
    residual_scale: float = 1.0
    logit_scale: float = 1.0
    logit_softcap: float = 0.0
