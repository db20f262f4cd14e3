"""Linears whose weights and inputs are FP8: what fp8/w8a8.py says, as kernels.

One rounds the inputs, after the norm where there is one. Of the others, for a token or two all weights of a program lie in its registers
before the inputs are there, as in kernels/linear_fma.py; up to 512 go to the tensor cores as FP8, and are summed in float32 every 128
products, since Hopper keeps few bits of sums of FP8 (tiles of few outputs are widened to 16 bits in front of them, which is exact); for
more, weights are made wide for cuBLAS, and rounded inputs, too.
"""

# mypy: disable-error-code="import-untyped"

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
import triton
from torch import Tensor

from specbatch.engine.fp8.w8a8 import FP8
from specbatch.engine.graphs.describe.description import SILU, Activation
from specbatch.engine.graphs.describe.triton_operations import DTYPES
from specbatch.engine.graphs.kernels.activations import CODES
from specbatch.engine.graphs.kernels.fitting import with_stages
from specbatch.engine.graphs.kernels.linears import linear as plain
from specbatch.engine.graphs.kernels.linears import linear_configs
from specbatch.engine.graphs.kernels.linears.linear_configs import MULTIPROCESSORS, SCRATCH
from specbatch.engine.graphs.kernels.linears.w8a8 import on_tensor_cores
from specbatch.engine.graphs.kernels.linears.w8a8_inputs import round_inputs, widen
from specbatch.engine.graphs.kernels.linears.w8a8_registers import in_registers
from specbatch.engine.graphs.kernels.overlap import overlap
from specbatch.engine.quantization import QuantizedWeight

GATED = 128  # tokens up to which gates are the linear's own: a tile takes no more
DENSE = 512  # from here on weights and inputs are made wide first, for cuBLAS: by the bytes of it; the kernel took twice as long as cuBLAS alone
GROUP = 128
EARLY = linear_configs.FMA_TOKENS  # tokens up to which the linear may start before its inputs are rounded
_CAPABILITY = (8, 9)  # that converts FP8


class Rounded(NamedTuple):
    """Inputs of a linear.

    values: float8_e4m3fn; or times their scales again, in the dtype of what the linear gives  # [T, K]
    scales: float32 [T, groups]
    dtype: of what the linear gives.
    """

    values: Tensor
    scales: Tensor
    dtype: torch.dtype


@dataclass(frozen=True, slots=True)
class Config:
    """Tile of block_n outputs and block_t tokens; stages of loads in flight; programs that share a tile's inputs."""

    block_n: int
    block_t: int
    warps: int
    stages: int
    split: int = 1

    @property
    def narrow(self) -> bool:
        """Whether the tensor cores get FP8: Hopper's take 64 outputs and more."""
        return self.block_n >= 64


# By padded tokens, and how many programs may share outputs that are too few: of Qwen3-8B on an H200, by benchmarks.peers.w8a8. Those below 32 were not measured.
_TILES = {
    8: (Config(16, 8, 2, 8), 4 * MULTIPROCESSORS),
    16: (Config(64, 16, 4, 6), 3 * MULTIPROCESSORS),
    32: (Config(64, 32, 4, 5), 3 * MULTIPROCESSORS),
    64: (Config(64, 64, 4, 5), 2 * MULTIPROCESSORS),
    128: (Config(64, 128, 4, 5), MULTIPROCESSORS),
}
_MOST = max(_TILES)  # tokens of a tile


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


