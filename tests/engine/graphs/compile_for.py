"""Compiles every kernel of the fast path for a GPU that is not here: python -m tests.engine.graphs.compile_for 89 bfloat16 [others | quantized | experts]

Prints as JSON the shared memory that each kernel takes, and what does not fit. Without Triton's interpreter: a process of its own.
"""

import json
import sys
import tempfile

import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.errors import OutOfResources
from triton.runtime.jit import JITFunction

from specbatch.engine.counter_rng import Purpose
from specbatch.engine.fp8.w8a8 import FP8
from specbatch.engine.graphs import triton_ops
from specbatch.engine.graphs.cascade.tiles import ROWS, PrefixTiles, most_tiles
from specbatch.engine.graphs.describe import triton_operations
from specbatch.engine.graphs.describe.description import PLAIN, SILU, Activation, AttentionKind, Routing
from specbatch.engine.graphs.experts import triton_operations as experts_operations
from specbatch.engine.graphs.kernels import (
    activations,
    attention,
    bookkeeping,
    elementwise,
    filtered_sampling,
    norms,
    prefill_attention,
    rope_attention,
    sampling,
)
from specbatch.engine.graphs.kernels.experts import few, grouping, many, routing
from specbatch.engine.graphs.kernels.linears import linear, linear_limits
from specbatch.engine.graphs.kv.paging import PAGE, Pages, Tiles
from specbatch.engine.graphs.linears import w8a8, w8a8_ops
from specbatch.engine.logits.options import LONGEST_BAD_WORD, MOST_BAD_WORDS, MOST_BIASED, Processor
from specbatch.engine.logits.processors import RowOptions
from specbatch.engine.quantization import QuantizedWeight
from tests.engine.graphs.compile_stages import Stages

SHARED = {
    75: 64,
    80: 163,
    86: 99,
    89: 99,
    90: 227,
    100: 227,
    120: 99,
}  # KiB that a program may have, by compute capability
VOCABULARY, POSITIONS, SLOTS = 151936, 4096, 512
MODELS = [(4096, 32, 8, 12288, 128, False), (896, 14, 2, 4864, 64, True), (1536, 12, 2, 8960, 128, True)]
"""Hidden size, heads, kv heads, intermediate size, width of a head, whether q, k, v have biases: Qwen3 8B, Qwen2.5 0.5B and 1.5B."""


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
        norms,
        prefill_attention,
        sampling,
        w8a8,
    ):
        module.overlap = lambda device: options
    attention.multiprocessors = lambda device: 132
    routing._arrivals = lambda device: tensor(routing.SCORED, dtype=torch.int32)
    attention.arrivals_of = lambda device: tensor(attention.ARRIVALS, dtype=torch.int32)
    linear.scratch_of = lambda device: (
        tensor(linear.SCRATCH, dtype=torch.float32),
        tensor(linear.TILES, dtype=torch.int32),
    )
    w8a8._converts = lambda device: True
    linear.native = lambda device: capability // 10
    for module in (triton_ops, triton_operations, experts_operations, linear_limits):
        module.known = lambda x, other: x.dtype in triton_operations.DTYPES and x.dtype == other.dtype
    return compiled


def tensor(*shape, dtype):
    return torch.empty(*shape, dtype=dtype, device="meta")


