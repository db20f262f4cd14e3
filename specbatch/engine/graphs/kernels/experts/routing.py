"""Where tokens go in a mixture of experts: the router's logits behind the norm, and the experts of each token.

For few tokens the first two are one kernel: a warp works out the logit of one expert, and the last of a token's warps chooses.

E experts of a layer, K of a token, T tokens. An expert E stands for none: a filler's.
"""

# mypy: disable-error-code="import-untyped, no-untyped-def, untyped-decorator"

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from specbatch.engine.graphs.describe.description import Routing
from specbatch.engine.graphs.kernels.linears.epilogue import LINE, fetch
from specbatch.engine.graphs.kernels.overlap import overlap
from specbatch.engine.graphs.kernels.scratch import current_lane

SCORED = 16  # tokens, at the most, that norm_route takes
_WARP = 4096  # inputs that a warp holds
FETCHED = (
    16 << 20
)  # bytes of the weights behind the experts that are asked for, while memory has nothing to do but the router
_FETCHING = 132  # programs that do so


def norm_route(
    x: Tensor, norm: Tensor | None, eps: float, router: Tensor, bias: Tensor | None, routing: Routing,
    slots: Tensor, padding: int, following: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Norm, logits and choice of up to SCORED tokens; see TorchExperts.route.

    Returns:
        normed [T, H], logits float32 [T, E or more], weights float32 [T, K], experts int32 [T, K]
    """
    tokens, ins = x.shape
    assert tokens <= SCORED
    outs = len(router)
    normed = x if norm is None else torch.empty_like(x)
    logits = torch.empty(tokens, outs, dtype=torch.float32, device=x.device)
    weights, experts = _chosen(tokens, routing, x.device)
    width = triton.next_power_of_2(ins)
    options = overlap(x.device)
    fetched = 0 if following is None or tokens > 1 or not options["overlapped"] else min(FETCHED, following.nbytes)
    following, fetching = (router, 0) if following is None or not fetched else (following, _FETCHING)
    _norm_route[(outs + fetching, tokens)](
        x, norm, router, normed, logits, _arrivals(x.device), bias, slots, weights, experts, following,
        outs, ins, eps, padding, routing.scale, fetched // LINE // _FETCHING,
        width=width, before=norm is not None, line=LINE // following.element_size() if fetching else 0,
        **_constants(routing, bias), num_warps=max(1, width // _WARP), **options,
    )  # fmt: skip
    return normed, logits, weights, experts


def route(logits: Tensor, bias: Tensor | None, routing: Routing, slots: Tensor, padding: int) -> tuple[Tensor, Tensor]:
    """The choice alone.  # float32 [T, E or more] -> float32 [T, K], int32 [T, K]"""
    tokens = len(logits)
    weights, experts = _chosen(tokens, routing, logits.device)
    if tokens:
        _route[(tokens,)](
            logits, bias, slots, weights, experts, logits.stride(0), padding, routing.scale,
            **_constants(routing, bias), num_warps=1, **overlap(logits.device),
        )  # fmt: skip
    return weights, experts


def _chosen(tokens: int, routing: Routing, device: torch.device) -> tuple[Tensor, Tensor]:
    shape = tokens, routing.per_token
    return torch.empty(shape, dtype=torch.float32, device=device), torch.empty(shape, dtype=torch.int32, device=device)


def _constants(routing: Routing, bias: Tensor | None) -> dict[str, Any]:
    return {
        "count": routing.experts,
        "places": triton.next_power_of_2(routing.experts),
        "each": routing.per_token,
        "sigmoid": routing.scores == "sigmoid",
        "biased": bias is not None,
        "groups": routing.groups,
        "kept": routing.kept_groups,
        "is_normed": routing.normed,
    }


_counters: dict[tuple[torch.device, int], Tensor] = {}


def _arrivals(device: torch.device) -> Tensor:
    """Zeroed counters that every launch leaves at zero: captured graphs keep their addresses, so they stay."""
    key = device, current_lane()
    if key not in _counters:
        assert device.type == "cpu" or not torch.cuda.is_current_stream_capturing(), (
            "run a graph's kernels once before capture"
        )
        _counters[key] = torch.zeros(SCORED, dtype=torch.int32, device=device)
    return _counters[key]


@triton.jit(do_not_specialize=["lines"])
def _norm_route(
    x, norm, router, normed, logits, arrivals, bias, slots, weights, experts, following, outs, ins, eps, padding, scale, lines,
    width: tl.constexpr, before: tl.constexpr, line: tl.constexpr, count: tl.constexpr, places: tl.constexpr,
    each: tl.constexpr, sigmoid: tl.constexpr, biased: tl.constexpr, groups: tl.constexpr, kept: tl.constexpr,
    is_normed: tl.constexpr, overlapped: tl.constexpr,
):  # fmt: skip
    """before: there is a norm; line: see fetch, which programs beyond the experts' do, or 0"""
    n, token = tl.program_id(0), tl.program_id(1)
    if n < outs:
        k = tl.arange(0, width)
        inside = k < ins
        row = tl.load(router + n * ins + k, mask=inside, other=0.0)
        factor = tl.full((1,), 1.0, tl.float32)
        if before:
            factor = tl.load(norm + k, mask=inside, other=0.0)
        if overlapped:
            tl.extra.cuda.gdc_wait()
            tl.extra.cuda.gdc_launch_dependents()
        here = token.to(tl.int64) * ins + k
        raw = tl.load(x + here, mask=inside, other=0.0)
        if before:
            wide = raw.to(tl.float32)
            rstd = tl.math.rsqrt(tl.sum(wide * wide, axis=0) / ins + eps)
            raw = ((wide * rstd).to(factor.dtype).to(tl.float32) * factor.to(tl.float32)).to(raw.dtype)
            if n == 0:
                tl.store(normed + here, raw, mask=inside)
        total = tl.sum(row.to(tl.float32) * raw.to(tl.float32), axis=0)
        tl.store(logits + token * outs + n, total)
        tl.debug_barrier()  # the store comes before the count, which releases it
        if tl.atomic_add(arrivals + token, 1, sem="acq_rel") == outs - 1:
            tl.store(arrivals + token, 0)  # for the next launch
            _choose(
                logits + token * outs, bias, slots, weights, experts, token, padding, scale,
                count, places, each, sigmoid, biased, groups, kept, is_normed,
            )  # fmt: skip
    elif line:
        fetch(following, lines, n - outs, line)
        if overlapped:
            tl.extra.cuda.gdc_wait()
            tl.extra.cuda.gdc_launch_dependents()


@triton.jit
def _route(
    logits, bias, slots, weights, experts, stride, padding, scale,
    count: tl.constexpr, places: tl.constexpr, each: tl.constexpr, sigmoid: tl.constexpr,
    biased: tl.constexpr, groups: tl.constexpr, kept: tl.constexpr, is_normed: tl.constexpr, overlapped: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0)
    if overlapped:
        tl.extra.cuda.gdc_wait()
        tl.extra.cuda.gdc_launch_dependents()
    _choose(
        logits + token.to(tl.int64) * stride, bias, slots, weights, experts, token, padding, scale,
        count, places, each, sigmoid, biased, groups, kept, is_normed,
    )  # fmt: skip


@triton.jit
def _choose(
    logits, bias, slots, weights, experts, token, padding, scale,
    count: tl.constexpr, places: tl.constexpr, each: tl.constexpr, sigmoid: tl.constexpr, biased: tl.constexpr,
    groups: tl.constexpr, kept: tl.constexpr, is_normed: tl.constexpr,
):  # fmt: skip
    """A token's experts, by its logits."""
    e = tl.arange(0, places)
    inside = e < count
    added = 0.0
    if biased:
        added = tl.load(bias + e, mask=inside, other=0.0).to(tl.float32)
    filler = tl.load(slots + token) == padding
    x = tl.load(logits + e, mask=inside, other=float("-inf"), cache_modifier=".cg")
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
