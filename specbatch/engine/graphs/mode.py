"""What the rows of a round ask of it: all that the host need know of them to choose a capture."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import or_

from specbatch.engine.logits.options import Processor
from specbatch.engine.request import Request, SamplingParams
from specbatch.engine.sequence import SequenceState

MAX_CANDIDATES = 64  # a top-k up to it is looked up, a larger one is not worth it


@dataclass(frozen=True, slots=True)
class Mode:
    """What kinds of rows a batch holds: all that the host need know of their sampling parameters to choose a capture.

    params: one of each kind, as RowSampling reads them
    processors: of logits, that any row needs
    cascade: rows read the pages that they share together
    """

    params: tuple[SamplingParams, ...]
    processors: Processor = Processor.NONE
    cascade: bool = False

    @staticmethod
    def of(params: Collection[SamplingParams]) -> Mode:
        """The coarsest description under which few captures serve all batches: top-k in steps of powers of two."""
        drawn = [param for param in params if not param.greedy]
        if not drawn:
            return Mode((SamplingParams(),))
        if not any(param.top_k or param.top_p < 1.0 for param in drawn):
            return Mode((SamplingParams(), SamplingParams(1.0)))
        few = [param for param in drawn if 0 < param.top_k <= MAX_CANDIDATES]
        many = [param for param in drawn if param.top_k > MAX_CANDIDATES and param.top_p < 1.0]
        kinds = [_both_filters(kind) for kind in (few, many) if kind]
        if len(few) + len(many) < len(drawn):
            kinds.append(SamplingParams(1.0, top_p=0.5))
        return Mode((SamplingParams(), *kinds))

    def processing(self, needed: Processor) -> Mode:
        """The same with what its rows need of logits processors: min-p changes no greedy row."""
        return replace(self, processors=needed & ~Processor.MIN_P if self.greedy else needed)

    @property
    def greedy(self) -> bool:
        """Whether no row draws."""
        return all(param.greedy for param in self.params)

    @property
    def filters(self) -> bool:
        """Whether top-k or top-p are at work."""
        return any(param.top_k or param.top_p < 1.0 for param in self.params)

    @property
    def top_k(self) -> int:
        """Tokens that no drawn row looks beyond; 0: some row may look at all."""
        top_ks = [param.top_k for param in self.params if not param.greedy]
        return max(top_ks) if top_ks and min(top_ks) > 0 else 0

    @property
    def candidates(self) -> int:
        """Tokens that no row of a small top-k looks beyond; 0: there is no such row."""
        return max((param.top_k for param in self.params if param.top_k <= MAX_CANDIDATES), default=0)

    @property
    def sorts(self) -> bool:
        """Whether some row has a large top-k and a top-p: which tokens these leave, only a sort tells."""
        return any(param.top_k > MAX_CANDIDATES for param in self.params)


def _both_filters(params: Collection[SamplingParams]) -> SamplingParams:
    largest = max(param.top_k for param in params)
    return SamplingParams(1.0, top_k=max(16, 1 << (largest - 1).bit_length()), top_p=0.5)


class SlotModes:
    """What the rows in slots ask of their rounds, as the host knows it."""

    def __init__(self) -> None:
        self._by_slot: dict[int, Processor] = {}  # of rows that need any
        self._last: dict[int, tuple[list[int], Mode]] = {}  # by group: slots of its last round, and their mode
        self.grammars = 0  # rows that have one

    def join(self, slot: int, request: Request) -> None:
        """A row has taken a slot."""
        if needed := request.processors:
            self._by_slot[slot] = needed
            self.grammars += bool(needed & Processor.GRAMMAR)

    def leave(self, slot: int) -> None:
        """It has left."""
        self.grammars -= bool(self._by_slot.pop(slot, Processor.NONE) & Processor.GRAMMAR)

    def forget(self) -> None:
        """Rows, of other parameters it may be, have joined or changed their groups."""
        self._last.clear()

    def of(self, slots: list[int], sequences: Sequence[SequenceState], group: int) -> Mode:
        """Of a round of a group's rows."""
        known = self._last.get(group)
        if known is None or known[0] != slots:
            mode = Mode.of({sequence.request.sampling for sequence in sequences})
            if self._by_slot:
                mode = mode.processing(reduce(or_, (self._by_slot.get(slot, Processor.NONE) for slot in slots)))
            self._last[group] = known = slots, mode
        return known[1]
