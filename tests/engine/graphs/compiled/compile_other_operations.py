"""What compile_for compiles of other layers, of mixtures of experts, and of FP8 weights and inputs."""

import torch

from specbatch.engine.fp8.kv import SCALE
from specbatch.engine.fp8.w8a8 import FP8
from specbatch.engine.graphs import triton_ops
from specbatch.engine.graphs.cascade.tiles import ROWS, PrefixTiles, most_tiles
from specbatch.engine.graphs.describe.description import PLAIN, SILU, Activation, AttentionKind, Routing
from specbatch.engine.graphs.kv.paging import PAGE, Pages, Tiles
from specbatch.engine.graphs.linears import w8a8_ops
from specbatch.engine.quantization.weight import QuantizedWeight
from tests.engine.graphs.compiled.compile_operations import POSITIONS, SLOTS, VOCABULARY, tensor

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


def of_fp8_pages(dtype):
    """What touches pages, these in FP8: of Qwen3 8B, and of heads half as wide with a window."""
    ops, eps = triton_ops.TritonOps(), 1e-6

    def real(*shape):
        return tensor(*shape, dtype=dtype)

    def whole(*shape):
        return tensor(*shape, dtype=torch.int64)

    for heads, kv_heads, width, kind in ((32, 8, 128, PLAIN), (14, 2, 64, AttentionKind(window=4096))):
        kv = [tensor(64, kv_heads, PAGE, width, dtype=FP8)]
        scales = [tensor(64, kv_heads, PAGE, dtype=SCALE)]
        pages = Pages(kv, kv, tensor(SLOTS + 1, 64, dtype=torch.int32), None, scales, scales)
        rope, qkv, norm = tensor(POSITIONS, width, dtype=torch.float32), (heads + 2 * kv_heads) * width, real(width)
        for rows, n in ((1, 1), (32, 4), (512, 1), (8, 17)):
            at = (pages, 0, whole(rows), whole(rows))
            yield lambda at=at, rows=rows, n=n, heads=heads, width=width, kind=kind: ops.attend_rows(real(rows, n, heads, width), *at, 0.1, kind)  # fmt: skip
            yield lambda at=at, rows=rows, n=n, rope=rope, qkv=qkv, norm=norm, kind=kind: ops.rope_attend(
                real(rows * n, qkv), norm, norm, eps, rope, *at, whole(rows * n), whole(rows * n), 0.1, kind
            )  # fmt: skip
            tiles = PrefixTiles(tensor(most_tiles(rows), 2 + ROWS, dtype=torch.int32), tensor(rows, dtype=torch.int32))
            yield lambda at=at, rows=rows, n=n, heads=heads, width=width, tiles=tiles: ops.attend_cascade(real(rows, n, heads, width), *at, tiles, 0.1)  # fmt: skip
        for n in (1, 1024):
            yield lambda n=n, pages=pages, rope=rope, qkv=qkv, norm=norm: ops.rope_write(real(n, qkv), norm, norm, eps, rope, pages, 0, whole(n), whole(n))  # fmt: skip
        packed = pages, 0, Tiles(tensor(20, 4, dtype=torch.int32)), 0.1, kind
        yield lambda packed=packed, heads=heads, width=width: ops.attend_packed(real(1024, heads, width), *packed)


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
                real(n, hidden), norm, eps, router, bias, routing, tensor(n, dtype=torch.int64), SLOTS
            )  # fmt: skip
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

    narrow = hidden // 2  # whose two tokens are multiplied in registers
    for weights in (blocks, channels):
        yield lambda weights=weights: ops.norm_linear(real(2, narrow), real(narrow), 1e-6, weights(narrow, narrow))
        yield lambda weights=weights: ops.linear_add(real(2, narrow), weights(narrow, narrow), real(2, narrow))
        for n in (1, 16, 64, 128, 1024):
            yield lambda n=n, weights=weights: ops.norm_linear(
                real(n, hidden), real(hidden), 1e-6, weights(qkv, hidden)
            )
            yield lambda n=n, weights=weights: ops.linear_add(real(n, hidden), weights(hidden, hidden), real(n, hidden))
            yield lambda n=n, weights=weights: ops.norm_gated(
                real(n, hidden), real(hidden), 1e-6, weights(2 * inner, hidden), following=weights(hidden, inner)
            )
            yield lambda n=n, weights=weights: ops.linear_add(real(n, inner), weights(hidden, inner), real(n, hidden))
