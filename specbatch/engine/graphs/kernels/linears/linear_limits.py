"""Which linears the kernels of few tokens take, and from where on cuBLAS is faster."""

from __future__ import annotations

from torch import Tensor

from specbatch.engine.graphs.describe.triton_operations import known
from specbatch.engine.graphs.kernels.linears.linear_configs import in_registers
from specbatch.engine.quantization.weight import QuantizedWeight, Weight

# Where cuBLAS takes over, by bytes of a value (benchmarks/README.md): float32 has no tensor cores to feed. Very wide outputs and
# gates, whose product is folded in, gain for longer.
_FEW = {2: 16, 4: 8}
_FEW_FUNNEL = {2: 64, 4: 8}  # outputs too few to occupy the GPU, whose many inputs several programs share
_FEW_WIDE = {2: 64, 4: 8}
_FEW_GATED = {2: 32, 4: 8}
_FUNNEL = 2048  # outputs
VOCABULARY = 65536  # outputs: a vocabulary
# Quantized weights are made as wide as the tokens beyond that; a vocabulary's never: that would take its size in memory.
_FEW_QUANTIZED = 256
AHEAD = {2: 16, 4: 8}  # tokens up to which a linear hands the norm on to the next, if both are skinny kernels


def folds(x: Tensor, weight: Weight) -> bool:
    """Whether every program works out the norm for itself."""
    values = weight.values if isinstance(weight, QuantizedWeight) else weight
    return in_registers(x.shape[0], values.nbytes) and few(x, weight)


def few(x: Tensor, weight: Weight, *, gated: bool = False) -> bool:
    """Whether the skinny kernels take these."""
    outs, ins = weight.shape
    if isinstance(weight, QuantizedWeight):
        return known(x, x) and x.is_contiguous() and len(x) > 0 and (len(x) <= _FEW_QUANTIZED or outs >= VOCABULARY)
    if not (known(x, weight) and x.is_contiguous() and weight.is_contiguous()):
        return False
    funnel = outs <= _FUNNEL and ins >= 2 * outs
    most = _FEW_GATED if gated else _FEW_WIDE if outs >= VOCABULARY else _FEW_FUNNEL if funnel else _FEW
    return 0 < len(x) <= most[x.element_size()]
