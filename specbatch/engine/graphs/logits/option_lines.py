"""The options of the rows by slot, for logits processors: no memory and no work before the first row that asks for one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import cast

import torch
from torch import Tensor

from specbatch.engine.graphs.lanes import Lane
from specbatch.engine.host_copies import upload
from specbatch.engine.logits.grammar import GrammarRound
from specbatch.engine.logits.logprobs import Logprobs
from specbatch.engine.logits.options import LONGEST_BAD_WORD, MOST_BAD_WORDS, MOST_BIASED
from specbatch.engine.logits.row_options import OptionSizes, RowOptions
from specbatch.engine.request import Request

_SIZES = OptionSizes(MOST_BIASED, MOST_BAD_WORDS, LONGEST_BAD_WORD)


class _Masks:
    """Of the rows of a round, by place in the batch.

    on_host: int32 [positions, slots, words]
    last: of the position that was brought last  # int32 [slots, words]
    by_row: int32 [slots, positions, words]
    of, there: the round, and how many of its positions were brought
    """

    def __init__(self, positions: int, slots: int, words: int, device: torch.device) -> None:
        pinned = device.type == "cuda"
        self.on_host = torch.full((positions, slots, words), -1, dtype=torch.int32, pin_memory=pinned)
        self.last = torch.full((slots, words), -1, dtype=torch.int32, device=device)
        self.by_row = torch.full((slots, positions, words), -1, dtype=torch.int32, device=device)
        self.of: GrammarRound | None = None
        self.there = 0

    def bring(self, position: int, mask: Tensor) -> None:
        rows = len(mask)
        self.last[:rows].copy_(mask, non_blocking=True)
        self.by_row[:rows, position].copy_(self.last[:rows])


class OptionLines:
    """A line a slot, of one lane; the padding slot's does nothing. Captures read it: it never moves.

    Args:
        slots: of rows.
        lane: that reads it.
        positions: of the largest round.

    Attributes:
        logprobs: of the tokens of the last round, by place in the batch; None before any row asks for them.
    """

    def __init__(self, slots: int, lane: Lane, positions: int) -> None:
        self._slots = slots
        self._positions = positions
        self.logprobs: Logprobs | None = None
        self._lane = lane
        self._lines: RowOptions | None = None
        self._masks: _Masks | None = None

    def join(self, slots: Sequence[int], requests: Sequence[Request]) -> None:
        """Writes the lines of joining rows; those of rows without options too, once any row has had some."""
        if self._lines is None and not any(request.processors for request in requests):
            return
        self._lane.run(lambda: self._write(slots, requests))

    @property
    def lines(self) -> RowOptions:
        """By slot."""
        assert self._lines is not None, "a row that needs processors has joined"
        return self._lines

    def memory_for_masks(self, words: int) -> Tensor:
        """On the host: a round's masks are in use until its outcome is there.  # int32 [positions of a round, slots, words]"""
        if self._masks is None:
            self._masks = _Masks(self._positions, self._slots, words, self._lane.device)
        return self._masks.on_host

    def bring_masks(self, grammars: GrammarRound) -> None:
        """Brings the masks of a round to the lane, as far as they are made and not there yet."""
        self.memory_for_masks(grammars.masks[0].shape[1])
        masks = self._masks
        assert masks is not None, "made above"
        first = masks.there if masks.of is grammars else 0
        masks.of, masks.there = grammars, len(grammars.masks)
        for position, mask in enumerate(grammars.masks[first:], start=first):
            self._lane.run(partial(masks.bring, position, mask))

    def masks(self, rows: int, n: int) -> Tensor | None:
        """Of the first rows of the batch: of the position that was brought last, or of all n of a round.  # int32 [rows, n, words]"""
        if self._masks is None:
            return None
        return self._masks.last[:rows, None] if n == 1 else self._masks.by_row[:rows, :n]

    def read_logprobs(self, rows: int, k: int) -> Logprobs:
        """Queues the copy to the host of the log probabilities of a round of k drafts, of the first rows."""
        assert self.logprobs is not None, "a row that asks has joined"
        return read_logprobs(self.logprobs, rows, k + 1, self._lane)

    def _write(self, slots: Sequence[int], requests: Sequence[Request]) -> None:
        device = self._lane.device
        if self._lines is None:
            self._lines = RowOptions.of([Request("", [0], 1)] * (self._slots + 1), device, _SIZES)
        if self.logprobs is None and any(request.top_logprobs is not None for request in requests):
            self.logprobs = Logprobs.empty(self._slots, self._positions, device)
        needed = OptionSizes.needed([request.logits for request in requests])
        of_words = _SIZES[1:] if needed.bad_words else needed[1:]
        joining = RowOptions.of(requests, torch.device("cpu"), OptionSizes(needed.biased, *of_words))
        self._put(slots, range(len(slots)), joining, "reals", "ngram", "entries")
        # What is wide only where a row has it: kernels read no more entries than are the row's own.
        if biased := [row for row, request in enumerate(requests) if request.logits.bias]:
            self._put(slots, biased, joining, "bias_tokens", "bias_until", "bias_values")
        if banned := [row for row, request in enumerate(requests) if request.logits.bad_words]:
            self._put(slots, banned, joining, "bad_words")

    def _put(self, slots: Sequence[int], rows: Sequence[int], joining: RowOptions, *names: str) -> None:
        """Writes of some joining rows what has these names, as far as it goes."""
        at = upload([slots[row] for row in rows], torch.int64, self._lane.device)
        for name in names:
            here = torch.from_numpy(cast("Tensor", getattr(joining, name)).numpy()[list(rows)])
            there = cast("Tensor", getattr(self.lines, name))
            (there if here.dim() == 1 else there[:, : here.shape[1]])[at] = upload(here, here.dtype, self._lane.device)


def read_logprobs(logprobs: Logprobs, rows: int, n: int, lane: Lane) -> Logprobs:
    """Queues the copy to the host of those of the first rows' first n tokens."""
    here = [part[:rows, :n] for part in logprobs]
    host = [torch.empty(part.shape, dtype=part.dtype, pin_memory=part.is_cuda) for part in here]

    def copy() -> None:
        for there, part in zip(host, here, strict=True):
            there.copy_(part, non_blocking=True)

    lane.run(copy)
    return Logprobs(*host)
