"""The options of the rows by slot, for logits processors: no memory and no work before the first row that asks for one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import cast

import torch
from torch import Tensor

from specbatch.engine.graphs.lanes import Lane, upload
from specbatch.engine.logits_options import LONGEST_BAD_WORD, MOST_BAD_WORDS, MOST_BIASED
from specbatch.engine.logits_processors import OptionSizes, RowOptions
from specbatch.engine.request import Request

_SIZES = OptionSizes(MOST_BIASED, MOST_BAD_WORDS, LONGEST_BAD_WORD)


class OptionLines:
    """A line a slot, of one lane; the padding slot's does nothing. Captures read it: it never moves.

    Args:
        slots: of rows.
        lane: that reads it.
    """

    def __init__(self, slots: int, lane: Lane) -> None:
        self._slots = slots
        self._lane = lane
        self._lines: RowOptions | None = None
        self._mask: Tensor | None = None  # by place in the batch  # int32 [slots, positions of a round, words]

    def join(self, slots: Sequence[int], requests: Sequence[Request]) -> None:
        """Writes the lines of joining rows; those of rows without options too, once any row has had some."""
        if self._lines is None and not any(request.processors for request in requests):
            return
        self._lane.run(lambda: self._write(slots, requests))

    def lines(self, slots: Tensor) -> RowOptions:
        """Of the rows in these slots.  # int64 [B]"""
        assert self._lines is not None, "a row that needs processors has joined"
        return self._lines.lines(slots)

    def set_masks(self, masks: Tensor, positions: int) -> None:
        """Brings what grammars allow to the lane.

        Args:
            masks: by place in the batch  # int32 [rows, n, words]
            positions: of the largest round.
        """
        rows, n, words = masks.shape

        def bring() -> None:
            if self._mask is None:
                shape = self._slots, positions, words
                self._mask = torch.full(shape, -1, dtype=torch.int32, device=self._lane.device)
            self._mask[:rows, :n] = upload(masks, torch.int32, self._lane.device)

        self._lane.run(bring)

    def masks(self, rows: int, n: int) -> Tensor | None:
        """Of the first rows of the batch.  # int32 [rows, n, words]"""
        return None if self._mask is None else self._mask[:rows, :n]

    def _write(self, slots: Sequence[int], requests: Sequence[Request]) -> None:
        device = self._lane.device
        if self._lines is None:
            nothing = RowOptions.of([Request("", [0], 1)] * (self._slots + 1), device)
            self._lines = nothing.padded(_SIZES)
        at = upload(slots, torch.int64, device)
        joining = RowOptions.of(requests, torch.device("cpu")).padded(_SIZES)
        for field in fields(RowOptions):
            here = cast("Tensor", getattr(joining, field.name))
            getattr(self._lines, field.name)[at] = upload(here, here.dtype, device)
