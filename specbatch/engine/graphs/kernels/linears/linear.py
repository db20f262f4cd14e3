"""Linears of few tokens (T <= 64): reading the weights once is all that takes time, so everything else is folded into it.

Quantized weights are read as they are, and become numbers of the tokens' dtype in registers; these kernels take more tokens of them.

Two kernels. `dot` (linear_dot.py) feeds tiles of weights to the tensor cores as the left operand, the tokens as the right one, padded to
8, 16, 32 or 64; `fma` (linear_fma.py) is for one or two tokens. On Hopper large weights of bfloat16 have another from 9 tokens on
(wgmma.py). A program owns block_n outputs over all of K, or, where outputs are too few to occupy the GPU, one of `split` stretches of K:
the last of a tile's programs to finish sums their partial results in the order of K, so that no result depends on who was first.

A norm in between two linears would be a kernel of its own, which has little to do but costs a boundary. `fma` computes it from its
inputs. For more, the linear before hands on what it writes times the norm's weights, and sums of squares of stretches of it:
the next one multiplies that, and its sums by the scale (`ahead`).

Names of sizes: T tokens, N outputs, K inputs; weights are [N, K], or [2 N, K] for gate and up.
"""

# mypy: disable-error-code="import-untyped, no-untyped-def, untyped-decorator"

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor

from specbatch.engine.graphs.describe.description import SILU, Activation
from specbatch.engine.graphs.kernels.activations import CODES
from specbatch.engine.graphs.kernels.fitting import with_stages
from specbatch.engine.graphs.kernels.linears.epilogue import LINE
from specbatch.engine.graphs.kernels.linears.linear_configs import DOT_TOKENS, SCRATCH, Config, configured, padded
from specbatch.engine.graphs.kernels.linears.linear_dot import dot
from specbatch.engine.graphs.kernels.linears.linear_dp4a import fma_words
from specbatch.engine.graphs.kernels.linears.linear_fma import fma
from specbatch.engine.graphs.kernels.linears.linear_integers import native
from specbatch.engine.graphs.kernels.overlap import overlap
from specbatch.engine.graphs.kernels.scratch import current_lane
from specbatch.engine.quantization.weight import QuantizedWeight, Weight

NOTHING, BIAS, RESIDUAL = 0, 1, 2  # what is added to the products
TILES = 1 << 14  # counters
_ROOM = 256  # stretches of a token's hidden states, at least: models share what is compiled
_LONG = 32 << 20  # bytes of weights, at which attention that waits beside them costs more than it spares
_FETCHED = 4 << 20  # bytes of the next weights: what memory gives between two kernels; more pushes out what is needed


def linear(
    x: Tensor,
    weight: Weight,
    bias: Tensor | None = None,
    *,
    following: Weight | None = None,
    config: Config | None = None,
) -> Tensor:
    """x @ weight.T + bias.  # [T, K], [N, K] -> [T, N]"""
    return _run(x, weight, bias, BIAS, following=following, config=config)[0]


def gated(
    x: Tensor, gate_up: Weight, activation: Activation = SILU,
    *, following: Weight | None = None, config: Config | None = None,
) -> Tensor:  # fmt: skip
    """activation(gate) * up, rounded once.  # [T, K], [2 N: gate's rows, then up's, K] -> [T, N]"""
    return _run(x, gate_up, gated=True, activation=activation, following=following, config=config)[0]


def norm_linear(
    x: Tensor, norm: Tensor, eps: float, weight: Weight, bias: Tensor | None = None, *, config: Config | None = None
) -> Tensor:
    """linear(rms_norm(x)) of one or two tokens: x * norm is rounded, its scale is applied to the sums.  # [T, K], [N, K] -> [T, N]"""
    return _run(x, weight, bias, BIAS, norm=norm, eps=eps, config=config)[0]


def norm_gated(
    x: Tensor, norm: Tensor, eps: float, gate_up: Weight, activation: Activation = SILU,
    *, config: Config | None = None,
) -> Tensor:  # fmt: skip
    """gated(rms_norm(x)) of one or two tokens, as in norm_linear.  # [T, K], [2 N, K] -> [T, N]"""
    return _run(x, gate_up, gated=True, activation=activation, norm=norm, eps=eps, config=config)[0]


def linear_add(x: Tensor, weight: Weight, residual: Tensor, *, config: Config | None = None) -> Tensor:
    """residual + x @ weight.T, rounded once.  # [T, K], [N, K], [T, N] -> [T, N]"""
    return _run(x, weight, residual, RESIDUAL, config=config)[0]


