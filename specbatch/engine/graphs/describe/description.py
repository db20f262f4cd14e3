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
class Routing:
    """How a token finds its experts among a layer's, and what each of them counts.

    experts, per_token: how many there are, and how many of them a token goes to
    scores: "softmax" or "sigmoid" of the router's logits; with a bias added, where the layer has one, they choose
    groups, kept_groups: the experts lie in so many groups, of which so many are chosen among: those whose two highest scores have the highest sums
    normed: the scores of the chosen are divided by their sum
    scale: then multiplied by it
    """

    experts: int
    per_token: int
    scores: str = "softmax"
    groups: int = 1
    kept_groups: int = 1
    normed: bool = False
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class LayerDescription:
    """One layer.

    scale: of the attention scores
    rope: the kind of layer under which the model's rotary embedding knows it, "" where it knows one; None: positions are not rotated
    gated: the MLP multiplies what it activates with a second product
    routing: of a mixture of experts; None: the MLP is one
    """

    scale: float
    rope: str | None = ""
    attention: AttentionKind = PLAIN
    activation: Activation = SILU
    gated: bool = True
    routing: Routing | None = None


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
