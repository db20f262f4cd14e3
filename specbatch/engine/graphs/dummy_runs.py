"""What stands in for rows before there are any: PyTorch loads a kernel when it is first used, captures want runs, and times too."""

from __future__ import annotations

from specbatch.engine.graphs.pair import CapturedPair
from specbatch.engine.request import Request
from specbatch.engine.sequence import SequenceState


def dummy_join(pair: CapturedPair) -> None:
    """Does once what the host does for a joining row, which pins new memory, too.

    The padding slot is left with the position of a row that begins.
    """
    for pool in pair.pools:
        pool.reserve([(pair.slots, 1)])
        pool.evict(pair.slots)
        pool.upload()  # of a table that is as it was: what counts is the copy
    for state in {pair.front, pair.state, *pair.drafting_states}:
        state.join([pair.slots], [SequenceState(Request("", [0], 1))])
    for rows in {1, pair.slots}:
        pair.read_outcome(rows, 0)


def dummy_prefill(
    pair: CapturedPair, size: int, *, target: bool = True, start: int = 0, slot: int | None = None
) -> None:
    """Queues a prefill forward of a size, over tokens of a slot, or the padding slot, from `start` on: of all models, or of the drafters alone."""
    for prefill in (*([pair.prefill] if target else []), *pair.drafter.prefills):
        length = min(size, pair.config.max_length, prefill.longest)
        first = min(start, prefill.longest - length)
        counts = [length] * (size // length) + [size % length]
        prefill.fill([(pair.slots if slot is None else slot, first, first + count) for count in counts])