def every_operation(dtype, hidden, heads, kv_heads, inner, width, biased):
    """Calls each operation at every number of tokens where its kernel may differ; gives them one by one."""
    ops, eps = triton_ops.TritonOps(), 1e-6

    def real(*shape):
        return tensor(*shape, dtype=dtype)

    def whole(*shape):
        return tensor(*shape, dtype=torch.int64)

    def ahead(n):
        residual, o = real(n, hidden), real(hidden, heads * width)
        return ops.linear_add_ahead(real(n, heads * width), o, residual, norm, real(2 * inner, hidden))[1]

    pages = Pages(
        [real(64, kv_heads, PAGE, width)], [real(64, kv_heads, PAGE, width)], tensor(SLOTS + 1, 64, dtype=torch.int32)
    )
    rope = tensor(POSITIONS, width, dtype=torch.float32)
    qkv, norm = (heads + 2 * kv_heads) * width, real(hidden)
    bias = real(qkv) if biased else None
    for n in (1, 2, 16, 32, 64):
        yield lambda n=n: ops.norm_linear(real(n, hidden), norm, eps, real(qkv, hidden), bias)
        yield lambda n=n: ops.linear_add(real(n, heads * width), real(hidden, heads * width), real(n, hidden))
        yield lambda n=n: ops.norm_gated(real(n, hidden), norm, eps, real(2 * inner, hidden))
        yield lambda n=n: ops.linear_add(real(n, inner), real(hidden, inner), real(n, hidden))
        yield lambda n=n: ops.norm_linear(real(n, hidden), norm, eps, real(VOCABULARY, hidden))
        yield lambda n=n: ops.embed(whole(n), real(VOCABULARY, hidden))
        for weight in (None, real(width)):
            yield lambda n=n, weight=weight: ops.rope_write(
                real(n, qkv), weight, weight, eps, rope, pages, 0, whole(n), whole(n)
            )
    for n in (2, 16):
        yield lambda n=n: ops.norm_linear(
            real(n, hidden), norm, eps, real(qkv, hidden), bias, ahead(n), real(hidden, hidden)
        )
        yield lambda n=n: ops.norm_gated(
            real(n, hidden), norm, eps, real(2 * inner, hidden), ahead(n), real(hidden, inner)
        )
    for rows, n in ((1, 1), (1, 4), (32, 4), (512, 1), (8, 9), (2, 17)):
        yield lambda rows=rows, n=n: ops.attend_rows(
            real(rows, n, heads, width), pages, 0, whole(rows), whole(rows), 0.1
        )
        tiles = PrefixTiles(tensor(most_tiles(rows), 2 + ROWS, dtype=torch.int32), tensor(rows, dtype=torch.int32))
        yield lambda rows=rows, n=n, tiles=tiles: ops.attend_cascade(
            real(rows, n, heads, width), pages, 0, whole(rows), whole(rows), tiles, 0.1
        )
        for weight in (None, real(width)):
            yield lambda rows=rows, n=n, weight=weight: ops.rope_attend(
                real(rows * n, qkv), weight, weight, eps, rope, pages, 0, whole(rows), whole(rows), whole(rows * n), whole(rows * n), 0.1,
            )  # fmt: skip
    yield from of_a_head(ops, dtype, hidden, qkv)
    yield lambda: ops.attend_packed(real(1024, heads, width), pages, 0, Tiles(tensor(20, 4, dtype=torch.int32)), 0.1)
    logits, temperature = real(32, VOCABULARY), tensor(32, dtype=torch.float32)
    yield lambda: ops.sample(logits, None, None)
    yield lambda: ops.sample(logits, whole(32), temperature)
    yield lambda: ops.sample_filtered(logits, whole(32), temperature, whole(32), temperature)
    yield lambda: ops.position_keys(whole(8), whole(8, 4), Purpose.TOKEN)
    for count in (16, 64):
        yield lambda count=count: ops.top_candidates(logits, count)
    history, state = whole(SLOTS + 1, POSITIONS), whole(SLOTS + 1)
    yield from of_row_options(ops, logits, history, state)
    yield lambda: ops.next_tokens(history, state, whole(8), 2, 1, None)
    yield lambda: ops.next_tokens(history, state, whole(8), 1, 0, whole(1))
    yield lambda: ops.keep_drafts(history, whole(8), whole(16), whole(8), whole(1), anew=True)
    finite = tensor(8, 4, dtype=torch.bool)
    yield lambda: ops.commit_coupled(history, state, state, whole(8), whole(8, 4), finite, None, whole(8, 7))


