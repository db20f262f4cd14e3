"""Reads CSV as a stream of records (RFC 4180): quoted fields over lines, any of four delimiters. A bad record is that row's error."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Sequence

from specbatch.errors import DatasetError
from specbatch.results.rows import ErrorCode
from specbatch.runner.dataset.bad_rows import RowError, shown
from specbatch.runner.dataset.chunks import ReadPosition
from specbatch.runner.dataset.lines import MAX_LINE_BYTES, RawRow, read_lines, too_long

DELIMITERS = (",", "\t", ";", "|")
_HEAD_LINES = 200
_RECORDS_LOOKED_AT = 5
_LONGEST_NAME = 64
_EXCEL = "sep="  # Excel's own first line


def delimiter_of(head: str) -> str:
    """The delimiter of CSV that begins so: the one that divides the first records alike, or else is there most often in the first line."""
    lines = _lines_of(head)
    if lines[0].startswith(_EXCEL) and lines[0].rstrip() != _EXCEL:
        return lines[0][len(_EXCEL)]
    return _divides_alike(lines) or max(DELIMITERS, key=lines[0].count)


def looks_like_csv(head: str) -> bool:
    """Whether the first records have one number of fields, more than one, and the first could be names of columns."""
    lines = _lines_of(head)
    if lines[0].startswith(_EXCEL):
        return True
    delimiter = _divides_alike(lines)
    return bool(delimiter) and all(
        len(name.strip()) <= _LONGEST_NAME for name in next(csv.reader(lines, delimiter=delimiter))
    )


def _lines_of(head: str) -> list[str]:
    return [f"{line}\n" for line in head.split("\n")[:_HEAD_LINES]]


def _divides_alike(lines: Sequence[str]) -> str:
    """The delimiter by which the first records have one number of fields, more than one; "" for none."""
    for delimiter in DELIMITERS:
        try:
            records = [record for record in csv.reader(lines, delimiter=delimiter) if record][: _RECORDS_LOOKED_AT + 1]
        except csv.Error:
            continue
        widths = [len(record) for record in records]
        # The last one may be cut off by the end of the head.
        whole = widths[:-1] if len(widths) > 2 else widths
        if len(whole) > 1 and min(whole) == max(whole) > 1:
            return delimiter
    return ""


def read_csv(chunks: Iterator[bytes], delimiter: str, name: str, position: ReadPosition) -> Iterator[RawRow]:
    """The rows below the header; all values are strings, an empty one is None.

    Args:
        chunks: UTF-8.
        delimiter: one character.
        name: of the file, for people.
        position: follows what was taken.

    Raises:
        DatasetError: no header, a column's name that is there twice, or a quoted field without an end.
    """
    csv.field_size_limit(MAX_LINE_BYTES)
    lines = _Lines(chunks, position)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    names: list[str] | None = None
    while True:
        first = reader.line_num + 1
        record, error = _next_record(reader, lines, name, first)
        if record is None and error is None:
            return
        if names is None:
            if error is not None:
                raise DatasetError(
                    f"its header, line {first}: {error.message}", where=name, remedy="mend the first line"
                )
            if record and not (first == 1 and record[0] == _EXCEL):
                names = _names(record, name)
        elif error is not None:
            yield RawRow(0, first, b"", error)
        elif record:
            yield _row(first, record, names)


def _next_record(
    reader: Iterator[list[str]], lines: _Lines, name: str, first: int
) -> tuple[list[str] | None, RowError | None]:
    """The next record, or what is wrong with it; neither at the end."""
    lines.error = None
    try:
        record = next(reader, None)
    except csv.Error as error:
        if "field larger" in str(error):
            raise DatasetError(
                f"a quoted field begins at line {first}, and does not end within {MAX_LINE_BYTES >> 20} MiB",
                where=name,
                remedy='a quote is missing there; within a quoted field a quote is written twice ("")',
            ) from error
        message = f"not CSV as of RFC 4180 ({error}); within a quoted field a quote is written twice"
        return [], RowError(ErrorCode.INVALID_ROW, message)
    return record, lines.error


def _names(record: Sequence[str], name: str) -> list[str]:
    names = [column.strip() for column in record]
    twice = [column for column, count in Counter(names).items() if column and count > 1]
    if twice:
        raise DatasetError(f"two columns are named {shown(twice[0])}", where=name, remedy="give each its own name")
    return names


def _row(line: int, record: Sequence[str], names: Sequence[str]) -> RawRow:
    if len(record) != len(names):
        message = f"it has {len(record)} fields, and the header names {len(names)}"
        return RawRow(0, line, b"\0".join(one.encode() for one in record), RowError(ErrorCode.INVALID_ROW, message))
    fields = {name: value or None for name, value in zip(names, record, strict=True) if name}
    return RawRow(0, line, b"", fields=fields, untyped=True)


class _Lines:
    """Lines for csv.reader; `error` is set where one of them is no text."""

    def __init__(self, chunks: Iterator[bytes], position: ReadPosition) -> None:
        self._lines = read_lines(chunks, MAX_LINE_BYTES, keep_cr=True)
        self._position = position
        self.error: RowError | None = None

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self._position.taken = line.end
        if line.too_long:
            self.error = too_long()
            return "\n"
        try:
            return line.data.decode() + "\n"
        except UnicodeDecodeError as error:
            self.error = RowError(ErrorCode.INVALID_ENCODING, f"byte {error.start + 1} is not UTF-8")
            return line.data.decode("utf-8", "replace") + "\n"