def linear_add_ahead(
    x: Tensor, weight: Weight, residual: Tensor, norm: Tensor,
    *, following: Weight | None = None, config: Config | None = None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """linear_add, and what the linear after the norm of it needs.

    Args:
        x: [T, K]
        weight: [N, K]
        residual: [T, N]
        norm: weights of the norm that comes next  # [N]
        following: weights that are read next.
        config: instead of the table's.

    Returns:
        the sum [T, N]; the sum times `norm` [T, N]; sums of squares of its stretches, float32 [stretches, T or more]
    """
    return _run(x, weight, residual, RESIDUAL, next_norm=norm, following=following, config=config)


def ahead_linear(
    scaled: Tensor, squares: Tensor, eps: float, weight: Weight, bias: Tensor | None = None,
    *, following: Weight | None = None, config: Config | None = None,
) -> Tensor:  # fmt: skip
    """norm_linear of what linear_add_ahead gave.  # [T, K], float32 [stretches, T or more], [N, K] -> [T, N]"""
    return _run(scaled, weight, bias, BIAS, squares=squares, eps=eps, following=following, config=config)[0]


def ahead_gated(
    scaled: Tensor, squares: Tensor, eps: float, gate_up: Weight, activation: Activation = SILU,
    *, following: Weight | None = None, config: Config | None = None,
) -> Tensor:  # fmt: skip
    """norm_gated of what linear_add_ahead gave.  # [T, K], float32 [stretches, T or more], [2 N, K] -> [T, N]"""
    return _run(
        scaled, gate_up, gated=True, activation=activation, squares=squares, eps=eps, following=following, config=config
    )[0]


def _run(
    x: Tensor, weight: Weight, extra: Tensor | None = None, kind: int = NOTHING,
    *, gated: bool = False, activation: Activation = SILU,
    norm: Tensor | None = None, squares: Tensor | None = None, eps: float = 0.0, next_norm: Tensor | None = None,
    following: Weight | None = None, config: Config | None = None,
) -> tuple[Tensor, Any, Any]:  # fmt: skip
    tokens, ins = x.shape
    outs = weight.shape[0] // 2 if gated else weight.shape[0]
    ahead = squares is not None or next_norm is not None
    values, scales, int4_group, words = _parts(weight)
    size = values.element_size() / (2 if int4_group else 1)
    zeros = isinstance(weight, QuantizedWeight) and weight.has_zeros
    use = config or configured(tokens, outs, ins, size, gated=gated, ahead=ahead, integers=words > 0, zeros=zeros)
    out = x.new_empty(tokens, outs)
    flags: dict[str, Any] = {
        "block_n": use.block_n,
        "block_k": use.block_k,
        "gated": gated,
        "activation": CODES[activation.name],
        "kind": NOTHING if extra is None else kind,
        "even_n": outs % use.block_n == 0,
        "num_warps": use.warps,
        **overlap(x.device),
    }
    tiles = triton.cdiv(outs, use.block_n)
    if use.fma:
        assert not ahead
        early = kind != BIAS or weight.nbytes < _LONG
        if words:
            flags["block_k"] = 1 << (words.bit_length() - 1)
            rest = words - flags["block_k"]
            tail = triton.next_power_of_2(rest) if rest else 0
            fma_words[(tiles,)](
                x, norm, values.view(torch.int32), scales, extra, out, outs, ins, eps,
                tail=tail, count=tokens, int4_group=int4_group, wide=zeros or not int4_group, native=native(x.device), normed=norm is not None, even_k=rest == tail,
                early=early, **flags,
            )  # fmt: skip
            return out, None, None
        rest = ins - use.block_k
        tail = triton.next_power_of_2(rest) if rest else 0
        fma[(tiles,)](
            x, norm, values, scales, extra, out, outs, ins, eps,
            tail=tail, count=tokens, normed=norm is not None, even_k=rest == tail,
            early=early, **flags,
        )  # fmt: skip
        return out, None, None
    block_t = padded(tokens)
    flags["block_k"] //= 2 if int4_group else 1
    times = triton.cdiv(tokens, block_t)
    assert norm is None, "the norm is folded in for one or two tokens alone"
    assert use.split == 1 or not gated, "gates need all of K"
    assert use.split == 1 or (times * tiles <= TILES and times * tiles * use.split * use.block_n * block_t <= SCRATCH)
    partial, counters = scratch_of(x.device) if use.split > 1 else (None, None)
    scaled = squares_out = None
    if next_norm is not None:
        scaled = torch.empty_like(out)
        squares_out = torch.empty(tiles, block_t, dtype=torch.float32, device=x.device)
    # Of these q, k, v alone gain, before attention.
    early = squares is not None and not gated and (block_t == DOT_TOKENS[0] or weight.nbytes < _LONG)
    stretches = 0 if squares is None else len(squares)
    after, fetched = values, 0
    if following is not None:
        after, *_ = _parts(following)
        fetched = min(_FETCHED, after.nbytes)

    def run(stages: int) -> None:
        dot[(tiles, use.split, times)](
            x, squares, values, scales, extra, out, next_norm, scaled, squares_out, after, partial, counters,
            tokens, outs, ins, eps, stretches, fetched // LINE // (tiles * use.split),
            block_t=block_t, many=times > 1, int4_group=int4_group, native=native(x.device), split=use.split, room=max(_ROOM, triton.next_power_of_2(stretches)) if stretches else 0,
            hands_on=next_norm is not None, even_k=ins % (use.block_k * use.split) == 0,
            early=early, line=LINE // after.element_size() if flags["overlapped"] else 0,
            num_stages=stages, **flags,
        )  # fmt: skip

    with_stages(("linear", use, block_t, gated, ahead, x.dtype, values.dtype, x.device), use.stages, run)
    return out, scaled, squares_out


def _parts(weight: Weight) -> tuple[Tensor, Tensor | None, int, int]:
    """What kernels read of a weight: values and scales; inputs of an int4 group; words of integers in a row."""
    if isinstance(weight, QuantizedWeight):
        return weight.values, weight.words_of_scales, weight.int4_group, weight.words
    return weight, None, 0, 0


_scratches: dict[tuple[torch.device, int], tuple[Tensor, Tensor]] = {}


def scratch_of(device: torch.device) -> tuple[Tensor, Tensor]:
    """Partial results, and zeroed counters that every launch leaves at zero: captured graphs keep their addresses, so they stay."""
    key = device, current_lane()
    if key not in _scratches:
        assert device.type == "cpu" or not torch.cuda.is_current_stream_capturing(), (
            "run a graph's kernels once before capture"
        )
        _scratches[key] = (
            torch.empty(SCRATCH, dtype=torch.float32, device=device),
            torch.zeros(TILES, dtype=torch.int32, device=device),
        )
    return _scratches[key]
