"""Which batch sizes and k are recorded, and how much memory the rows' KV may take."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import torch

from specbatch.engine.gpu.decoder import Decoder
from specbatch.engine.gpu.pool import page_bytes, pages_for
from specbatch.engine.gpu.round import MAX_TOKENS

_SMALL = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256)
_STEP = 128  # rows between the larger sizes
_SHARE = 0.92  # of the free memory
_RESERVE = 2 * 2**30  # bytes for activations, logits and recordings
_DRAFTING_SHARE = 1 / 3  # of the target's pages: where memory is short, rows are many, and only few of them draft


def buckets(slots: int) -> list[int]:
    """Batch sizes that rounds are recorded for; a batch takes the next larger one."""
    sizes = [size for size in _SMALL if size < slots]
    return [*sizes, *range(384, slots, _STEP), slots]


def bucket(sizes: Sequence[int], rows: int) -> int:
    """The size that so many rows take."""
    return sizes[bisect_left(sizes, rows)]


def most_drafts(rows: int, max_k: int) -> int:
    """The largest k whose verify forward is within MAX_TOKENS."""
    return max(0, min(max_k, MAX_TOKENS // rows - 1))


def page_counts(target: Decoder, drafter: Decoder | None, slots: int, max_positions: int) -> tuple[int, int]:
    """Pages for target and drafter: as many as all rows need at their longest, or what the free memory of each device holds.

    Raises:
        torch.OutOfMemoryError: not even one row fits.
    """
    least = pages_for(max_positions)
    wanted = slots * least
    of_target = page_bytes(target)
    of_drafter = page_bytes(drafter) if drafter is not None else {}
    pages, share = wanted, 1.0  # share: of as many pages for the drafter
    for device in {*of_target, *of_drafter}:
        if device.type != "cuda":
            continue
        free = torch.cuda.mem_get_info(device)[0] * _SHARE - _RESERVE
        if (of_target.get(device, 0) + of_drafter.get(device, 0)) * wanted > free:
            share = _DRAFTING_SHARE
            each = of_target.get(device, 0) + share * of_drafter.get(device, 0)
            pages = min(pages, int(free / each))
    if pages < least:
        raise torch.OutOfMemoryError(f"{pages} of the {least} KV pages of one row fit")
    drafting = 0 if drafter is None else min(wanted, max(least, int(pages * share)))
    return pages, drafting
