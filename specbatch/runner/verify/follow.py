"""Following a recorded text through the target's scores: is there a way to it on which every token was the best, or as good as the best?

The results hold text, so the tokens are found on the way: a token fits where the text so far, with it, still goes on as recorded
(a character's last bytes may be missing, a stop string may have begun), and where the engine's own rule ends the row just when
the recorded row ended. At each position the tokens within the bound of the best one are tried, the replay's own first.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch

from specbatch.api.decoding import DecodingSpec
from specbatch.engine.margins import Contest, tie_bound
from specbatch.engine.request import Request
from specbatch.engine.sequence import SequenceState
from specbatch.results.rows import Choice
from specbatch.results.verification import Divergence
from specbatch.runner.models.stop_strings import final_text
from specbatch.runner.models.tokenizer import Detokenizer
from specbatch.runner.verify.scores import Scores

_UNFINISHED = "\N{REPLACEMENT CHARACTER}"
_LOOKED_AT = 1000  # of the likeliest tokens, for the one that goes on as recorded
_EXTRA_STEPS = 256  # positions looked at beyond the row's own length, where tokens as good as the best lead nowhere
_BEFORE, _AFTER = 32, 32  # characters of an excerpt


@dataclass(slots=True)
class _Step:
    """One position on the way: the row before it, what may come, and how near the token taken was."""

    row: SequenceState
    options: list[tuple[int, SequenceState]]  # still to be tried, the first one last
    best: int
    contest: Contest
    taken: int = -1
    bound: float = 0.0

    @property
    def margin(self) -> float:
        return self.contest.margin(self.taken)


@dataclass(slots=True)
class Follower:
    """Judges rows that the replay did not repeat.

    Args:
        scores: of the target.
        detokenizer: of its tokenizer.
        dtype: that the run computed in: the bound is its.
        fp8_kv: whether its keys and values were kept in FP8.
    """

    scores: Scores
    detokenizer: Detokenizer
    dtype: torch.dtype
    fp8_kv: bool = False
    _guess: Sequence[int] = field(default=(), init=False)

    def judge(
        self, recorded: Choice, index: int, request: Request, decoding: DecodingSpec, replayed: Sequence[int]
    ) -> Divergence:
        """A tie where the recorded text can be reached, else unexplained.

        Args:
            recorded: the completion as the run wrote it.
            index: of its row.
            request: made from the dataset again: its stop check has seen nothing yet.
            decoding: of the row.
            replayed: the tokens of the replay.
        """
        self._guess = replayed
        shape = _Recorded(recorded, decoding, self.detokenizer)
        way = [self._step(SequenceState(request), shape)]
        deepest = way[0]
        left = recorded.completion_tokens + _EXTRA_STEPS
        while way and left:
            here = way[-1]
            if not here.options:
                way.pop()
                continue
            here.taken, row = here.options.pop()
            if len(row.token_ids) == recorded.completion_tokens:
                return self._tie(recorded, index, way, row)
            left -= 1
            way.append(self._step(row, shape))
            if len(row.token_ids) > len(deepest.row.token_ids):
                deepest = way[-1]
        return self._unexplained(recorded, index, deepest, shape)

    def _step(self, row: SequenceState, shape: _Recorded) -> _Step:
        position = len(row.token_ids)
        logits = self.scores.after(row.request.prompt_token_ids, row.token_ids, self._guess)
        contest = Contest.of(logits, row.request, row.token_ids)
        bound = tie_bound(self.dtype, logits, fp8_kv=self.fp8_kv)
        winners = contest.winners(bound)
        options = [(token, after) for token in winners if (after := shape.extended(row, token)) is not None]
        if list(self._guess[:position]) == row.token_ids and position < len(self._guess):
            options.sort(key=lambda option: option[0] != self._guess[position])  # stable: else the best first
        # Of what may win within the bound the first may be one that top-p leaves out by a hair: not the target's own.
        exact = contest.winners(0.0)
        best = exact[0] if exact else int(contest.scores.nan_to_num(-torch.inf).argmax())
        return _Step(row, options[::-1], best, contest, bound=bound)

    def _tie(self, recorded: Choice, index: int, way: Sequence[_Step], row: SequenceState) -> Divergence:
        """The place that was nearest to being none: the largest margin over the best token, else where the replay went apart."""
        steps = [step for step in way if step.taken != step.best]
        if steps:
            step = max(steps, key=lambda step: step.margin)
            return self._divergence(recorded, index, step, step.taken, step.best, step.margin, "tie")
        tokens = row.token_ids
        pairs = enumerate(zip(tokens, self._guess, strict=False))
        at = next((i for i, (a, b) in pairs if a != b), min(len(tokens), len(self._guess)) - 1)
        other = self._guess[at] if at < len(self._guess) else tokens[at]
        step = way[at]
        return self._divergence(recorded, index, step, tokens[at], other, step.contest.margin(other), "tie")

    def _unexplained(self, recorded: Choice, index: int, step: _Step, shape: _Recorded) -> Divergence:
        # Only a token that shows: special ones, and bytes that may become any character, would fit everywhere.
        fitting = next((token for token in step.contest.ranked(_LOOKED_AT) if shape.shows(step.row, token)), None)
        margin = None if fitting is None else step.contest.margin(fitting)
        return self._divergence(recorded, index, step, fitting, step.best, margin, "unexplained")

    def _divergence(
        self, recorded: Choice, index: int, step: _Step, token: int | None, other: int, margin: float | None, kind: str
    ) -> Divergence:
        at = len(self.detokenizer(step.row.token_ids).rstrip(_UNFINISHED))
        text = recorded.text
        before = ("..." if at > _BEFORE else "") + text[max(0, at - _BEFORE) : at]
        after = text[at : at + _AFTER] + ("..." if len(text) > at + _AFTER else "")
        return Divergence(
            id=recorded.id,
            index=index,
            kind="tie" if kind == "tie" else "unexplained",
            position=len(step.row.token_ids),
            recorded=None if token is None else self.detokenizer.token(token),
            target=self.detokenizer.token(other),
            margin=margin,
            bound=step.bound,
            excerpt=f"{before}|{after}",
        )


class _Recorded:
    """A recorded row as something to be reached token by token."""

    def __init__(self, recorded: Choice, decoding: DecodingSpec, detokenizer: Detokenizer) -> None:
        self._recorded = recorded
        self._decoding = decoding
        self._decode = detokenizer
        # Tokens may spell a part of a stop string before the row ends at it; the text is cut before it.
        self._endings = [
            recorded.text,
            *(recorded.text + stop for stop in decoding.stop if recorded.finish_reason == "stop"),
        ]

    def extended(self, row: SequenceState, token: int) -> SequenceState | None:
        """The row with one token more, by the engine's rule; None where the recorded row cannot be reached from there."""
        request = row.request
        if request.stop is not None or request.grammar is not None:
            request = replace(request, stop=copy.copy(request.stop), grammar=copy.copy(request.grammar))
        after = SequenceState(request, [*row.token_ids])
        reason = after.extend([token])
        ended = len(after.token_ids) == self._recorded.completion_tokens
        if (reason is not None) != ended:
            return None
        if ended:
            if reason != self._recorded.finish_reason:
                return None
            text = final_text(self._decode, after.token_ids, self._decoding.stop, self._decoding.min_tokens)
            return after if text == self._recorded.text else None
        return after if self._goes_on(self._decode(after.token_ids)) else None

    def shows(self, row: SequenceState, token: int) -> bool:
        """Whether the token goes on as recorded in a way that can be seen: more text, or the row's end."""
        after = self.extended(row, token)
        if after is None:
            return False
        text, before = (self._decode(one.token_ids).rstrip(_UNFINISHED) for one in (after, row))
        return len(text) > len(before) or len(after.token_ids) == self._recorded.completion_tokens

    def _goes_on(self, text: str) -> bool:
        # Byte-level, one unfinished character at the most stands at the end; elsewhere each of its bytes does.
        text = text.removesuffix(_UNFINISHED) if self._decode.is_byte_level else text.rstrip(_UNFINISHED)
        return any(ending.startswith(text) for ending in self._endings)