def rounded(x: Tensor, group: int, norm: Tensor | None = None, eps: float = 0.0) -> Rounded:
    """Inputs as a linear of that group takes them, after a norm where there is one.  # [T, K]"""
    tokens, ins = x.shape
    by_group = group < ins
    groups = -(-ins // group)
    width = max(triton.next_power_of_2(ins), GROUP)
    if norm is None and by_group:
        width = min(width, 8 * GROUP)
    back = tokens > DENSE
    values = torch.empty(tokens, ins, dtype=x.dtype if back else FP8, device=x.device)
    scales = torch.empty(tokens, groups, dtype=torch.float32, device=x.device)
    round_inputs[(tokens, triton.cdiv(ins, width))](
        x, norm, values, scales, ins, groups, eps,
        width=width, by_group=by_group, normed=norm is not None, back=back, early=tokens <= EARLY,
        num_warps=max(1, min(16, width // 512)), **overlap(x.device),
    )  # fmt: skip
    return Rounded(values, scales, x.dtype)


def linear(
    x: Rounded, weight: QuantizedWeight, bias: Tensor | None = None, *, residual: Tensor | None = None, config: Config | None = None
) -> Tensor:  # fmt: skip
    """x @ weight.T + bias or residual, rounded once.  # [T, K], [N, K] -> [T, N]"""
    assert bias is None or residual is None
    if len(x.values) > DENSE:
        wide = widened(weight, x.dtype)
        return F.linear(x.values, wide, bias) if residual is None else residual.addmm_(x.values, wide.t())
    if residual is not None:
        return _run(x, weight, residual.contiguous(), plain.RESIDUAL, config=config)[0]
    return _run(x, weight, bias, plain.NOTHING if bias is None else plain.BIAS, config=config)[0]


def widened(weight: QuantizedWeight, dtype: torch.dtype) -> Tensor:
    """The weights in a dtype that cuBLAS multiplies; for the time of one product.  # [N, K]"""
    outs, ins = weight.shape
    columns, width = weight.scales.shape[1], min(1024, max(GROUP, triton.next_power_of_2(ins)))
    out = torch.empty(outs, ins, dtype=dtype, device=weight.device)
    widen[(outs, triton.cdiv(ins, width))](
        weight.values, weight.scales, out, ins, columns, weight.rows,
        width=width, by_group=columns > 1, num_warps=2, **overlap(weight.device),
    )  # fmt: skip
    return out


def gates(x: Rounded) -> bool:
    """Whether so few tokens are gated in the linear's kernel."""
    return len(x.values) <= GATED


def gated(
    x: Rounded, gate_up: QuantizedWeight, activation: Activation = SILU, *, group: int = 0, config: Config | None = None
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


def _run(
    x: Rounded, weight: QuantizedWeight, extra: Tensor | None, kind: int, gate: Activation | None = None, group: int = 0,
    *, config: Config | None = None,
) -> tuple[Tensor, Rounded | None]:  # fmt: skip
    tokens, ins = x.values.shape
    device, gated = x.values.device, gate is not None
    outs = weight.shape[0] // 2 if gated else weight.shape[0]
    rows, columns = weight.rows, weight.scales.shape[1]
    out = torch.empty(tokens, outs, dtype=x.dtype, device=device)
    flags: dict[str, Any] = {
        "by_group": columns > 1,
        "x_by_group": x.scales.shape[1] > 1,
        "gated": gated,
        "kind": kind,
        "activation": CODES[gate.name] if gate else 0,
        **overlap(device),
    }
    tensors = x.values, x.scales, weight.values, weight.scales, extra, out
    if config is None and linear_configs.in_registers(tokens, weight.values.nbytes):
        use = linear_configs.registers(tokens, outs, ins, 1, gated=gated)
        if columns == 1 or _shares(rows, use.block_n, outs, gated=gated):
            rest = ins - use.block_k
            tail = triton.next_power_of_2(rest) if rest else 0
            in_registers[(triton.cdiv(outs, use.block_n),)](
                *tensors, outs, ins, columns, rows,
                block_n=use.block_n, block_k=use.block_k, tail=tail, count=tokens,
                pieces=triton.cdiv(use.block_k, GROUP), tail_pieces=triton.cdiv(tail, GROUP), even_n=outs % use.block_n == 0,
                even_k=rest == tail, early=True, num_warps=use.warps, **flags,
            )  # fmt: skip
            return out, None
    tile = config or configured(tokens, outs, ins, gated=gated, rounds=group == GROUP)
    times = triton.cdiv(tokens, tile.block_t)
    tiles = triton.cdiv(outs, tile.block_n) * times
    cells = tiles * tile.split * tile.block_n * tile.block_t * (1 + gated)
    assert tile.split == 1 or (tiles <= plain.TILES and cells <= SCRATCH)
    partial, counters = plain.scratch_of(device) if tile.split > 1 else (None, None)
    following = None
    if gated and group == GROUP == tile.block_n and outs % GROUP == 0:
        scales = torch.empty(tokens, outs // GROUP, dtype=torch.float32, device=device)
        following = Rounded(torch.empty(tokens, outs, dtype=FP8, device=device), scales, x.dtype)

    def run(stages: int) -> None:
        on_tensor_cores[(tiles, tile.split)](
            *tensors, following and following.values, following and following.scales, partial, counters,
            tokens, outs, ins, columns, rows,
            block_n=tile.block_n, block_t=tile.block_t, split=tile.split,
            narrow=tile.narrow, many=times > 1, shared=_shares(rows, tile.block_n, outs, gated=gated),
            rounds=following is not None, even_n=outs % tile.block_n == 0, even_k=ins % (GROUP * tile.split) == 0,
            num_warps=tile.warps, num_stages=stages, **flags,
        )  # fmt: skip

    with_stages(("w8a8", tile, gated, following is not None, x.dtype, device), tile.stages, run)
    return out, following


def _shares(rows: int, block_n: int, outs: int, *, gated: bool) -> bool:
    """Whether the outputs of each tile share scales, those of gates and ups each."""
    return rows % block_n == 0 and not (gated and outs % rows)


def configured(tokens: int, outs: int, ins: int, *, gated: bool = False, rounds: bool = False) -> Config:
    """The tile for [tokens, ins] x [outs, ins]; `rounds`: of as many outputs as the next linear's groups have."""
    config, programs = _TILES[next((size for size in _TILES if tokens <= size), _MOST)]
    if gated and config.block_t == _MOST:
        config = replace(config, warps=8, stages=4)
    elif gated and rounds and config.narrow and outs % GROUP == 0:
        config = replace(config, block_n=GROUP, warps=8, stages=4 if config.block_t <= 32 else 5)
    tiles = -(-outs // config.block_n) * -(-tokens // config.block_t)
    cells = tiles * config.block_n * config.block_t * (1 + gated)
    fitting = (s for s in (4, 2) if ins % (GROUP * s) == 0 and tiles * s <= programs and cells * s <= SCRATCH)
    return replace(config, split=next(fitting, 1)) if tiles < MULTIPROCESSORS // (1 + gated) else config
