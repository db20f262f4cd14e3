"""Linears whose weights and inputs are FP8: what fp8/w8a8.py says, as kernels.

For a token or two all weights of a program lie in its registers before the inputs are there, as in kernels/linear_fma.py, and it rounds the
inputs, after the norm where there is one, if weights are few. Else a kernel does that. More tokens go to the tensor cores as FP8, and are
summed in float32 every 128 products, since Hopper keeps few bits of sums of FP8; there 9 to 64 by w8a8_wgmma.py. Many go to cuBLAS, see
w8a8_dense.py.
"""

# mypy: disable-error-code="import-untyped"

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from specbatch.engine.fp8.w8a8 import FP8
from specbatch.engine.graphs.describe.description import SILU, Activation
from specbatch.engine.graphs.describe.triton_operations import DTYPES
from specbatch.engine.graphs.kernels.activations import CODES
from specbatch.engine.graphs.kernels.fitting import with_stages
from specbatch.engine.graphs.kernels.linears import linear as plain
from specbatch.engine.graphs.kernels.linears import linear_configs
from specbatch.engine.graphs.kernels.linears.linear_configs import SCRATCH
from specbatch.engine.graphs.kernels.linears.linear_limits import VOCABULARY
from specbatch.engine.graphs.kernels.linears.w8a8 import on_tensor_cores
from specbatch.engine.graphs.kernels.linears.w8a8_inputs import round_inputs
from specbatch.engine.graphs.kernels.linears.w8a8_registers import in_registers
from specbatch.engine.graphs.kernels.overlap import overlap
from specbatch.engine.graphs.linears import w8a8_wgmma
from specbatch.engine.graphs.linears.w8a8_configs import GROUP, Config, Few, configured, few
from specbatch.engine.graphs.linears.w8a8_dense import by_blocks, multiplied
from specbatch.engine.quantization.weight import QuantizedWeight

GATED = 128  # tokens up to which gates are the linear's own: a tile takes no more
BLOCKS = 64  # tokens, above which cuBLAS is faster by blocks
WIDE = 512  # and with weights made wide, by the bytes of it
EARLY = 64  # tokens up to which the linear may start before its inputs are rounded
_LONG = 16 << 20  # bytes of weights in registers, beside which attention that waits costs more than it spares
_CAPABILITY = (8, 9)  # that converts FP8
_ROOMY = (9, 10)  # whose programs may have 227 KiB of shared memory
AnyTile = Config | Few | w8a8_wgmma.Tile


class Rounded(NamedTuple):
    """Inputs of a linear.

    values: float8_e4m3fn; or not rounded yet, where `scales` is None; or times their scales again  # [T, K]
    scales: those of a group next to each other in memory: float32 [T, groups]
    dtype: of what the linear gives.
    norm, eps: that come before the rounding, where it is still to be done.
    """

    values: Tensor
    scales: Tensor | None
    dtype: torch.dtype
    norm: Tensor | None = None
    eps: float = 0.0


def takes(x: Tensor, weight: QuantizedWeight) -> bool:
    """Whether there are kernels for these where they are."""
    ins = weight.shape[1]
    return (
        len(x) > 0
        and x.dtype in DTYPES
        and weight.values.dtype == FP8
        and x.is_contiguous()
        and weight.is_contiguous()
        and (weight.columns == GROUP or weight.columns >= ins)
        and (weight.group == GROUP or weight.group >= ins)
        and _converts(x.device)
    )


@cache
def _converts(device: torch.device) -> bool:
    if triton.knobs.runtime.interpret:
        return True
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= _CAPABILITY


def inputs(
    x: Tensor, weight: QuantizedWeight, norm: Tensor | None = None, eps: float = 0.0, *, gated: bool = False, use: Few | None = None
) -> Rounded:  # fmt: skip
    """Inputs as the linear of those weights takes them, after a norm where there is one.  # [T, K]"""
    use = use or _in_registers(len(x), weight, gated=gated)
    if use is not None and use.rounds:
        return Rounded(x, None, x.dtype, norm, eps)
    return rounded(x, weight.group, norm, eps, back=dense(len(x), weight, x.dtype) and not by_blocks(len(x), weight, x.dtype))  # fmt: skip


