"""What is done between the linears: norms, rotation and the write to the pages, each in one pass over memory.

All round where the reference rounds: a normed value is rounded before the weight, to that one's dtype.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from specbatch.engine.graphs.describe.description import PLAIN, AttentionKind
from specbatch.engine.graphs.kernels.fp8_pages import rounded, scale_of, size_bits
from specbatch.engine.graphs.kernels.overlap import overlap
from specbatch.engine.graphs.kv.paging import PAGE, Pages

_FEW = 16  # tokens, up to which a program takes little, so that there are enough of them
_BLOCK = 2048  # elements that a program of 4 warps holds well: 16 bytes a load, two of them in flight


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Root mean square norm over the last dimension.  # [..., H], [H] -> [..., H]"""
    size = x.shape[-1]
    rows = x.reshape(-1, size)
    if rows.stride(1) != 1:
        rows = rows.contiguous()
    out = torch.empty(rows.shape, dtype=x.dtype, device=x.device)
    count = rows.shape[0]
    width = triton.next_power_of_2(size)
    height = 1 if count <= _FEW else max(1, _BLOCK // 2 // width)
    if count:
        _rms_norm[(triton.cdiv(count, height),)](
            rows,
            weight,
            out,
            count,
            rows.stride(0),
            eps,
            size,
            height,
            width,
            num_warps=_warps(height * width),
            **overlap(x.device),
        )
    return out.view(x.shape)


def rope_write(
    qkv: Tensor,
    q_norm: Tensor | None,
    k_norm: Tensor | None,
    eps: float,
    rope: Tensor,
    pages: Pages,
    layer: int,
    slots: Tensor,
    positions: Tensor,
    kind: AttentionKind = PLAIN,
) -> Tensor:
    """Norms (where given) and rotates queries and keys, and writes keys and values to the rows' pages.

    See TorchOps.rope_write.  # [T, (heads + 2 kv_heads) * D] -> queries [T, heads, D]
    """
    keys, values = pages.keys[layer], pages.values[layer]
    kv_heads, head_dim = keys.shape[1], keys.shape[3]
    count, heads = qkv.shape[0], qkv.shape[1] // head_dim - 2 * kv_heads
    assert keys.is_contiguous()
    assert values.is_contiguous()
    assert rope.is_contiguous()
    assert qkv.stride(1) == 1
    out = torch.empty((count, heads, head_dim), dtype=qkv.dtype, device=qkv.device)
    half = triton.next_power_of_2(head_dim // 2)
    height = min(4 if count <= _FEW else max(4, _BLOCK // 2 // half), triton.next_power_of_2(heads + 2 * kv_heads))
    normed = q_norm is not None and k_norm is not None
    if count:
        _rope_write[(count, triton.cdiv(heads + 2 * kv_heads, height))](
            qkv,
            q_norm if normed else qkv,
            k_norm if normed else qkv,
            rope,
            out,
            keys,
            values,
            *pages.scales(layer),
            pages.table,
            slots,
            positions,
            rope.shape[0],
            qkv.stride(0),
            pages.table.stride(0),
            eps,
            heads,
            kv_heads,
            head_dim,
            PAGE,
            normed,
            kind.rotated,
            kind.interleaved,
            height,
            half,
            num_warps=_warps(2 * height * half),
            **overlap(qkv.device),
        )
    return out


def _warps(elements: int) -> int:
    """So many that a thread holds 16 elements, up to the hardware's good measure."""
    return max(1, min(16, elements // 512))


@triton.jit(do_not_specialize=["count"])
def _rms_norm(
    x,
    weight,
    out,
    count,
    stride,
    eps,
    size: tl.constexpr,
    height: tl.constexpr,
    width: tl.constexpr,
    overlapped: tl.constexpr,
):
    if overlapped:
        tl.extra.cuda.gdc_wait()
    rows = tl.program_id(0) * height + tl.arange(0, height)[:, None]
    columns = tl.arange(0, width)[None, :]
    mask = (rows < count) & (columns < size)
    raw = tl.load(x + rows.to(tl.int64) * stride + columns, mask, 0.0)
    scale = tl.load(weight + columns, columns < size, 0.0)
    wide = raw.to(tl.float32)
    rstd = tl.math.rsqrt(tl.sum(wide * wide, 1) / size + eps)
    normed = (wide * rstd[:, None]).to(scale.dtype).to(tl.float32) * scale.to(tl.float32)
    if overlapped:
        tl.extra.cuda.gdc_launch_dependents()
    tl.store(out + rows.to(tl.int64) * size + columns, normed.to(raw.dtype), mask)


@triton.jit(do_not_specialize=["extent"])
def _rope_write(
    qkv,
    q_norm,
    k_norm,
    rope,
    out,
    keys,
    values,
    key_scales,
    value_scales,
    table,
    slots,
    positions,
    extent,
    stride,
    table_stride,
    eps,
    heads: tl.constexpr,
    kv_heads: tl.constexpr,
    head_dim: tl.constexpr,
    page_size: tl.constexpr,
    normed: tl.constexpr,
    rotated: tl.constexpr,
    interleaved: tl.constexpr,
    height: tl.constexpr,
    half: tl.constexpr,
    overlapped: tl.constexpr,
):
    """One token's next `height` heads, of whatever kind, as what is rotated (a) against what (b): their halves, unless said otherwise."""
    if overlapped:
        tl.extra.cuda.gdc_wait()
    row = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1) * height + tl.arange(0, height)[:, None]
    column = tl.arange(0, half)[None, :]
    inside = column < head_dim // 2
    mask = (head < heads + 2 * kv_heads) & inside
    first = column
    gap = head_dim // 2
    if interleaved:
        first = 2 * column
        gap = 1
    elif rotated:
        first = tl.where(column < rotated // 2, column, column + rotated // 2)
        gap = tl.where(column < rotated // 2, rotated // 2, (head_dim - rotated) // 2)
    source = qkv + row * stride + head * head_dim + first
    raw_a = tl.load(source, mask, 0.0)
    raw_b = tl.load(source + gap, mask, 0.0)
    position = tl.load(positions + row)
    slot = tl.load(slots + row)
    page = tl.load(table + slot * table_stride + tl.maximum(position, 0) // page_size)
    page = tl.where(position < 0, 0, page).to(tl.int64)
    line = rope + tl.minimum(tl.maximum(position, 0), extent - 1) * head_dim + column
    cos = tl.load(line, inside, 0.0)
    sin = tl.load(line + head_dim // 2, inside, 0.0)

    a, b = raw_a.to(tl.float32), raw_b.to(tl.float32)
    is_query = head < heads
    if normed:
        rstd = tl.math.rsqrt((tl.sum(a * a, 1) + tl.sum(b * b, 1)) / head_dim + eps)[:, None]
        q_a = tl.load(q_norm + first, inside, 0.0).to(tl.float32)
        q_b = tl.load(q_norm + gap + first, inside, 0.0).to(tl.float32)
        k_a = tl.load(k_norm + first, inside, 0.0).to(tl.float32)
        k_b = tl.load(k_norm + gap + first, inside, 0.0).to(tl.float32)
        a = (a * rstd).to(raw_a.dtype).to(tl.float32) * tl.where(is_query, q_a, k_a)
        b = (b * rstd).to(raw_b.dtype).to(tl.float32) * tl.where(is_query, q_b, k_b)
        a, b = a.to(raw_a.dtype).to(tl.float32), b.to(raw_b.dtype).to(tl.float32)
    new_a = (a * cos - b * sin).to(raw_a.dtype)
    new_b = (b * cos + a * sin).to(raw_b.dtype)

    if overlapped:
        tl.extra.cuda.gdc_launch_dependents()
    target = out + row * (heads * head_dim) + head * head_dim + first
    tl.store(target, new_a, mask & is_query)
    tl.store(target + gap, new_b, mask & is_query)
    # Padding's -1 comes to lie in the last line of page 0.
    within = page * (kv_heads * page_size * head_dim) + (position & (page_size - 1)) * head_dim + first
    is_key = (head >= heads) & (head < heads + kv_heads)
    is_value = head >= heads + kv_heads
    if key_scales is not None:
        of_head = page * (kv_heads * page_size) + (position & (page_size - 1))
        k_most = tl.maximum(tl.max(size_bits(new_a), 1), tl.max(size_bits(new_b), 1))[:, None]
        v_most = tl.maximum(tl.max(size_bits(raw_a), 1), tl.max(size_bits(raw_b), 1))[:, None]
        k_scale, v_scale = scale_of(k_most), scale_of(v_most)
        of_key = key_scales + of_head + (head - heads) * page_size
        of_value = value_scales + of_head + (head - heads - kv_heads) * page_size
        tl.store(of_key, k_scale, is_key)
        tl.store(of_value, v_scale, is_value & (head < heads + 2 * kv_heads))
        new_a, new_b = rounded(new_a, k_scale), rounded(new_b, k_scale)
        raw_a, raw_b = rounded(raw_a, v_scale), rounded(raw_b, v_scale)
    at_key = keys + within + (head - heads) * (page_size * head_dim)
    tl.store(at_key, new_a, mask & is_key)
    tl.store(at_key + gap, new_b, mask & is_key)
    at_value = values + within + (head - heads - kv_heads) * (page_size * head_dim)
    tl.store(at_value, raw_a, mask & is_value)
    tl.store(at_value + gap, raw_b, mask & is_value)
