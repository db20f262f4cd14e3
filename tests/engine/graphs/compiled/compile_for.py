"""Compiles every kernel of the fast path for a GPU that is not here: python -m tests.engine.graphs.compiled.compile_for 89 bfloat16 llama others ...

Prints as JSON, by group of operations, the shared memory that each kernel takes, and what does not fit. Without Triton's interpreter: a process of its own.
"""

import json
import os
import sys
import tempfile

import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.errors import OutOfResources
from triton.runtime.jit import JITFunction

from specbatch.engine.fp8.w8a8 import FP8
from specbatch.engine.graphs import triton_ops
from specbatch.engine.graphs.describe import triton_operations
from specbatch.engine.graphs.experts import triton_operations as experts_operations
from specbatch.engine.graphs.kernels import (
    activations,
    attention,
    bookkeeping,
    elementwise,
    filtered_sampling,
    norms,
    over_pages,
    prefill_attention,
    rope_attention,
    sampling,
)
from specbatch.engine.graphs.kernels.experts import few, grouping, many, routing
from specbatch.engine.graphs.kernels.linears import linear, linear_dense, linear_limits, wgmma
from specbatch.engine.graphs.linears import w8a8, w8a8_dense, w8a8_wgmma
from specbatch.engine.quantization.weight import QuantizedWeight
from tests.engine.graphs.compiled.compile_operations import MODELS, VOCABULARY, every_operation, tensor
from tests.engine.graphs.compiled.compile_other_operations import (
    MIXTURES,
    OTHERS,
    mixtures,
    of_fp8,
    of_fp8_pages,
    other_layers,
)
from tests.engine.graphs.compiled.compile_stages import Stages

SHARED = {
    75: 64,
    80: 163,
    86: 99,
    89: 99,
    90: 227,
    100: 227,
    120: 99,
}  # KiB that a program may have, by compute capability


class Driver:
    """A GPU of some compute capability, of which nothing but that is asked."""

    def __init__(self, capability):
        self.target = GPUTarget("cuda", capability, 32)

    def get_current_device(self):
        return 0

    def get_current_target(self):
        return self.target

    def get_current_stream(self, device):
        return 0


def compile_only(capability):
    """Makes launches compile, and refuse what the GPU would; returns what was compiled: kernel -> shared memory."""
    driver.set_active(Driver(capability))
    run, compiled = JITFunction.run, {}

    def compiling(self, *args, grid, warmup, **kwargs):
        kernel = run(self, *args, grid=grid, warmup=True, **kwargs)
        if kernel.metadata.shared > SHARED[capability] << 10:
            raise OutOfResources(kernel.metadata.shared, SHARED[capability] << 10, "shared memory")
        compiled[self.__name__] = max(kernel.metadata.shared, compiled.get(self.__name__, 0))

    JITFunction.run = compiling
    options = {"overlapped": True, "launch_pdl": True} if capability >= 90 else {"overlapped": False}
    for module in (
        activations,
        attention,
        bookkeeping,
        elementwise,
        few,
        many,
        filtered_sampling,
        grouping,
        rope_attention,
        routing,
        linear,
        linear_dense,
        norms,
        prefill_attention,
        sampling,
        w8a8,
        w8a8_dense,
        w8a8_wgmma,
        wgmma,
    ):
        module.overlap = lambda device: options
    attention.multiprocessors = lambda device: 132
    attention.arrivals_of = lambda device: tensor(attention.ARRIVALS, dtype=torch.int32)
    linear.scratch_of = lambda device: (
        tensor(linear.SCRATCH, dtype=torch.float32),
        tensor(linear.TILES, dtype=torch.int32),
    )
    wgmma.able = lambda device: capability == 90
    w8a8._converts = lambda device: True
    w8a8._has_room = lambda device: SHARED[capability] >= 200
    linear.native = linear_dense.native = over_pages.native = lambda device: capability // 10
    for module in (triton_operations, experts_operations, linear_limits):
        module.known = lambda x, other: x.dtype in triton_operations.DTYPES and x.dtype == other.dtype
    return compiled


def of_quantized_weights(dtype, hidden=2048, qkv=4096, inner=6144):
    """The linears of a quantized drafter, Qwen3 1.7B, at every number of tokens where their kernels differ."""
    ops, norm = triton_ops.TritonOps(), tensor(hidden, dtype=dtype)

    def real(*shape):
        return tensor(*shape, dtype=dtype)

    def eight_bits(kind):
        return lambda outs, ins: QuantizedWeight(tensor(outs, ins, dtype=kind), tensor(outs, 1, dtype=torch.float32))

    def four_bits(outs, ins):
        return QuantizedWeight(tensor(outs, ins // 2, dtype=torch.uint8), tensor(outs, ins // 32, dtype=torch.bfloat16))

    def of_checkpoint(outs, ins):
        return QuantizedWeight(tensor(outs, ins // 2, dtype=torch.uint8), real(outs, ins // 128, 2))

    for made, counts in (
        (eight_bits(torch.int8), (1, 16, 128)),
        (four_bits, (1, 32)),
        (of_checkpoint, (1, 32)),
        (eight_bits(FP8), (1, 16)),
    ):
        for n in counts:
            yield lambda n=n, made=made: ops.norm_linear(real(n, hidden), norm, 1e-6, made(qkv, hidden))
            yield lambda n=n, made=made: ops.norm_gated(real(n, hidden), norm, 1e-6, made(2 * inner, hidden))
            yield lambda n=n, made=made: ops.linear_add(real(n, inner), made(hidden, inner), real(n, hidden))
    yield lambda: ops.norm_linear(real(512, hidden), norm, 1e-6, eight_bits(torch.int8)(VOCABULARY, hidden))
    yield lambda: linear_dense.widened(of_checkpoint(hidden, inner), dtype)


GROUPS = {
    "llama": lambda dtype: [each for model in MODELS for each in every_operation(dtype, *model)],
    "the largest llama": lambda dtype: every_operation(dtype, *MODELS[0]),
    "others": lambda dtype: [each for model in OTHERS.values() for each in other_layers(dtype, *model)],
    "quantized": of_quantized_weights,
    "experts": lambda dtype: [each for model in MIXTURES.values() for each in mixtures(dtype, *model)],
    "fp8": of_fp8,
    "pages fp8kv": of_fp8_pages,
}


def main():
    capability, dtype = int(sys.argv[1]), getattr(torch, sys.argv[2])
    compiled, found = compile_only(capability), {}
    for group in sys.argv[3:]:
        compiled.clear()
        refused = []
        for operation in GROUPS[group](dtype):
            try:
                operation()
            except OutOfResources as error:
                refused.append(str(error))
        found[group] = {"compiled": dict(compiled), "refused": refused}
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir=os.environ.get("PYTEST_DEBUG_TEMPROOT")) as cache:
        Stages(cache)
        main()
