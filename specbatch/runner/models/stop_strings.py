"""Stop strings, found across token boundaries and inside multi-byte characters, at a bounded cost a token.

The rule, whatever the drafter proposed and however tokens arrive: a row stops at the first token after which its decoded text holds a
stop string. Decoding the whole row after every token would say so, and cost the square of its length; instead a window
of tokens is decoded: those whose text is already known to be final (they give the context), and the new ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from specbatch.runner.models.tokenizer import Detokenizer

_UNFINISHED = "\N{REPLACEMENT CHARACTER}"
_MAX_HELD_TOKENS = 8  # no character has more than 4 bytes: longer than this it is not unfinished but invalid


@dataclass(frozen=True, slots=True)
class _Window:
    """The state of reading: the last tokens, how many of them have been read, and the end of the text read."""

    tokens: tuple[int, ...] = ()
    read: int = 0
    read_text: str = ""  # of tokens[:read]
    tail: str = ""  # the last characters of all the text read, too few to hold a stop string


class StopStrings:
    """A StopCheck of the engine for one row.

    A stop string that is itself a special token ("<|im_end|>") stops the row at that token, though it has no text.

    Args:
        detokenizer: of the target's tokenizer.
        stops: non-empty strings.
        min_tokens: of the row: a stop string that ends within so many does not count.
    """

    def __init__(self, detokenizer: Detokenizer, stops: Sequence[str], min_tokens: int = 0) -> None:
        self._decode = detokenizer
        self._stops = tuple(stops)
        self._tail_length = max((len(stop) for stop in stops), default=1) - 1
        special = (detokenizer.special_id(stop) for stop in stops)
        self._special_ids = frozenset(token_id for token_id in special if token_id is not None)
        # Only there does later text never change earlier text, so that several tokens may be looked at together.
        self._together = detokenizer.is_byte_level and not any(_UNFINISHED in stop for stop in stops)
        self._window = _Window()
        self._left = min_tokens  # tokens in which nothing counts

    def __call__(self, new_token_ids: Sequence[int]) -> int | None:
        """How many of the new tokens to keep, or None to go on."""
        early = min(self._left, len(new_token_ids))
        if early:
            self._left -= early
            for token_id in new_token_ids[:early]:
                self._window, _ = self._advance(self._window, (token_id,))
            kept = self(new_token_ids[early:]) if early < len(new_token_ids) else None
            return None if kept is None else early + kept
        if self._together and self._special_ids.isdisjoint(new_token_ids):
            after, found = self._advance(self._window, new_token_ids)
            if not found:
                self._window = after
                return None
        for kept, token_id in enumerate(new_token_ids, start=1):
            self._window, found = self._advance(self._window, (token_id,))
            if found or token_id in self._special_ids:
                return kept
        return None

    def _advance(self, window: _Window, new_token_ids: Sequence[int]) -> tuple[_Window, bool]:
        """The window after some tokens, and whether the text now holds a stop string."""
        new = tuple(token_id for token_id in new_token_ids if token_id not in self._decode.special_ids)
        if not new:
            return window, False
        tokens = window.tokens + new
        text = self._decode(tokens)
        fresh = window.tail + text[len(window.read_text) :]
        # It ends in the new text: one that lies in the tail was found before, or did not count.
        found = any(stop in fresh[max(0, len(window.tail) - len(stop) + 1) :] for stop in self._stops)
        unfinished = text.endswith(_UNFINISHED) or len(text) <= len(window.read_text)
        if not unfinished:
            return self._read(window, tokens, len(tokens), fresh), found
        if len(tokens) - window.read <= _MAX_HELD_TOKENS:
            return replace(window, tokens=tokens), found
        end = self._character_boundary(tokens, text)
        return self._read(window, tokens, end, window.tail + self._decode(tokens[:end])[len(window.read_text) :]), found

    def _read(self, window: _Window, tokens: tuple[int, ...], end: int, text: str) -> _Window:
        """The window once tokens[:end] are read; `text` ends with theirs."""
        tail = text[-self._tail_length :] if self._tail_length else ""
        context = tokens[window.read : end]
        return _Window(tokens[window.read :], len(context), self._decode(context), tail)

    def _character_boundary(self, tokens: tuple[int, ...], text: str) -> int:
        """The last place, before the end, where the tokens may be parted without changing the text."""
        for end in range(len(tokens) - 1, len(tokens) - 5, -1):
            if self._decode(tokens[:end]) + self._decode(tokens[end:]) == text:
                return end
        return len(tokens)


def final_text(detokenizer: Detokenizer, token_ids: Sequence[int], stops: Sequence[str], min_tokens: int = 0) -> str:
    """The text of a finished row, cut before the first stop string that ends beyond the first `min_tokens` tokens."""
    text = detokenizer(token_ids)
    early = len(detokenizer(token_ids[:min_tokens])) if stops and min_tokens else 0
    found = [at for at in (text.find(stop, max(0, early - len(stop) + 1)) for stop in stops) if at >= 0]
    return text[: min(found)] if found else text
