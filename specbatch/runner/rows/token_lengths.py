"""A bound on the characters of a token: a text that is too long is refused before it is tokenised, which takes 200 times its size."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tokenizers import pre_tokenizers

_SPACES = "".join(map(chr, range(0x3001))).translate({at: None for at in range(0x3001) if not chr(at).isspace()})

# Parts of a tokenizer that leave no character out, and such as leave out white space alone.
_KEEP = {"ByteLevel", "Prepend", "Lowercase", "NFC", "NFD", "NFKC", "NFKD", "Metaspace", "Digits", "UnicodeScripts"}
_DROP_SPACE = {"Strip", "Whitespace", "WhitespaceSplit", "BertPreTokenizer"}


@dataclass(frozen=True, slots=True)
class TokenLengths:
    """A bound of a tokenizer that loses no characters.

    Args:
        longest: the most characters of a text that become one token.
        spaces: whether white space counts; it may get lost, or be part of a special token, in any number.
        composed: the Unicode normal form that makes several characters one before; None where there is none.
    """

    longest: int
    spaces: bool = True
    composed: Literal["NFC", "NFKC"] | None = None

    def least_tokens(self, text: str) -> int:
        """No fewer tokens than these has the text."""
        text = unicodedata.normalize(self.composed, text) if self.composed and not text.isascii() else text
        characters = len(text)
        if not self.spaces:
            characters -= sum(text.count(space) for space in _SPACES)
        return -(-characters // self.longest)


def token_lengths(tokenizer: Any) -> TokenLengths | None:
    """The bound of a tokenizer; None where there is none: it leaves characters out, or takes unknown ones together."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return None
    try:
        parts: Mapping[str, Any] = json.loads(backend.to_str())
        return _of(parts)
    except Exception:  # noqa: BLE001 - parts of tokenizers that are written in Python cannot be written out
        return None


def _of(parts: Mapping[str, Any]) -> TokenLengths | None:
    model = parts["model"]
    steps = (*_flat(parts.get("normalizer")), *_flat(parts.get("pre_tokenizer")))
    if model.get("type") != "BPE" or not _knows_every_byte(model, steps):
        return None
    spaces, composed = True, None
    for part in steps:
        kind = part["type"]
        if kind in {"NFC", "NFKC"}:
            composed = kind
        if kind in _DROP_SPACE:
            spaces = False
        elif kind not in _KEEP and not _keeps(part):
            return None
    added = parts.get("added_tokens") or []
    if any(token.get("lstrip") or token.get("rstrip") for token in added):
        spaces = False
    longest = max([len(token) for token in model["vocab"]] + [len(token["content"]) for token in added])
    return TokenLengths(longest, spaces, composed)


def _knows_every_byte(model: Mapping[str, Any], steps: Iterable[Mapping[str, Any]]) -> bool:
    """Whether no text is unknown to the vocabulary: what is, gets lost or becomes one token however long it is."""
    vocabulary = model["vocab"]
    if any(step["type"] == "ByteLevel" for step in steps):
        return all(letter in vocabulary for letter in pre_tokenizers.ByteLevel.alphabet())
    return bool(model.get("byte_fallback")) and all(f"<0x{byte:02X}>" in vocabulary for byte in range(256))


def _keeps(part: Mapping[str, Any]) -> bool:
    """Whether a part with a pattern leaves nothing out."""
    if part["type"] in {"Split", "Punctuation"}:
        return part.get("behavior") != "Removed"
    if part["type"] == "Replace":
        pattern = part["pattern"].get("String")
        return pattern is not None and len(part["content"]) >= len(pattern) > 0
    return False


def _flat(part: Mapping[str, Any] | None) -> Iterator[Mapping[str, Any]]:
    """The parts of a sequence of sequences."""
    if part is None:
        return
    inner = part.get("normalizers") or part.get("pretokenizers")
    if part["type"] == "Sequence":
        for one in inner or ():
            yield from _flat(one)
    else:
        yield part
