"""Where tokens go in a mixture of experts: the router's logits behind the norm, and the experts of each token.

E experts of a layer, K of a token, T tokens. An expert E stands for none: a filler's.
"""

# mypy: disable-error-code="import-untyped, no-untyped-def, untyped-decorator"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from specbatch.engine.graphs.describe.description import Routing
from specbatch.engine.graphs.kernels.overlap import overlap

_EXPERTS = 4  # of which a program works out the logits of a token


def norm_scores(x: Tensor, norm: Tensor | None, eps: float, router: Tensor) -> tuple[Tensor, Tensor]:
    """The norm of a few tokens, or these as they are, and their products with the router.  # [T, H], [N, H] -> [T, H], float32 [T, N]"""
    tokens, ins = x.shape
    outs = len(router)
    normed = x if norm is None else torch.empty_like(x)
    logits = torch.empty(tokens, outs, dtype=torch.float32, device=x.device)
    width = triton.next_power_of_2(ins)
    _norm_scores[(triton.cdiv(outs, _EXPERTS), tokens)](
        x, norm, router, normed, logits, outs, ins, eps,
        block_n=_EXPERTS, width=width, is_normed=norm is not None, num_warps=max(1, min(8, width // 512)), **overlap(x.device),
    )  # fmt: skip
    return normed, logits


def route(logits: Tensor, bias: Tensor | None, routing: Routing, slots: Tensor, padding: int) -> tuple[Tensor, Tensor]:
    """The experts of each token, see TorchExperts.route.  # float32 [T, E or more] -> float32 [T, K], int32 [T, K]"""
    tokens, each = len(logits), routing.per_token
    weights = torch.empty(tokens, each, dtype=torch.float32, device=logits.device)
    experts = torch.empty(tokens, each, dtype=torch.int32, device=logits.device)
    if tokens:
        _route[(tokens,)](
            logits, bias, slots, weights, experts, logits.stride(0), padding, routing.scale,
            count=routing.experts, places=triton.next_power_of_2(routing.experts), each=each,
            sigmoid=routing.scores == "sigmoid", biased=bias is not None, groups=routing.groups, kept=routing.kept_groups,
            is_normed=routing.normed, num_warps=1, **overlap(logits.device),
        )  # fmt: skip
    return weights, experts


@triton.jit
def _norm_scores(
    x, norm, router, normed, logits, outs, ins, eps,
    block_n: tl.constexpr, width: tl.constexpr, is_normed: tl.constexpr, overlapped: tl.constexpr,
):  # fmt: skip
    tile, token = tl.program_id(0), tl.program_id(1)
    n = tile * block_n + tl.arange(0, block_n)
    k = tl.arange(0, width)
    inside = k < ins
    at = tl.minimum(n, outs - 1)[:, None] * ins + k[None, :]
    rows = tl.load(router + at, mask=inside[None, :], other=0.0)
    factor = tl.full((1,), 1.0, tl.float32)
    if is_normed:
        factor = tl.load(norm + k, mask=inside, other=0.0)
    if overlapped:
        tl.extra.cuda.gdc_wait()
        tl.extra.cuda.gdc_launch_dependents()
    here = token.to(tl.int64) * ins + k
    raw = tl.load(x + here, mask=inside, other=0.0)
    if is_normed:
        wide = raw.to(tl.float32)
        rstd = tl.math.rsqrt(tl.sum(wide * wide, axis=0) / ins + eps)
        raw = ((wide * rstd).to(factor.dtype).to(tl.float32) * factor.to(tl.float32)).to(raw.dtype)
        if tile == 0:
            tl.store(normed + here, raw, mask=inside)
    sums = tl.sum(rows.to(tl.float32) * raw.to(tl.float32)[None, :], axis=1)
    tl.store(logits + token * outs + n, sums, mask=n < outs)


@triton.jit
def _route(
    logits, bias, slots, weights, experts, stride, padding, scale,
    count: tl.constexpr, places: tl.constexpr, each: tl.constexpr, sigmoid: tl.constexpr,
    biased: tl.constexpr, groups: tl.constexpr, kept: tl.constexpr, is_normed: tl.constexpr, overlapped: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0)
    e = tl.arange(0, places)
    inside = e < count
    added = 0.0
    if biased:
        added = tl.load(bias + e, mask=inside, other=0.0).to(tl.float32)
    if overlapped:
        tl.extra.cuda.gdc_wait()
        tl.extra.cuda.gdc_launch_dependents()
    filler = tl.load(slots + token) == padding
    x = tl.load(logits + token.to(tl.int64) * stride + e, mask=inside, other=float("-inf"))
    broken = tl.max((x != x).to(tl.int32), axis=0) > 0  # noqa: PLR0124  # no number; comparisons would lose it
    if sigmoid:
        scores = 1.0 / (1.0 + tl.exp(-x))
    else:
        scores = tl.exp(x - tl.max(x, axis=0))
        scores = scores / tl.sum(scores, axis=0)
    choosing = tl.where(inside, scores + added, float("-inf"))
    if groups > 1:
        choosing = _of_kept_groups(choosing, e, count // groups, groups, kept)
    width: tl.constexpr = triton.next_power_of_2(each)
    i = tl.arange(0, width)
    chosen = tl.full((width,), 0, tl.int32)
    given = tl.full((width,), 0.0, tl.float32)
    for j in tl.static_range(each):
        best = tl.minimum(tl.maximum(tl.argmax(choosing, axis=0), 0), count - 1)  # of what is no number, any
        score = tl.sum(tl.where(e == best, scores, 0.0), axis=0)
        chosen = tl.where(i == j, best, chosen)
        given = tl.where(i == j, score, given)
        choosing = tl.where(e == best, float("-inf"), choosing)
    if is_normed:
        given = given / (tl.sum(given, axis=0) + 1e-20)
    given = tl.where(broken, float("nan"), given * scale)
    at = token * each + i
    tl.store(weights + at, tl.where(filler, 0.0, given), mask=i < each)
    tl.store(experts + at, tl.where(filler, count, chosen), mask=i < each)


@triton.jit
def _of_kept_groups(choosing, e, size: tl.constexpr, groups: tl.constexpr, kept: tl.constexpr):
    """Those of the groups whose two highest have the highest sums."""
    places: tl.constexpr = triton.next_power_of_2(groups)
    g = tl.arange(0, places)
    sums = tl.full((places,), float("-inf"), tl.float32)
    for j in tl.static_range(groups):
        here = tl.where(e // size == j, choosing, float("-inf"))
        first = tl.argmax(here, axis=0)
        second = tl.max(tl.where(e == first, float("-inf"), here), axis=0)
        sums = tl.where(g == j, tl.max(here, axis=0) + second, sums)
    allowed = e < 0
    for _ in tl.static_range(kept):
        best = tl.argmax(sums, axis=0)
        allowed = allowed | (e // size == best)
        sums = tl.where(g == best, float("-inf"), sums)
    return tl.where(allowed, choosing, float("-inf"))
