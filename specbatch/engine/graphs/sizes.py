"""Which batch sizes and k are captured, and how much memory the rows' KV may take."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from contextlib import suppress

import torch

from specbatch.engine.config import EngineConfig
from specbatch.engine.graphs.decoder import Decoder
from specbatch.engine.graphs.kv.pool import page_bytes, pages_for
from specbatch.engine.logits.logprobs import PROMPT_TOKENS
from specbatch.window_pages import sliding_pages

MAX_TOKENS = 1024  # of one verify forward: what bounds the memory of logits
_SMALL = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256)
_STEP = 128  # rows between the larger sizes
_DRAFTING_SHARE = 1 / 3  # of the target's pages: where memory is short, rows are many, and only few of them draft


def buckets(slots: int, most_groups: int = 1) -> list[int]:
    """Batch sizes that rounds are captured for; a batch takes the next larger one. Equal groups of all slots are among them."""
    sizes = [size for size in _SMALL if size < slots]
    return sorted({*sizes, *range(384, slots, _STEP), *(-(-slots // groups) for groups in range(1, most_groups + 1))})


def bucket(sizes: Sequence[int], rows: int) -> int:
    """The size that so many rows take."""
    return sizes[bisect_left(sizes, rows)]


def most_drafts(rows: int, max_k: int) -> int:
    """The largest k whose verify forward is within MAX_TOKENS."""
    return max(0, min(max_k, MAX_TOKENS // rows - 1))


def pages_of_windows(target: Decoder, config: EngineConfig, slots: int) -> int:
    """Pages for the target's layers with a window, see sliding_pages."""
    chunk = max(config.graphs_prefill_chunk, PROMPT_TOKENS)
    return sliding_pages(target.window, config.most_k, slots, pages_for(config.max_positions), chunk)


def with_windows(counts: Callable[[int], list[tuple[int, int]]], sliding: int) -> tuple[int, list[tuple[int, int]]]:
    """Pages for layers with a window apart, or 0, and what `counts` gives with them.

    They are apart where the others have no fewer pages by that: as many rows fit as without, whatever their lengths. Where so many rows are
    asked for that their windows alone would take more than all of them have together, they are short ones.

    Args:
        counts: of target and drafter, with so many pages apart, see page_counts.
        sliding: see pages_of_windows.
    """
    if not sliding:
        return 0, counts(0)
    with suppress(torch.OutOfMemoryError):  # of whole rows not one fits
        whole = counts(0)
        if min(pages for pages, _ in whole) < sliding:
            return 0, whole
    return sliding, counts(sliding)


def page_counts(
    target: Decoder,
    drafter: Decoder | None,
    slots: int,
    max_positions: int,
    reserve: Callable[[str], int],
    beside: int = 0,
    shown: int | None = None,
    sliding: int = 0,
) -> tuple[int, int]:
    """Pages for target and drafter: as many as all rows need at their longest, or what the free memory of each device holds.

    A drafter on devices of its own has what they hold, up to as many as the target, and takes none of the target's. On devices that
    both share it gets as many as the target while that leaves each row half of its longest. With fewer, rows are many, and many rows
    draft little: it gets a third.

    Args:
        target: whose pages are counted.
        drafter: likewise, if it has any.
        slots: rows at once.
        max_positions: the longest row, speculative tokens included.
        reserve: bytes of a GPU that are to stay free, by its name.
        beside: bytes that go with each page of the target.
        sliding: pages of the target's layers with a window, where they are apart: these are made whatever the others get.
        shown: positions of a row that the drafter has, where it has them for all rows, whatever the target gets; None: all, where there is room.

    Raises:
        torch.OutOfMemoryError: not even one row fits.
    """
    least = pages_for(max_positions)
    whole = page_bytes(target, sliding=False if sliding else None)
    of_target = {device: size + beside for device, size in whole.items()}
    of_drafter = page_bytes(drafter) if drafter is not None else {}
    usable = {
        device: _usable(device, reserve(str(device))) for device in {*of_target, *of_drafter} if device.type == "cuda"
    }
    if sliding:
        of_windows = page_bytes(target, sliding=True)
        usable = {device: free - sliding * of_windows.get(device, 0) for device, free in usable.items()}
        if min(usable.values(), default=0) < 0:
            raise torch.OutOfMemoryError(f"the KV of layers with a window, for {slots} rows, does not fit")

    def fitting(share: float) -> int:
        """Pages of the target, with `share` as many for the drafter where they share a device."""
        each = {
            device: of_target[device] + share * of_drafter.get(device, 0) for device in usable if device in of_target
        }
        return min([slots * least, *(int(usable[device] / size) for device, size in each.items() if size)])

    if shown is not None and drafter is not None:
        fixed = slots * pages_for(shown)
        usable = {device: free - fixed * of_drafter.get(device, 0) for device, free in usable.items()}
        pages = fitting(0.0)
        if min([pages, *usable.values()]) < 0 or pages < least:
            raise torch.OutOfMemoryError(f"{max(0, pages)} of the {least} KV pages of one row fit")
        return pages, fixed
    share, pages = 1.0, fitting(1.0)
    if pages < max(least, slots * -(-least // 2)) and of_target.keys() & of_drafter.keys():
        share, pages = _DRAFTING_SHARE, fitting(_DRAFTING_SHARE)
    apart = [int(usable[device] / of_drafter[device]) for device in usable if device not in of_target]
    drafting = min([slots * least, max(least, int(pages * share)), *apart]) if drafter is not None else 0
    if pages < least or (drafter is not None and drafting < least):
        raise torch.OutOfMemoryError(f"{min([pages, *apart])} of the {least} KV pages of one row fit")
    return pages, drafting


def _usable(device: torch.device, reserve: int) -> float:
    """Bytes for pages: of what is free all but the reserve, and half where that is little."""
    free = torch.cuda.mem_get_info(device)[0]
    return free - min(reserve, free / 2)
