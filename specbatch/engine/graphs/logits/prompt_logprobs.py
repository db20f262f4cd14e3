"""Prefill of rows that ask for the log probabilities of their prompts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from specbatch.engine.graphs.cuda_graphs import Capture, CudaGraphRunner
from specbatch.engine.graphs.decoder import Decoder
from specbatch.engine.graphs.drafters.head import PackedHead
from specbatch.engine.graphs.kv.sliding import SlidingPool
from specbatch.engine.graphs.logits.option_lines import read_logprobs
from specbatch.engine.graphs.prefill import Prefill
from specbatch.engine.graphs.state import RowState
from specbatch.engine.logits.logprobs import PROMPT_TOKENS, Logprobs, PromptLogprobs
from specbatch.engine.sequence import SequenceState


class PrefillWithLogprobs(Prefill):
    """As Prefill, from the rows' start and with the language-model head over every position: its logits are held for PROMPT_TOKENS at the most.

    Args:
        decoder: the target.
        front: holds the rows' tokens, of the lane where forwards begin.
        back: likewise, of the lane where the head is.
        graphs: of captured steps.
        head: takes in what the forwards show, where there is one.
    """

    def __init__(
        self, decoder: Decoder, front: RowState, back: RowState, graphs: CudaGraphRunner, head: PackedHead | None
    ) -> None:
        super().__init__(decoder, front, graphs, PROMPT_TOKENS, head)
        self.back = back
        self._found = Logprobs.empty(1, self.chunk, back.device)

    def fill_rows(self, rows: Sequence[tuple[int, SequenceState]], sliding: SlidingPool | None = None) -> int:
        """Queues the prefill of rows in these slots, and gives them the log probabilities of their prompts; returns how many tokens that were.

        Args:
            rows: and their slots.
            sliding: see Prefill.fill.
        """
        found = {slot: PromptLogprobs() for slot, _ in rows}
        for forward in self._packed([(slot, 0, sequence.length) for slot, sequence in rows], sliding):
            self._load(forward)
            size = self._size(forward)
            key = ("prefill with logprobs", size)
            self.graphs.run(key, partial(self.forward, size=size), self.state.lane)
            here = read_logprobs(self._found, 1, forward.tokens, self.back.lane)
            copied, first = self.back.lane.mark(), 0
            for slot, start, end in forward.stretches:
                stretch = slice(first, first + end - start)
                found[slot].stretches.append((Logprobs(*(part[:, stretch] for part in here)), copied))
                first = stretch.stop
        for slot, sequence in rows:
            sequence.prompt_logprobs = partial(found[slot].read, sequence.request)
        return sum(sequence.length for _, sequence in rows)

    def forward(self, capture: Capture, size: int) -> None:
        """The step of a size, over the tokens that are loaded."""
        tokens, at, taps = self._loaded(size)
        hidden, at = self.decoder.forward(capture, tokens, at, taps)
        if self.head is not None and taps is not None:
            self.head.take_in_packed(taps, at)
        logits, at = self.decoder.logits(capture, hidden, at)
        following = self.back.history[at.token_slots, at.token_positions + 1]
        for place, part in zip(self._found, self.decoder.ops.logprobs(logits[None], following[None]), strict=True):
            place[:, :size] = part
