"""Rounds whose drafts are the grammars' own: where a row's grammar allows one token alone, nothing has to draft it.

Masks leave the target no other token, by either rule: such drafts are always accepted. The drafter, whose drafts are masked too, would have
drafted the same. So a round is the grammars' where it would have no drafts, or where every row has as many forced tokens as the drafter
would draft: it then need not run.
"""

from __future__ import annotations

from collections.abc import Sequence

from specbatch.engine.model_runner import ModelRunner
from specbatch.engine.sequence import SequenceState
from specbatch.engine.speculation.depth import MOST_FORCED

_STEPS = (1, 2, 4, MOST_FORCED)  # tokens a row: few, since each is a capture
_FREE_ON_GPU = 128  # tokens of a forward, up to which reading the weights takes longer than computing
_FREE_ON_CPU = 24  # measured at one row to 32 of SmolLM2-135M in float32


def forced_drafts(runner: ModelRunner, sequences: Sequence[SequenceState], k: int) -> list[list[int]] | None:
    """The drafts of the next round, where grammars are to make them; None where the drafter does, or none are worth it.

    Args:
        runner: that launches the round.
        sequences: of the round; none has another in flight.
        k: tokens that the drafter would draft.
    """
    beyond = min(sequence.remaining for sequence in sequences) - 1 + runner.config.max_k
    most = min(runner.max_forced(len(sequences)), beyond)
    if most < max(k, 1):
        return None
    found = list[list[int]]()
    for sequence in sequences:
        grammar = sequence.request.grammar
        found.append(list(grammar.forced(most)) if grammar is not None else [])
        if len(found[-1]) < k:
            return None
    free = _FREE_ON_GPU if runner.device.type == "cuda" else _FREE_ON_CPU
    widths = [width for width in sorted({0, *_STEPS, k}) if k <= width <= most]
    width = most_worth([len(tokens) for tokens in found], widths, free)
    return [tokens[:width] for tokens in found] if width else None


def most_worth(forced: Sequence[int], widths: Sequence[int], free: int) -> int:
    """How many positions more to verify, for the most tokens a second; of equals the fewest.

    Args:
        forced: tokens of each row.
        widths: to choose from.
        free: tokens that a forward takes no longer for than for one; beyond it is as long as it has tokens.
    """
    rows = len(forced)

    def speed(width: int) -> float:
        return (rows + sum(min(each, width) for each in forced)) / max(free, rows * (width + 1))

    return max(widths, key=speed)
