"""How much of a dataset's prompts stands at the beginning of another row's prompt, too: it is computed once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from specbatch.engine.prefix import PAGE, prefix_keys
from specbatch.formatting import format_percent

# Of UTF-8, that stand in for a page of tokens: of English, Chinese and code a token takes 3 to 5 of them.
_BYTES = 4 * PAGE
_GROUPS = 5  # that are named


class SharedBeginning(msgspec.Struct, kw_only=True):
    """Prompts that begin alike.

    Args:
        prompts: how many; of a row that wants n completions n.
        row: index of the first of them.
        length: tokens, or bytes, that all of them begin with.
        saved: tokens, or bytes, that need not be computed again.
    """

    prompts: int
    row: int
    length: int
    saved: int


class Sharing(msgspec.Struct, frozen=True):
    """What prompts share.

    Args:
        unit: tokens; bytes of UTF-8 where there is no tokenizer, and all of it an estimate.
        rows: that were looked at, those that would be refused among them.
        total: of all prompts.
        shared: in whole pages, that an earlier prompt begins with.
        beginnings: those by which most is saved, most first.
    """

    unit: Literal["tokens", "bytes"]
    rows: int
    total: int
    shared: int
    beginnings: Sequence[SharedBeginning]

    @property
    def text(self) -> str:
        """In a few words."""
        share = format_percent(self.shared / self.total)
        rows = f"the first {self.rows:,} rows" if self.rows > 1 else "the first row"
        if self.unit == "bytes":
            return f"about {share} of the prompts of {rows}, by bytes since there is no tokenizer here: earlier rows begin with it, so it is not computed again"
        return f"{share} of the prompt tokens of {rows} ({self.shared:,} of {self.total:,}): earlier rows begin with them, so they are not computed again"

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        fields: dict[str, Any] = msgspec.to_builtins(self)
        return fields

    def examples(self) -> Iterator[str]:
        """Which prompts begin alike."""
        for one in self.beginnings:
            yield f"{one.prompts:,} prompts (row {one.row} is the first) begin with the same {one.length:,} {self.unit}"


@dataclass(slots=True)
class SharedPrompts:
    """Counts tokens of prompts, and those of them that an engine need not compute again; or bytes, of prompts that are not tokenized.

    unit: see Sharing
    """

    unit: Literal["tokens", "bytes"] = "tokens"
    total: int = 0
    shared: int = 0
    _seen: set[bytes] = field(default_factory=set)
    _groups: dict[bytes, tuple[SharedBeginning, list[bytes]]] = field(default_factory=dict)  # by the first page

    def add(self, row: int, prompt: Sequence[int] | str, completions: int) -> None:
        """Counts a row's prompt."""
        if isinstance(prompt, str):
            encoded = prompt.encode("utf-8", "surrogatepass")
            page, length, keys = _BYTES, len(encoded), _keys_of(encoded)
        else:
            page, length, keys = PAGE, len(prompt), prefix_keys(prompt, PAGE)
        known = next((place for place, key in enumerate(keys) if key not in self._seen), len(keys))
        self._seen.update(keys[known:])
        shared = page * (known + (completions - 1) * len(keys))
        self.total += completions * length
        self.shared += shared
        if keys:
            new = SharedBeginning(prompts=0, row=row, length=page * len(keys), saved=0)
            group, first = self._groups.setdefault(keys[0], (new, keys))
            alike = next((at for at, (a, b) in enumerate(zip(keys, first, strict=False)) if a != b), len(keys))
            group.prompts += completions
            group.saved += shared
            group.length = min(group.length, page * alike)

    def found(self, rows: int) -> Sharing:
        """What was counted, of so many rows."""
        groups = sorted((group for group, _ in self._groups.values() if group.saved), key=lambda group: -group.saved)
        return Sharing(self.unit, rows, self.total, self.shared, groups[:_GROUPS])


def _keys_of(text: bytes) -> list[bytes]:
    """As prefix_keys, of UTF-8."""
    hashed, keys = hashlib.blake2b(digest_size=16), []
    for begin in range(0, len(text) - _BYTES + 1, _BYTES):
        hashed.update(text[begin : begin + _BYTES])
        keys.append(hashed.digest())
    return keys
