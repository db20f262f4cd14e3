"""How tokens find their experts, in plain PyTorch; and which of these ways a router is, found by its values."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator

import torch
from accelerate.hooks import remove_hook_from_module
from torch import Tensor

from specbatch.engine.graphs.describe.description import NotDescribedError, Routing
from specbatch.engine.graphs.experts.modules import MoeModules

_TOKENS = 32  # that a router is tried out with


def choose(logits: Tensor, bias: Tensor | None, routing: Routing) -> tuple[Tensor, Tensor]:
    """The experts of each token, in float32.

    Args:
        logits: float32 [T, experts]
        bias: float32 [experts]
        routing: how.

    Returns:
        weights float32 [T, per_token], experts int64 [T, per_token]
    """
    scores = logits.softmax(-1) if routing.scores == "softmax" else logits.sigmoid()
    choosing = scores if bias is None else scores + bias
    if routing.groups > 1:
        grouped = choosing.view(len(logits), routing.groups, -1)
        sums = grouped.topk(2, dim=-1).values.sum(-1)
        kept = torch.zeros_like(sums).scatter_(1, sums.topk(routing.kept_groups, dim=-1).indices, 1.0)
        choosing = torch.where(kept[:, :, None] > 0, grouped, float("-inf")).view_as(choosing)
    experts = choosing.topk(routing.per_token, dim=-1).indices
    weights = scores.gather(1, experts)
    if routing.normed:
        weights = weights / (weights.sum(-1, keepdim=True) + 1e-20)
    return weights * routing.scale, experts


@torch.no_grad()
def routing_of(moe: MoeModules) -> Routing:
    """The way in which a router is found to choose.

    Raises:
        NotDescribedError: none that is known here.
    """
    router = remove_hook_from_module(copy.deepcopy(moe.router), recurse=True).to("cpu", torch.float32)
    bias = None if moe.bias is None else moe.bias.float().cpu()
    count, hidden = moe.scores.shape
    x = torch.randn(_TOKENS, hidden, generator=torch.Generator().manual_seed(1))
    takes_bias = "e_score_correction_bias" in inspect.signature(type(router).forward).parameters
    try:
        logits, weights, experts = router(x, bias) if takes_bias else router(x)
        expected = _dense(weights, experts, count)
    except (RuntimeError, TypeError, ValueError) as error:
        raise NotDescribedError(f"its router is a {type(router).__name__} ({error})") from error
    for one in _candidates(router, count, experts.shape[-1]):
        if torch.allclose(_dense(*choose(logits.float(), bias, one), count), expected, rtol=1e-4, atol=1e-6):
            return one
    raise NotDescribedError(f"its router is a {type(router).__name__}")


def _dense(weights: Tensor, experts: Tensor, count: int) -> Tensor:
    """Each expert's weight for each token.  # [T, experts]"""
    return torch.zeros(len(weights), count).scatter_(1, experts.long(), weights.float())


def _candidates(router: object, count: int, per_token: int) -> Iterator[Routing]:
    groups, kept = int(getattr(router, "num_group", None) or 1), int(getattr(router, "topk_group", None) or 1)
    scale = float(getattr(router, "routed_scaling_factor", None) or 1.0)
    for scores in ("softmax", "sigmoid"):
        for normed in (True, False):
            for by in dict.fromkeys([(groups, kept, scale), (groups, kept, 1.0), (1, 1, scale), (1, 1, 1.0)]):
                if count % by[0] == 0 and (by[0] == 1 or count // by[0] >= 2):
                    yield Routing(count, per_token, scores, by[0], by[1], normed, by[2])
