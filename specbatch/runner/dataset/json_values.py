"""Splits JSON that is not one object a line into its rows, in bounded memory: an array, or objects one after another over any lines.

Only brackets, quotes and commas are looked at. Each row leaves as its bytes, and is parsed like a line: a bad one is that row's error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from specbatch.errors import DatasetError
from specbatch.runner.dataset.lines import KEPT_BYTES, Line

_STRING = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)  # up to its end, or to half of an escape
_INSIDE = re.compile(rb'["{}\[\]]')
_BETWEEN = re.compile(rb'["{}\[\],]')
_BLANK = b" \t\r\n\xef\xbb\xbf"
_END_BYTES = 1 << 16


def read_values(
    chunks: Iterator[bytes], name: str, max_bytes: int, *, end: re.Pattern[bytes] | None = None
) -> Iterator[Line]:
    """The rows; one over `max_bytes` is passed over, its first kilobyte kept.

    Args:
        chunks: UTF-8, from the first row on: of an array, what follows its first bracket.
        name: of the file, for people.
        max_bytes: the most that a row may have.
        end: what must follow the last row of an array, its bracket included; None where there is no array around the rows.

    Raises:
        DatasetError: after the rows: the array does not end, or it is followed by something else.
    """
    span, depth, in_string, escape, offset = _Span(max_bytes), 0, False, b"", 0
    for chunk in chunks:
        data = escape + chunk
        begin = at = 0
        while True:
            token, at, in_string = _next_token(data, at, _INSIDE if depth else _BETWEEN, in_string=in_string)
            if not token:
                break
            closes = token in b"]}"
            if depth == 0:  # between two rows, where nothing stands, or what is no object
                span.add(data[begin : at - 1])
                yield from span.take(offset + at - 1)
                if closes and end is not None:
                    return _check_end(data[at - 1 :], chunks, end, name, span.line)
                begin = at if token == b"," else at - 1
                depth = 1 if token in b"{[" else 0
            elif not closes:
                depth += 1
            else:
                depth -= 1
                if depth == 0:
                    span.add(data[begin:at])
                    begin = at
                    yield from span.take(offset + at)
        span.add(data[begin:at])
        escape = data[at:]  # the first half of one
        offset += at
    if end is not None:
        raise DatasetError(
            "the JSON array ends in the middle: the file was cut, or is still being written",
            where=name,
            remedy="copy the whole file again, and start with --fresh; the rows before the cut are in the results",
        )
    span.add(escape)
    yield from span.take(offset + len(escape))


def _next_token(data: bytes, at: int, tokens: re.Pattern[bytes], *, in_string: bool) -> tuple[bytes, int, bool]:
    """The next bracket or comma outside of strings, its end, and False; at the end of the data b"", how far it is clear, and whether in a string."""
    while True:
        if in_string:
            matched = _STRING.match(data, at)
            at = matched.end() if matched else at
            if data[at : at + 1] != b'"':
                return b"", at, True
            at += 1
        found = tokens.search(data, at)
        if found is None:
            return b"", len(data), False
        at, in_string = found.end(), found[0] == b'"'
        if not in_string:
            return found[0], at, False


def _check_end(data: bytes, chunks: Iterator[bytes], end: re.Pattern[bytes], name: str, line: int) -> None:
    while len(data) < _END_BYTES and (chunk := next(chunks, b"")):
        data += chunk
    if not end.fullmatch(data):
        raise DatasetError(
            f"the JSON array ends at line {line}, and something else follows",
            where=name,
            remedy="write all rows into one array, or one object a line (jq -c)",
        )


class _Span:
    """The bytes since the last row, in bounded memory. `line` is where they begin, from 1."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._held: list[bytes] = []
        self._length = self._newlines = 0
        self.line = 1

    def add(self, piece: bytes) -> None:
        self._newlines += piece.count(b"\n")
        self._length += len(piece)
        self._held.append(piece)
        if self._length > self._max_bytes:
            self._held = [b"".join(self._held)[:KEPT_BYTES]]

    def take(self, end: int) -> Iterator[Line]:
        """The row that they are, which ends there in the file; none where they are blank."""
        data = b"".join(self._held)
        bare = data.lstrip(_BLANK)
        number, too_long = self.line + data[: len(data) - len(bare)].count(b"\n"), self._length > self._max_bytes
        self.line += self._newlines
        self._held, self._length, self._newlines = [], 0, 0
        if bare:
            yield Line(number, bare if too_long else bare.rstrip(_BLANK), end, too_long)