def of_row_options(ops, logits, history, state):
    """What rows do that ask for more than a temperature."""

    def whole(*shape):
        return tensor(*shape, dtype=torch.int64)

    bias = SLOTS + 1, MOST_BIASED
    options = RowOptions(
        tensor(SLOTS + 1, 4, dtype=torch.float32), state, whole(*bias), whole(*bias), tensor(*bias, dtype=torch.float32),
        whole(SLOTS + 1, MOST_BAD_WORDS, LONGEST_BAD_WORD), whole(SLOTS + 1, 2),
    )  # fmt: skip
    temperature, mask = tensor(SLOTS + 1, dtype=torch.float32), tensor(8, 9, 4748, dtype=torch.int32)
    yield lambda: ops.logprobs(logits, whole(32))
    every = Processor(2 * Processor.LOGPROBS - 1)
    for n, asked in ((1, Processor.REPETITION), (1, Processor.MIN_P), (4, Processor.NGRAMS), (4, every)):
        yield lambda n=n, asked=asked: ops.process_logits(
            logits.view(8, 4, -1)[:, :n], options, asked, history, whole(8), whole(8, n), state, temperature, mask[:, :n]
        )  # fmt: skip


def of_a_head(ops, dtype, hidden, qkv):
    """What an EAGLE-3 head of a target's size does otherwise."""

    def real(*shape):
        return tensor(*shape, dtype=dtype)

    def whole(*shape):
        return tensor(*shape, dtype=torch.int64)

    for n in (1, 2, 16):
        yield lambda n=n: ops.linear(real(n, 3 * hidden), real(hidden, 3 * hidden))
        yield lambda n=n: ops.linear(real(n, 2 * hidden), real(qkv, 2 * hidden))
        yield lambda n=n: ops.norm_linear(real(n, hidden), real(hidden), 1e-6, real(32_000, hidden))
        yield lambda n=n: ops.embed(whole(n), whole(32_000, 1))
    history, rows = whole(SLOTS + 1, POSITIONS)[:, 1:], whole(8)
    yield lambda: ops.next_tokens(history, whole(SLOTS + 1), rows, 1, 1, whole(1))
    yield lambda: ops.keep_drafts(history, rows, rows, rows, whole(1), anew=False)


# Hidden size, heads, kv heads, intermediate size, width of a head, kind of attention, activation, norms of heads: one for each kernel's other constants.
GELU = Activation("gelu_tanh")
OTHERS = {
    "Gemma 2 9B": (3584, 16, 8, 14336, 256, AttentionKind(window=4096, softcap=50.0), GELU, None),
    "OLMo 3 7B": (4096, 32, 32, 11008, 128, AttentionKind(window=4096), SILU, "all"),
    "GLM-4 9B": (4096, 32, 2, 13696, 128, AttentionKind(rotated=64, interleaved=True), SILU, None),
    "Phi-4 mini": (3072, 24, 8, 8192, 128, AttentionKind(rotated=96), SILU, None),
    "Apertus 8B": (4096, 32, 8, 21504, 128, PLAIN, Activation("xielu", (0.8, 0.8, 0.5, -1e-6)), "each"),
}


