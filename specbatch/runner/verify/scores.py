"""The target's scores after any tokens of a row, and where they come from: the native engine's target, in float32 where that fits, or the engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from specbatch.engine.engine import Engine
from specbatch.engine.general.cache import SlotView
from specbatch.engine.general.model import CausalLM
from specbatch.engine.memory import release
from specbatch.runner.engine_set import EngineSet

_AHEAD = 32  # tokens of the replay in one forward: most of them stand
_CHUNK = 256  # tokens of a prompt in one forward
_EXTENT_STEP = 64
_FLOAT32_RESERVE = 2 << 30  # bytes of a GPU left for one row's cache, activations and logits


class Scores(Protocol):
    """What a target thinks of the next token."""

    def after(self, prompt: Sequence[int], tokens: Sequence[int], guess: Sequence[int]) -> Tensor:
        """Logits of the next token, in float32.  # [vocab]

        Args:
            prompt: at least one token.
            tokens: of the completion so far.
            guess: how the completion may go on from its start; where `tokens` begins like it, its next tokens may be looked at too.
        """
        ...


class ScoreSource:
    """Takes the scores of engines that have decoded.

    Args:
        ready: the engines. Native ones are let go, all but the first one's target.
    """

    def __init__(self, ready: EngineSet) -> None:
        first = ready.engines[0]
        self._target = first.target if isinstance(first, Engine) else None
        self._of_engine = ready.scores
        self.dtype = ready.dtype
        if self._target is not None:
            ready.engines.clear()  # with them goes what they hold beside the target: pages, recordings, the other replicas' weights

    def scores(self, longest: int) -> tuple[Scores, torch.dtype]:
        """The scores, and the dtype that they are computed in.

        Args:
            longest: tokens of the longest row, prompt and completion.
        """
        if self._target is None:
            assert self._of_engine is not None, "an engine of another kind gives its own scores"
            return self._of_engine(), self.dtype
        computed = torch.float32 if _to_float32(self._target) else self.dtype
        return TargetScores(self._target, longest), computed


class TargetScores:
    """The target's logits after any tokens of one row, by as few forwards as the cache allows.

    Args:
        target: its slots are taken over.
        max_positions: of the longest row, prompt and completion.
    """

    def __init__(self, target: CausalLM, max_positions: int) -> None:
        self._target = target
        self._max_positions = max_positions + _AHEAD
        target.allocate(1, self._max_positions)
        self._sequence: list[int] = []  # whose KV the slot holds
        self._logits: dict[int, Tensor] = {}  # by position

    def after(self, prompt: Sequence[int], tokens: Sequence[int], guess: Sequence[int]) -> Tensor:
        """Logits of the next token, in float32.  # [vocab]

        Args:
            prompt: at least one token.
            tokens: of the completion so far.
            guess: how the completion may go on from its start; where `tokens` begins like it, its next tokens are looked at too.
        """
        sequence = [*prompt, *tokens]
        last = len(sequence) - 1
        shared = next(
            (i for i, (a, b) in enumerate(zip(self._sequence, sequence, strict=False)) if a != b),
            min(len(self._sequence), len(sequence)),
        )
        if shared <= last or last not in self._logits:
            start = min(shared, last)
            ahead = guess[len(tokens) : len(tokens) + _AHEAD - 1] if list(guess[: len(tokens)]) == list(tokens) else []
            self._run([*sequence, *ahead], start, keep_from=last)
        return self._logits[last]

    def _run(self, sequence: list[int], start: int, keep_from: int) -> None:
        self._logits = {position: logits for position, logits in self._logits.items() if position < start}
        while start < len(sequence):
            # Positions before `keep_from` fill the cache alone: no logits of a long prompt.
            end = min(start + _CHUNK, keep_from if start < keep_from else len(sequence))
            positions = torch.arange(start, end, device=self._target.input_device)[None]
            extent = min(-(-end // _EXTENT_STEP) * _EXTENT_STEP, self._max_positions)
            ids = torch.tensor([sequence[start:end]], device=self._target.input_device)
            view = SlotView(slice(0, 1), positions, extent)
            if end <= keep_from:
                self._target.fill(ids, view)
            else:
                logits = self._target.forward(ids, view)[0].float()
                self._logits.update({start + i: one for i, one in enumerate(logits)})
            start = end
        self._sequence = sequence


def _to_float32(target: CausalLM) -> bool:
    """Turns the target into float32 where that fits; whether it is. No engine decodes with it any more."""
    target.cache = None
    devices = {parameter.device for parameter in target.model.parameters()}
    for device in devices:
        release(device)
    if target.model.dtype == torch.float32:
        return True
    if not all(_fits_in_float32(target, device) for device in devices):
        return False
    target.model.float()
    return True


def _fits_in_float32(target: CausalLM, device: torch.device) -> bool:
    if device.type != "cuda":
        return True
    weights = [one for one in target.model.parameters() if one.device == device and one.is_floating_point()]
    growth: int = sum(one.numel() * (4 - one.element_size()) for one in weights)
    largest: int = max((4 * one.numel() for one in weights), default=0)  # old and new stand side by side for a moment
    free: int = torch.cuda.mem_get_info(device)[0]
    return growth + largest + _FLOAT32_RESERVE <= free
