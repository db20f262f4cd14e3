"""Which pages each slot has, as the devices read it: the host writes lines, and brings them over when a round wants them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from specbatch.engine.graphs.lanes import Lane
from specbatch.engine.host_copies import pinned_copy


class OnLane(Protocol):
    """A part of a model that has pages: a stage."""

    device: torch.device
    lane: Lane


class PageTable:
    """A line a slot, the last one that of no row.

    lines: the host's, a numpy array  # int32 [slots + 1, columns]
    tables: the devices', a stage's each
    changed: whether these lack something that a kernel may read

    Args:
        slots: rows at once.
        columns: pages of the longest row.
        stages: that read it.
    """

    def __init__(self, slots: int, columns: int, stages: Sequence[OnLane]) -> None:
        self._host = torch.zeros(slots + 1, columns, dtype=torch.int32)
        self.lines = self._host.numpy()  # the same memory: 20 times as fast to write a page to
        self.tables: list[Tensor] = [torch.zeros_like(self._host, device=stage.device) for stage in stages]
        self.changed = False
        self._stages = stages

    def upload(self) -> None:
        """Brings the stages' tables up to date, in the order of their lanes."""
        if not self.changed:
            return
        self.changed = False
        source = pinned_copy(self._host) if self._stages[0].device.type == "cuda" else self._host.clone()
        for stage, table in zip(self._stages, self.tables, strict=True):
            stage.lane.run(partial(table.copy_, source, non_blocking=True))
