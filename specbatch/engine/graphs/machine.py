"""Everything of the fast path that lives on the devices: models, pages, rows' state, and the recorded steps over them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from specbatch.engine.config import EngineConfig
from specbatch.engine.general.batch import Row
from specbatch.engine.general.drafter import Drafter
from specbatch.engine.general.model import CausalLM
from specbatch.engine.general.ngram import NGramDrafter
from specbatch.engine.graphs.cuda_graphs import Capture, CudaGraphRunner
from specbatch.engine.graphs.decoder import Decoder
from specbatch.engine.graphs.ops import operations
from specbatch.engine.graphs.pool import PagePool, pages_for
from specbatch.engine.graphs.prefill import Prefill
from specbatch.engine.graphs.round import Round
from specbatch.engine.graphs.sizes import buckets, most_drafts, page_counts
from specbatch.engine.graphs.state import FIELDS, Mode, RowState
from specbatch.engine.memory import free_cached
from specbatch.engine.request import Request


class Machine:
    """The pair on its devices, for so many rows at once.

    Args:
        target: its weights are packed.
        model: the drafter's model, packed too; None where `other` drafts, or nothing.
        other: an NGramDrafter, or None.
        config: sizes and rules.
        slots: rows at once.
    """

    def __init__(
        self, target: CausalLM, model: CausalLM | None, other: Drafter | None, config: EngineConfig, slots: int
    ) -> None:
        assert other is None or isinstance(other, NGramDrafter), "see make_engine"
        self.config = config
        self.slots = slots
        self.warm = False
        self.device = target.input_device
        ops, positions = operations(self.device), config.max_positions
        self.target = Decoder(target, ops, positions)
        self.drafter = Decoder(model, ops, positions) if model is not None else None
        free_cached(self.device)  # pages take what is free
        of_target, of_drafter = page_counts(self.target, self.drafter, slots, positions)
        self.target_pool = PagePool(self.target, of_target, slots, positions)
        self.drafter_pool = PagePool(self.drafter, of_drafter, slots, positions) if self.drafter is not None else None
        self.state = RowState(slots, positions, config.max_k, self.device)
        self.round = Round(self.target, self.drafter or other, self.state, config.acceptance_rule)
        self.graphs = CudaGraphRunner(self.device)
        self.buckets = buckets(slots)
        self._fill = Prefill(self.target, self.state, self.graphs, config.gpu_prefill_chunk)
        self._catch_up = (
            Prefill(self.drafter, self.state, self.graphs, config.gpu_prefill_chunk)
            if self.drafter is not None
            else None
        )
        self._free_slots = list(range(slots - 1, -1, -1))
        self._seated: list[int] = []

    @property
    def drafts_with_model(self) -> bool:
        """Whether drafting has KV of its own."""
        return self.drafter is not None

    def most_drafts(self, rows: int) -> int:
        """The largest k for a bucket: a fixed k as it is, a chosen one while its logits stay small."""
        fixed = self.config.num_speculative_tokens
        return fixed if fixed is not None else most_drafts(rows, self.config.max_k)

    def ks(self, rows: int) -> list[int]:
        """The k that a bucket may be asked for, largest first; 0 is always among them."""
        most = self.most_drafts(rows) if self.round.drafter is not None else 0
        if self.config.num_speculative_tokens is None:
            return list(range(most, -1, -1))
        return sorted({0, most}, reverse=True)

    # -- rows ------------------------------------------------------------------------------------------------------------

    def positions_to_join(self, row: Row) -> int:
        """Positions that a joining row needs at once: what it has, and a round's."""
        return row.length + self.config.max_k + 2

    def pages_to_join(self, row: Row) -> int:
        """Pages of the target that a joining row needs at once."""
        return pages_for(self.positions_to_join(row))

    def join(self, rows: Sequence[Row]) -> list[int]:
        """Gives rows slots and pages, and prefills the target for all but their last tokens. Returns the slots."""
        slots = [self._free_slots[-1 - i] for i in range(len(rows))]
        for slot, row in zip(slots, rows, strict=True):
            self.target_pool.grow(slot, self.positions_to_join(row))
        self.target_pool.upload()
        self.state.join(slots, rows)
        self._fill.fill([(slot, 0, row.length) for slot, row in zip(slots, rows, strict=True)])
        del self._free_slots[-len(rows) :]
        return slots

    def catch_up(self, stretches: Sequence[tuple[int, int, int]]) -> None:
        """Fills the drafter's KV for (slot, start, end) of rows that no round is in flight for."""
        assert self._catch_up is not None, "a model drafts"
        assert self.drafter_pool is not None, "a model drafts"
        self.drafter_pool.upload()
        self._catch_up.fill(stretches)

    def leave(self, slot: int) -> None:
        """Takes a slot and its pages back."""
        self.target_pool.release([slot])
        if self.drafter_pool is not None:
            self.drafter_pool.release([slot])
        self._free_slots.append(slot)

    # -- rounds ----------------------------------------------------------------------------------------------------------

    def seat(self, slots: list[int]) -> None:
        """Sets the rows of the next round, and brings the page tables up to date."""
        self.target_pool.upload()
        if self.drafter_pool is not None:
            self.drafter_pool.upload()
        if slots != self._seated:
            self.state.seat(slots)
            self._seated = slots

    def draft(self, rows: int, k: int, mode: Mode) -> None:
        """Queues the drafting of k tokens a row, for a bucket of rows."""
        if k == 0:
            return
        if self.drafter is None:
            self.graphs.run(("look up", rows, k), lambda capture: self.round.look_up(capture, rows, k))
            return
        first, following = ("first", rows, mode), ("next", rows, mode)
        self.graphs.run(first, lambda capture: self.round.draft_first(capture, rows, mode))
        for _ in range(k - 1):
            self.graphs.run(following, lambda capture: self.round.draft_next(capture, rows, mode))

    def verify(self, rows: int, k: int, mode: Mode) -> None:
        """Queues the target's part of a round, for a bucket of rows."""
        self.graphs.run(("verify", rows, k, mode), lambda capture: self.round.verify(capture, rows, k, mode))

    def read_outcome(self, rows: int, k: int) -> Tensor:
        """Queues the copy of a round's outcome to the host.  # int64 [rows, FIELDS + k + 1]"""
        width = FIELDS + k + 1
        if self.device.type != "cuda":
            return self.state.outcome[:rows, :width].clone()
        host = torch.empty(rows, width, dtype=torch.int64, pin_memory=True)
        return host.copy_(self.state.outcome[:rows, :width], non_blocking=True)

    def prefill_sizes(self) -> list[int]:
        """Tokens of the prefill forwards that are recorded."""
        return self._fill.sizes

    def dummy_join(self) -> None:
        """Does once what a row that comes makes the host do: PyTorch loads a kernel when it is first used, and pins new memory then.

        the padding slot is left with the position of a row that begins.
        """
        for pool in (self.target_pool, self.drafter_pool):
            if pool is not None:
                pool.grow(self.slots, 1)
                pool.release([self.slots])
                pool.upload()  # of a table that is as it was: what counts is the copy
        self.state.join([self.slots], [Row(Request("", [0], 1))])
        for rows in {1, self.slots}:
            self.read_outcome(rows, 0)

    def dummy_forward(self, capture: Capture) -> None:
        """Goes through the smallest prefill forward of both models once, over whatever tokens are there."""
        for prefill in (self._fill, self._catch_up):
            if prefill is not None:
                prefill.forward(capture, prefill.sizes[0])

    def dummy_prefill(self, size: int, *, target: bool = True) -> None:
        """Queues a prefill forward of a size, over tokens of the padding slot: of both models, or of the drafter alone."""
        length = min(size, self.config.max_length)
        stretches = [(self.slots, 0, length)] * (size // length) + [(self.slots, 0, size % length)]
        if target:
            self._fill.fill(stretches)
        if self._catch_up is not None:
            self._catch_up.fill(stretches)
