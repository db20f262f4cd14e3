"""Splits chunks into lines in bounded memory, and deals rows to shards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from specbatch.results.rows import ErrorCode
from specbatch.runner.dataset.bad_rows import RowError

MAX_LINE_BYTES = 16 << 20  # a longer line becomes an error row; it is never held in memory
KEPT_BYTES = 1024  # of a line that is too long: enough to tell it by
_UTF8_BOM = b"\xef\xbb\xbf"


@dataclass(slots=True)  # not frozen, which costs three times as much to make: a restart reads every row again
class RawRow:
    """One row of the dataset as its file holds it, not yet understood.

    Attributes:
        index: position among the dataset's rows, from 0, over all files; blank lines don't count.
        line_number: from 1, within the file: of its first line, or of the row in a table.
        data: a JSON object, or a line of text, without its end; of a line over the limit only the first kilobyte. Empty in a table.
        error: what is wrong with it, where its file's reader has found something.
        is_text: whether every line of the file is a prompt.
        fields: column -> value as JSON has them (None: absent), in files that are tables; None in others.
        untyped: whether all values are strings, as in CSV: what is a number or a list is still to be parsed.
        unread: the columns that are not among the fields, and why, for people ("image (binary data)"); empty where there are none.
    """

    index: int
    line_number: int
    data: bytes
    error: RowError | None = None
    is_text: bool = False
    fields: Mapping[str, Any] | None = None
    untyped: bool = False
    unread: str = ""


class Line(NamedTuple):
    """A line of one file: its number from 1, its bytes without the end, where it ends in the file, whether it was cut."""

    number: int
    data: bytes
    end: int
    too_long: bool = False


@dataclass(frozen=True, slots=True)
class Shard:
    """The rows of one process: dealt out like cards, the same way on every start."""

    number: int = 0
    count: int = 1

    def holds(self, index: int) -> bool:
        """Whether the row of an index is one of them."""
        return index % self.count == self.number


def too_long() -> RowError:
    """The error of a row over `MAX_LINE_BYTES`."""
    return RowError(ErrorCode.LINE_TOO_LONG, f"the line is longer than {MAX_LINE_BYTES >> 20} MiB")


def read_lines(chunks: Iterator[bytes], max_bytes: int, *, keep_cr: bool = False) -> Iterator[Line]:
    r"""Splits chunks at \n (and at \r\n, unless `keep_cr`); a line over `max_bytes` is passed over, its first kilobyte kept."""
    number = 0
    begins = 0  # offset of the chunk
    held: list[bytes] = []
    held_bytes = 0
    for chunk in chunks:
        start = 0
        while (end := chunk.find(b"\n", start)) >= 0:
            number += 1
            cut = held_bytes + end - start > max_bytes
            yield Line(number, _line([*held, chunk[start:end]], cut=cut, keep_cr=keep_cr), begins + end + 1, cut)
            held, held_bytes, start = [], 0, end + 1
        rest = chunk[start:]
        held_bytes += len(rest)
        if held_bytes <= max_bytes:
            held.append(rest)
        else:
            held = [b"".join([*held, rest])[:KEPT_BYTES]]
        begins += len(chunk)
    if held_bytes:
        cut = held_bytes > max_bytes
        yield Line(number + 1, _line(held, cut=cut, keep_cr=keep_cr), begins, cut)


def _line(pieces: list[bytes], *, cut: bool, keep_cr: bool) -> bytes:
    data = b"".join(pieces)
    data = data[:KEPT_BYTES] if cut else data if keep_cr else data.removesuffix(b"\r")
    return data.removeprefix(_UTF8_BOM)  # of any line: files with a mark were joined by cat