def other_layers(dtype, hidden, heads, kv_heads, inner, width, kind, activation, normed):
    """The operations of layers that are not built like Llama's, with norms in float32."""
    ops, eps, norm = triton_ops.TritonOps(), 1e-6, tensor(hidden, dtype=torch.float32)

    def real(*shape):
        return tensor(*shape, dtype=dtype)

    def whole(*shape):
        return tensor(*shape, dtype=torch.int64)

    def norms():
        shapes = {None: (), "each": (width, width), "all": (heads * width, kv_heads * width)}[normed]
        return [tensor(size, dtype=torch.float32) for size in shapes] or [None, None]

    pages = Pages([real(64, kv_heads, PAGE, width)], [real(64, kv_heads, PAGE, width)], tensor(SLOTS + 1, 64, dtype=torch.int32))  # fmt: skip
    rope, qkv = tensor(POSITIONS, width, dtype=torch.float32), (heads + 2 * kv_heads) * width
    for n in (1, 16):
        yield lambda n=n: ops.norm_linear(real(n, hidden), norm, eps, real(qkv, hidden))
        yield lambda n=n: ops.norm_add(real(n, hidden), norm, eps, real(n, hidden))
        yield lambda n=n: ops.norm_add_ahead(real(n, hidden), norm, eps, real(n, hidden), norm, eps)
        if activation.name == "xielu":
            yield lambda n=n: ops.activate(ops.norm_linear(real(n, hidden), norm, eps, real(inner, hidden)), activation)
        else:
            yield lambda n=n: ops.norm_gated(real(n, hidden), norm, eps, real(2 * inner, hidden), activation=activation)
            yield lambda n=n: ops.norm_gated(real(n, hidden), None, eps, real(2 * inner, hidden), activation=activation)
    for rows, n in ((1, 1), (32, 4), (8, 9)):
        at = whole(rows), whole(rows), whole(rows * n), whole(rows * n)
        yield lambda rows=rows, n=n, at=at: ops.rope_attend(real(rows * n, qkv), *norms(), eps, rope, pages, 0, *at, 0.1, kind)  # fmt: skip
    yield lambda: ops.rope_write(real(1024, qkv), *norms(), eps, rope, pages, 0, whole(1024), whole(1024), kind)
    tiles = Tiles(tensor(20, 4, dtype=torch.int32))
    yield lambda: ops.attend_packed(real(1024, heads, width), pages, 0, tiles, 0.1, kind)
    yield lambda: ops.softcap(real(32, VOCABULARY), 30.0)


