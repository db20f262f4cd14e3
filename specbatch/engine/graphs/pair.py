"""Everything of the graphs runner that lives on the devices: models, pages, rows' state, and the captured steps over them."""

from __future__ import annotations

import torch
from torch import Tensor

from specbatch.engine.config import EngineConfig
from specbatch.engine.general.drafter import Drafter, ModelDrafter
from specbatch.engine.general.model import CausalLM
from specbatch.engine.general.ngram import NGramDrafter
from specbatch.engine.graphs.cuda_graphs import Capture, CudaGraphRunner
from specbatch.engine.graphs.decoder import Decoder
from specbatch.engine.graphs.drafters import GraphDrafter, LookupDrafter, PagedDrafter
from specbatch.engine.graphs.ops import operations
from specbatch.engine.graphs.pool import PagePool
from specbatch.engine.graphs.prefill import Prefill
from specbatch.engine.graphs.sizes import bucket, buckets, most_drafts, page_counts
from specbatch.engine.graphs.state import FIELDS, Mode, RowState
from specbatch.engine.graphs.token_choice import TokenChooser
from specbatch.engine.graphs.verifier import Verifier
from specbatch.engine.memory import free_cached
from specbatch.engine.request import Request
from specbatch.engine.sequence import SequenceState


class CapturedPair:
    """Target and drafter on their devices, for so many rows at once.

    Args:
        target: its weights are packed.
        drafter: a ModelDrafter, whose model is packed too, an NGramDrafter, or None.
        config: sizes and rules.
        slots: rows at once.
    """

    def __init__(self, target: CausalLM, drafter: Drafter | None, config: EngineConfig, slots: int) -> None:
        self.config = config
        self.slots = slots
        self.device = target.input_device
        ops, positions, chunk = operations(self.device), config.max_positions, config.graphs_prefill_chunk
        self.target = Decoder(target, ops, positions)
        drafting = Decoder(drafter.model, ops, positions) if isinstance(drafter, ModelDrafter) else None
        free_cached(self.device)  # pages take what is free
        of_target, of_drafter = page_counts(self.target, drafting, slots, positions, config.kv_reserve)
        self.target_pool = PagePool(self.target, of_target, slots, positions)
        drafter_pool = PagePool(drafting, of_drafter, slots, positions) if drafting is not None else None
        self.state = RowState(slots, positions, config.max_k, self.device)
        self.graphs = CudaGraphRunner(self.device)
        self.buckets = buckets(slots)
        chooser = TokenChooser(self.state, ops, self.target.vocab_size, config.acceptance_rule)
        self.prefill = Prefill(self.target, self.state, self.graphs, chunk)
        self.drafter = GraphDrafter()
        if drafting is not None and drafter_pool is not None:
            catch_up = Prefill(drafting, self.state, self.graphs, chunk)
            self.drafter = PagedDrafter(drafting, drafter_pool, catch_up, chooser, self.graphs)
        elif drafter is not None:
            assert isinstance(drafter, NGramDrafter), "see make_engine"
            self.drafter = LookupDrafter(drafter, self.state, self.graphs)
        self.pools = (self.target_pool, *self.drafter.pools)
        self._most = config.max_k if drafter is not None else 0
        self.verifier = Verifier(self.target, self.drafter, chooser)
        self._placed: list[int] = []

    def max_drafts(self, rows: int) -> int:
        """The largest k for so many rows: a fixed k as it is, an adaptive one while the logits of their bucket stay small."""
        adaptive = self.config.speculation.is_adaptive
        return most_drafts(bucket(self.buckets, rows), self._most) if adaptive else self._most

    def ks(self, rows: int) -> list[int]:
        """The k that a bucket may be asked for, largest first; 0 is always among them."""
        return self.config.speculation.choices(self.max_drafts(rows))

    # -- rounds ----------------------------------------------------------------------------------------------------------

    def place(self, slots: list[int]) -> None:
        """Sets the rows of the next round, and brings the page tables up to date."""
        for pool in self.pools:
            pool.upload()
        if slots != self._placed:
            self.state.place(slots)
            self._placed = slots

    def draft(self, rows: int, k: int, mode: Mode) -> None:
        """Queues the drafting of k tokens a row, for a bucket of rows."""
        if k:
            self.drafter.propose(rows, k, mode)

    def verify(self, rows: int, k: int, mode: Mode) -> None:
        """Queues the target's part of a round, for a bucket of rows."""
        self.graphs.run(("verify", rows, k, mode), lambda capture: self.verifier.verify(capture, rows, k, mode))

    def read_outcome(self, rows: int, k: int) -> Tensor:
        """Queues the copy of a round's outcome to the host.  # int64 [rows, FIELDS + k + 1]"""
        width = FIELDS + k + 1
        if self.device.type != "cuda":
            return self.state.outcome[:rows, :width].clone()
        host = torch.empty(rows, width, dtype=torch.int64, pin_memory=True)
        return host.copy_(self.state.outcome[:rows, :width], non_blocking=True)

    def prefill_sizes(self) -> list[int]:
        """Tokens of the prefill forwards that are captured."""
        return self.prefill.sizes

    def dummy_join(self) -> None:
        """Does once what the host does for a joining row: PyTorch loads a kernel when it is first used, and pins new memory then.

        the padding slot is left with the position of a row that begins.
        """
        for pool in self.pools:
            pool.reserve([(self.slots, 1)])
            pool.evict(self.slots)
            pool.upload()  # of a table that is as it was: what counts is the copy
        self.state.join([self.slots], [SequenceState(Request("", [0], 1))])
        for rows in {1, self.slots}:
            self.read_outcome(rows, 0)

    def dummy_forward(self, capture: Capture) -> None:
        """Goes through the smallest prefill forward of both models once, over whatever tokens are there."""
        for prefill in (self.prefill, *self.drafter.prefills):
            prefill.forward(capture, prefill.sizes[0])

    def dummy_prefill(self, size: int, *, target: bool = True) -> None:
        """Queues a prefill forward of a size, over tokens of the padding slot: of both models, or of the drafter alone."""
        length = min(size, self.config.max_length)
        stretches = [(self.slots, 0, length)] * (size // length) + [(self.slots, 0, size % length)]
        for prefill in (*([self.prefill] if target else []), *self.drafter.prefills):
            prefill.fill(stretches)