def dense(tokens: int, weight: QuantizedWeight, dtype: torch.dtype) -> bool:
    """Whether so many tokens are cuBLAS's. A vocabulary is never made wide: that would take its size in memory."""
    return tokens > BLOCKS if by_blocks(tokens, weight, dtype) else tokens > WIDE and weight.shape[0] < VOCABULARY


def gates(tokens: int, weight: QuantizedWeight, dtype: torch.dtype) -> bool:
    """Whether so few tokens are gated in the linear's kernel."""
    return tokens <= GATED and not dense(tokens, weight, dtype)


def rounded(x: Tensor, group: int, norm: Tensor | None = None, eps: float = 0.0, *, back: bool = False) -> Rounded:
    """Inputs rounded, after a norm where there is one; `back`: times their scales again.  # [T, K]"""
    tokens, ins = x.shape
    by_group = group < ins
    groups = -(-ins // group)
    width = max(triton.next_power_of_2(ins), GROUP)
    if norm is None and by_group:
        width = min(width, 8 * GROUP)
    values = torch.empty(tokens, ins, dtype=x.dtype if back else FP8, device=x.device)
    scales = torch.empty(groups, tokens, dtype=torch.float32, device=x.device)
    round_inputs[(tokens, triton.cdiv(ins, width))](
        x, norm, values, scales, ins, groups, tokens, eps,
        width=width, by_group=by_group, normed=norm is not None, back=back, early=tokens <= EARLY,
        num_warps=max(1, min(16, width // 256)), **overlap(x.device),
    )  # fmt: skip
    return Rounded(values, scales.t(), x.dtype)


def linear(
    x: Rounded, weight: QuantizedWeight, bias: Tensor | None = None, *, residual: Tensor | None = None,
    config: AnyTile | None = None,
) -> Tensor:  # fmt: skip
    """x @ weight.T + bias or residual, rounded once where tokens are few.  # [T, K], [N, K] -> [T, N]"""
    assert bias is None or residual is None
    if config is None and dense(len(x.values), weight, x.dtype):
        return multiplied(x, weight, bias, residual)
    if residual is not None:
        return _run(x, weight, residual.contiguous(), plain.RESIDUAL, config=config)[0]
    return _run(x, weight, bias, plain.NOTHING if bias is None else plain.BIAS, config=config)[0]


def gated(
    x: Rounded, gate_up: QuantizedWeight, activation: Activation = SILU, *, group: int = 0, config: AnyTile | None = None
) -> tuple[Tensor, Rounded | None]:  # fmt: skip
    """activation(gate) * up, rounded once.

    Args:
        x: [T, K]
        gate_up: gate's rows, then up's  # [2 N, K]
        activation: of the gate.
        group: of the linear that follows.
        config: instead of the table's.

    Returns:
        [T, N]; and that as the linear that follows takes it, where tiles are as large as its groups
    """
    return _run(x, gate_up, None, plain.NOTHING, activation, group, config=config)


def _in_registers(tokens: int, weight: QuantizedWeight, *, gated: bool) -> Few | None:
    """How so few tokens are multiplied in registers; None: they are not."""
    if not linear_configs.in_registers(tokens, weight.values.nbytes):
        return None
    outs = weight.shape[0] // (1 + gated)
    use = few(tokens, outs, weight.shape[1], gated=gated)
    return use if weight.scales.shape[1] == 1 or _shares(weight.rows, use.block_n, outs, gated=gated) else None


def _run(
    x: Rounded, weight: QuantizedWeight, extra: Tensor | None, kind: int, gate: Activation | None = None, group: int = 0,
    *, config: AnyTile | None = None,
) -> tuple[Tensor, Rounded | None]:  # fmt: skip
    tokens, ins = x.values.shape
    device, gated = x.values.device, gate is not None
    outs = weight.shape[0] // 2 if gated else weight.shape[0]
    rows, columns = weight.rows, weight.scales.shape[1]
    out = torch.empty(tokens, outs, dtype=x.dtype, device=device)
    flags: dict[str, Any] = {
        "by_group": columns > 1,
        "x_by_group": weight.group < ins,
        "gated": gated,
        "kind": kind,
        "activation": CODES[gate.name] if gate else 0,
        **overlap(device),
    }
    sizes = outs, ins, columns, rows, 1 if x.scales is None else x.scales.stride(1)
    use = config if isinstance(config, Few) else None if config else _in_registers(tokens, weight, gated=gated)
    if use is not None:
        block_k = 1 << (ins.bit_length() - 1)
        rest = ins - block_k
        tail = triton.next_power_of_2(rest) if rest else 0
        in_registers[(triton.cdiv(outs, use.block_n),)](
            x.values, x.scales, x.norm, weight.values, weight.scales, extra, out, *sizes, x.eps,
            block_n=use.block_n, block_k=block_k, tail=tail, count=tokens,
            pieces=triton.cdiv(block_k, GROUP), tail_pieces=triton.cdiv(tail, GROUP),
            rounding=x.scales is None, normed=x.norm is not None, even_n=outs % use.block_n == 0,
            even_k=rest == tail, early=gated or kind == plain.RESIDUAL or weight.values.nbytes < _LONG, num_warps=use.warps, **flags,
        )  # fmt: skip
        return out, None
    assert x.scales is not None
    assert not isinstance(config, Few)
    if isinstance(config, w8a8_wgmma.Tile) or (config is None and w8a8_wgmma.takes(x, weight, gate)):
        out, values, few_scales = w8a8_wgmma.multiplied(x, weight, extra, kind, gated=gated, rounds=group == GROUP, tile=config)  # fmt: skip
        return out, None if values is None or few_scales is None else Rounded(values, few_scales.t(), x.dtype)
    tile = config or configured(tokens, outs, ins, gated=gated, rounds=group == GROUP)
    times = triton.cdiv(tokens, tile.block_t)
    tiles = triton.cdiv(outs, tile.block_n) * times
    cells = tiles * tile.split * tile.block_n * tile.block_t * (1 + gated)
    assert tile.split == 1 or (tiles <= plain.TILES and cells <= SCRATCH)
    even_k = ins % (GROUP * tile.split) == 0
    steps = triton.cdiv(ins, GROUP * tile.split)
    ahead = min(tile.ahead, steps) if even_k and _has_room(device) else 0
    partial, counters = plain.scratch_of(device) if tile.split > 1 else (None, None)
    following = None
    if gated and group == GROUP == tile.block_n and outs % GROUP == 0:
        scales = torch.empty(outs // GROUP, tokens, dtype=torch.float32, device=device)
        following = Rounded(torch.empty(tokens, outs, dtype=FP8, device=device), scales.t(), x.dtype)

    def run(stages: int) -> None:
        on_tensor_cores[(tiles, tile.split)](
            x.values, x.scales, weight.values, weight.scales, extra, out,
            following and following.values, following and following.scales, partial, counters, tokens, *sizes,
            block_n=tile.block_n, block_t=tile.block_t, split=tile.split,
            many=times > 1, shared=_shares(rows, tile.block_n, outs, gated=gated),
            rounds=following is not None, even_n=outs % tile.block_n == 0, even_k=even_k,
            early=tile.early, ahead=ahead, alone=ahead == steps, num_warps=tile.warps, num_stages=stages, **flags,
        )  # fmt: skip

    with_stages(("w8a8", tile, gated, following is not None, x.dtype, device), tile.stages, run)
    return out, following


@cache
def _has_room(device: torch.device) -> bool:
    """Whether weights that are asked for ahead fit beside those on their way."""
    if device.type != "cuda":
        return True
    return torch.cuda.get_device_capability(device)[0] in _ROOMY


def _shares(rows: int, block_n: int, outs: int, *, gated: bool) -> bool:
    """Whether the outputs of each tile share scales, those of gates and ups each."""
    return rows % block_n == 0 and not (gated and outs % rows)