def of_quantized_weights(dtype, hidden=2048, qkv=4096, inner=6144):
    """The linears of a quantized drafter, Qwen3 1.7B, at every number of tokens where their kernels differ."""
    ops, norm = triton_ops.TritonOps(), tensor(hidden, dtype=dtype)

    def real(*shape):
        return tensor(*shape, dtype=dtype)

    def eight_bits(kind):
        return lambda outs, ins: QuantizedWeight(tensor(outs, ins, dtype=kind), tensor(outs, 1, dtype=torch.float32))

    def four_bits(outs, ins):
        return QuantizedWeight(tensor(outs, ins // 2, dtype=torch.uint8), tensor(outs, ins // 32, dtype=torch.bfloat16))

    for made, counts in (
        (eight_bits(torch.int8), (1, 16, 128)),
        (four_bits, (1, 32)),
        (eight_bits(FP8), (1, 16)),
    ):
        for n in counts:
            yield lambda n=n, made=made: ops.norm_linear(real(n, hidden), norm, 1e-6, made(qkv, hidden))
            yield lambda n=n, made=made: ops.norm_gated(real(n, hidden), norm, 1e-6, made(2 * inner, hidden))
            yield lambda n=n, made=made: ops.linear_add(real(n, inner), made(hidden, inner), real(n, hidden))
    yield lambda: ops.norm_linear(real(512, hidden), norm, 1e-6, eight_bits(torch.int8)(VOCABULARY, hidden))


# Hidden size, intermediate size of an expert, routing, whether a bias chooses.
MIXTURES = {
    "Qwen3 30B-A3B": (2048, 768, Routing(128, 8, normed=True), False),
    "Mixtral 8x7B": (4096, 14336, Routing(8, 2, normed=True), False),
    "GLM-4.5 Air": (4096, 1408, Routing(128, 8, "sigmoid", normed=True), True),
    "dots.llm1": (4096, 1408, Routing(128, 6, "sigmoid", 8, 4, normed=True, scale=2.5), True),
    "OLMoE 1B-7B": (2048, 1024, Routing(64, 8), False),
}


def mixtures(dtype, hidden, inner, routing, biased):
    """The operations of mixtures of experts, and what hands a norm on behind them."""
    ops, eps, count = triton_ops.TritonOps(), 1e-6, routing.experts

    def real(*shape, dtype=dtype):
        return tensor(*shape, dtype=dtype)

    norm, bias = real(hidden), real(count, dtype=torch.float32) if biased else None
    for n in (1, 16, 17):
        for router in (real(count, hidden), real(count + 1, hidden, dtype=torch.float32)):
            yield lambda n=n, router=router: ops.route(
                real(n, hidden),
                norm,
                eps,
                router,
                bias,
                routing,
                tensor(n, dtype=torch.int64),
                SLOTS,
                real(hidden, hidden),
            )
    yield lambda: ops.norm_linear(real(1, hidden), norm, eps, real(hidden, hidden), following=real(hidden, hidden))
    weights = real(count, 2 * inner, hidden), real(count, hidden, inner)
    for n in (1, 4, 5, 32, 128, 512, 2048):
        routed = real(n, routing.per_token, dtype=torch.float32), tensor(n, routing.per_token, dtype=torch.int32)
        for following in (None, norm):
            yield lambda n=n, routed=routed, following=following: ops.experts(
                real(n, hidden), routed, *weights, SILU, real(n, hidden), following, eps
            )


def of_fp8(dtype):
    """Linears of FP8 weights and inputs, in blocks or by output and token, at every number of tokens where the kernel differs."""
    ops, hidden, inner, qkv = w8a8_ops.W8A8Ops(), 4096, 12288, 6144

    def real(*shape):
        return tensor(*shape, dtype=dtype)

    def blocks(outs, ins):
        return QuantizedWeight(tensor(outs, ins, dtype=FP8), tensor(outs // 128, ins // 128, dtype=torch.float32), 128, 128, 128)  # fmt: skip

    def channels(outs, ins):
        return QuantizedWeight(tensor(outs, ins, dtype=FP8), tensor(outs, 1, dtype=torch.float32), 1, ins, ins)

    for weights in (blocks, channels):
        for n in (1, 2, 16, 32, 64, 128, 1024):
            yield lambda n=n, weights=weights: ops.norm_linear(
                real(n, hidden), real(hidden), 1e-6, weights(qkv, hidden)
            )
            yield lambda n=n, weights=weights: ops.linear_add(real(n, hidden), weights(hidden, hidden), real(n, hidden))
            yield lambda n=n, weights=weights: ops.norm_gated(
                real(n, hidden), real(hidden), 1e-6, weights(2 * inner, hidden)
            )
            yield lambda n=n, weights=weights: ops.linear_add(real(n, inner), weights(hidden, inner), real(n, hidden))


def main():
    capability, dtype = int(sys.argv[1]), getattr(torch, sys.argv[2])
    compiled, refused = compile_only(capability), []
    models = MODELS if capability <= 90 and dtype == torch.bfloat16 else MODELS[:2]  # of both widths of heads
    if sys.argv[3:] == ["others"]:
        operations = [operation for model in OTHERS.values() for operation in other_layers(dtype, *model)]
    elif sys.argv[3:] == ["fp8"]:
        operations = list(of_fp8(dtype))
    elif sys.argv[3:] == ["quantized"]:
        operations = list(of_quantized_weights(dtype))
    elif sys.argv[3:] == ["experts"]:
        operations = [operation for model in MIXTURES.values() for operation in mixtures(dtype, *model)]
    else:
        operations = [operation for model in models for operation in every_operation(dtype, *model)]
    for operation in operations:
        try:
            operation()
        except OutOfResources as error:
            refused.append(str(error))
    json.dump({"compiled": compiled, "refused": refused}, sys.stdout)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as cache:
        Stages(cache)
        main()
