"""PyTorch's own attention over a case, as calls of a layer: flash attention and flex_attention."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from benchmarks.inputs.attention_cases import SCALE, Case
from specbatch.engine.graphs.kv.paging import PAGE

BLOCK = (128, PAGE)  # queries and positions: with flex's usual 128 positions, short rows would read more
NOWHERE = 1 << 20  # the place of a page in a row that does not hold it


def flash(case: Case) -> Callable[[int], Tensor]:
    """The same of torch's flash attention; prompts are all of the dense cache, which then is packed without gaps."""
    rows, longest = case.dense[0][0].shape[:2]
    edges = torch.arange(rows + 1, dtype=torch.int32, device=case.q.device)
    edges_q, edges_k, used = edges * case.new, edges * longest, case.lengths.int()

    def call(layer: int) -> Tensor:
        keys, values = (x.flatten(0, 1) for x in case.dense[layer])
        return torch.ops.aten._flash_attention_forward(  # noqa: SLF001 - what torch's own varlen attention calls
            case.q, keys, values, edges_q, edges_k, case.new, longest, 0.0, True, False, scale=SCALE, seqused_k=used
        )[0]

    return call


def flex(case: Case) -> Callable[[int], Tensor]:
    """The same of flex_attention, where a mask shows each row its own positions; KV is padded to the longest row."""
    first = case.first
    kv = [[x.transpose(1, 2).contiguous() for x in layer] for layer in case.dense]  # [B, kv_heads, L, D]

    def sees(row: Tensor, _head: Tensor, query: Tensor, position: Tensor) -> Tensor:
        return position <= first[row] + query

    rows, _, longest, _ = kv[0][0].shape
    mask = create_block_mask(sees, rows, None, case.new, longest, device=case.q.device.type, BLOCK_SIZE=BLOCK)
    return _flex(case, kv, mask)


def flex_paged(case: Case) -> Callable[[int], Tensor]:
    """The same over scattered pages: one line of KV for all rows, of which the mask names each row's pages."""
    layers = zip(case.pages.keys, case.pages.values, strict=True)
    kv = [[x.transpose(0, 1).flatten(1, 2)[None] for x in layer] for layer in layers]  # [1, kv_heads, pages * PAGE, D]
    rows, pages = len(case.lengths), kv[0][0].shape[2] // PAGE
    held = -(-case.lengths // PAGE)
    table = case.pages.table[:rows, : int(held.max())]
    indices = table.new_zeros(rows, 1, 1, pages)
    indices[:, 0, 0, : table.shape[1]] = table
    places = table.new_full((rows, pages), NOWHERE)  # of each page in each row
    places.scatter_(1, table.long(), torch.arange(table.shape[1]).to(table).expand_as(table))
    places[:, 0] = NOWHERE  # page 0 is the padding page: shorter rows' lines end with it
    first = case.first

    def sees(row: Tensor, _head: Tensor, query: Tensor, at: Tensor) -> Tensor:
        return places[row, at // PAGE] * PAGE + at % PAGE <= first[row] + query

    mask = BlockMask.from_kv_blocks(
        held.int().view(rows, 1, 1), indices, BLOCK_SIZE=BLOCK, mask_mod=sees, seq_lengths=(case.new, pages * PAGE)
    )
    return _flex(case, kv, mask)


def _flex(case: Case, kv: Sequence[Sequence[Tensor]], mask: BlockMask) -> Callable[[int], Tensor]:
    """The call, with the best of flex's configurations; on a CPU, where it is only tried out, not compiled.  # -> [B, n, heads, D]"""
    attend = flex_attention
    if case.q.is_cuda:
        torch._dynamo.reset()  # noqa: SLF001 - it compiles a function eight times, and then no more
        attend = torch.compile(flex_attention, dynamic=False, options={"max_autotune": True})
    q = case.q.unflatten(0, (-1, case.new)).transpose(1, 2).contiguous()

    def call(layer: int) -> Tensor:
        keys, values = kv[layer]
        return attend(q, keys, values, block_mask=mask, scale=SCALE, enable_gqa=True).transpose(1, 2)

    return call
