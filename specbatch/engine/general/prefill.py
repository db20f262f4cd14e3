"""Bringing rows' tokens into a model's slots: grouped by length so that little is padded, long ones in chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from specbatch.engine.general.batch import Batch
from specbatch.engine.general.cache import SlotView
from specbatch.engine.general.model import CausalLM

_FREE_PADDING = 16  # tokens: below this a longer row costs less than another forward


Seen = Callable[[SlotView], None]


def prefill(model: CausalLM, batch: Batch, starts: Mapping[int, int], chunk: int, seen: Seen = lambda _: None) -> None:
    """Fills KV for positions start .. length - 1 of the given slots; the last token itself goes into the next round.

    Args:
        model: whose slots are filled.
        batch: holds the rows.
        starts: slot -> first position to fill.
        chunk: tokens in one forward, at the most.
        seen: told of each forward.
    """
    spans = {
        slot: (start, batch.rows[slot].length) for slot, start in starts.items() if batch.rows[slot].length > start
    }
    for tokens, view in from_the_start(batch, {slot: end for slot, (start, end) in spans.items() if start == 0}, chunk):
        model.fill(tokens, view)
        seen(view)
    _fill_stretches(model, batch, {slot: span for slot, span in spans.items() if span[0] > 0}, chunk, seen)


def group_by_length(lengths: Mapping[int, int], max_tokens: int) -> list[list[int]]:
    """Groups of slots of similar lengths, longest first: padding stays below an eighth, forwards below max_tokens."""
    groups: list[list[int]] = []
    longest = 0
    for slot in sorted(lengths, key=lambda s: -lengths[s]):
        similar = longest - lengths[slot] <= max(_FREE_PADDING, longest // 8)
        if groups and similar and longest * (len(groups[-1]) + 1) <= max_tokens:
            groups[-1].append(slot)
        else:
            groups.append([slot])
            longest = lengths[slot]
    return groups


def from_the_start(batch: Batch, ends: Mapping[int, int], chunk: int) -> Iterator[tuple[Tensor, SlotView]]:
    """The forwards that fill slots from position 0 up to these ends.  # tokens int64 [n, width], and where they stand"""
    whole = {slot: end for slot, end in ends.items() if end <= chunk}
    for slots in group_by_length(whole, chunk):
        yield _group(batch, slots)
    for slot, end in ends.items():
        for first in range(0, end, chunk) if slot not in whole else ():
            yield _stretch(batch, slot, first, min(first + chunk, end))


def _group(batch: Batch, slots: Sequence[int]) -> tuple[Tensor, SlotView]:
    """Whole prompts from position 0; shorter ones are padded on the left."""
    lengths = torch.tensor([batch.rows[slot].length for slot in slots], device=batch.device)
    width = max(batch.rows[slot].length for slot in slots)
    positions = torch.arange(width, device=batch.device) - (width - lengths)[:, None]
    positions = positions.clamp(min=-1)
    rows = torch.tensor(slots, device=batch.device)
    return batch.history[rows].gather(1, positions.clamp(min=0)), SlotView(rows, positions, None)


def _stretch(batch: Batch, slot: int, start: int, end: int) -> tuple[Tensor, SlotView]:
    """A stretch of one row, which sees all that went before."""
    positions = torch.arange(start, end, device=batch.device)[None]
    return batch.history[slot : slot + 1, start:end], SlotView(slice(slot, slot + 1), positions, end)


def _fill_stretches(
    model: CausalLM, batch: Batch, spans: Mapping[int, tuple[int, int]], chunk: int, seen: Seen
) -> None:
    """Catches up several rows at once, each from its own start; rows between them that need nothing ride along as padding."""
    while spans:
        first, last = min(spans), max(spans) + 1
        width = min(max(end - start for start, end in spans.values()), max(1, chunk // (last - first)))
        positions = torch.full((last - first, width), -1, device=batch.device)
        for slot, (start, end) in spans.items():
            count = min(width, end - start)
            positions[slot - first, width - count :] = torch.arange(start, start + count, device=batch.device)
        view = SlotView(slice(first, last), positions, batch.extent(0))
        model.fill(batch.history[first:last].gather(1, positions.clamp(min=0)), view)
        seen(view)
        spans = {slot: (start + width, end) for slot, (start, end) in spans.items() if start + width < end}
