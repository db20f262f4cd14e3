"""Where a mixture of experts of transformers has its parts, by the names of its modules."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from specbatch.engine.graphs.describe.description import NotDescribedError

_ROUTERS = ("gate", "router")
_SHARED = ("shared_experts", "shared_expert", "shared_mlp")
_SHARED_GATE = "shared_expert_gate"
# How transformers keeps the weights of all experts of a layer as one tensor: gate's rows, then up's; see use_experts_implementation.
_LAYOUT = {"has_gate": True, "has_bias": False, "is_transposed": False, "is_concatenated": True}


@dataclass(frozen=True, slots=True)
class MoeModules:
    """One layer's mixture.

    router: gives logits, weights and the experts of every token
    scores: its weights  # [experts, hidden]
    bias: is added to the scores that choose  # [experts]
    experts: all of a layer's; gate_up_proj [experts, 2 * intermediate, hidden], down_proj [experts, hidden, intermediate]
    shared: the MLP that every token goes through as well
    shared_gate: what that gives is multiplied by the sigmoid of this  # 1 x hidden
    """

    router: Any
    scores: nn.Parameter
    bias: Tensor | None
    experts: Any
    shared: Any
    shared_gate: nn.Linear | None


def moe_of(mlp: Any, has: str) -> tuple[MoeModules, set[str]] | None:
    """The mixture of experts that a layer has as its MLP, and the names of its parts; None: it has no experts.

    Args:
        mlp: the module.
        has: "layer 3 has", for the reason.

    Raises:
        NotDescribedError: it is built otherwise.
    """
    children = dict(mlp.named_children())
    if "experts" not in children:
        return None
    experts, router_name = children["experts"], next((name for name in _ROUTERS if name in children), None)
    kind = type(mlp).__name__
    if router_name is None or any(getattr(experts, name, None) is not value for name, value in _LAYOUT.items()):
        raise NotDescribedError(f"{has} a {kind} of {type(experts).__name__}")
    router = children[router_name]
    scores: Any = getattr(getattr(router, "wg", router), "weight", None)
    if getattr(scores, "ndim", 0) != 2:
        raise NotDescribedError(f"{has} a {kind} that is routed by a {type(router).__name__}")
    gate: Any = children.get(_SHARED_GATE)
    if gate is not None and (type(gate) is not nn.Linear or gate.out_features != 1 or gate.bias is not None):
        raise NotDescribedError(f"{has} a {type(gate).__name__} as the gate of its shared expert")
    shared_name = next((name for name in _SHARED if children.get(name) is not None), None)
    found = MoeModules(
        router=router,
        scores=scores,
        bias=next(_biases(mlp, router), None),
        experts=experts,
        shared=None if shared_name is None else children[shared_name],
        shared_gate=gate,
    )
    return found, {"experts", router_name, *_SHARED, _SHARED_GATE}


def _biases(mlp: Any, router: Any) -> Iterator[Tensor]:
    for module in (router, getattr(router, "moe_statics", None), mlp):
        bias = getattr(module, "e_score_correction_bias", None)
        if bias is not None:
            yield bias.detach().view(-1)
