"""Opens a file of a dataset with the reader of its kind: JSON, CSV, text, Parquet, Arrow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from specbatch.api.dataset import DatasetFormat
from specbatch.errors import DatasetError
from specbatch.runner.dataset.chunks import Plain, ReadPosition, opened, plain, utf8
from specbatch.runner.dataset.csv_rows import delimiter_of, read_csv
from specbatch.runner.dataset.file_kinds import TABLES, Kind, kind_of, refused
from specbatch.runner.dataset.folders import bare_name
from specbatch.runner.dataset.json_values import read_values
from specbatch.runner.dataset.lines import MAX_LINE_BYTES, Line, RawRow, read_lines, too_long
from specbatch.runner.dataset.shapes import CSV, HEAD_BYTES, LINES, Layout, layout_of
from specbatch.runner.dataset.source import Source

PARQUET = "Parquet"
_BINARY = Kind("binary data of an unknown kind", "name a file that holds text")
_TABLE_FORMATS = ("csv", "tsv", "parquet", "arrow")


@contextmanager
def open_rows(source: Source, position: ReadPosition, form: DatasetFormat) -> Iterator[Iterator[RawRow]]:
    """The rows of a file, not yet numbered over the files.

    Args:
        source: a file.
        position: kept up to date as rows are taken.
        form: spec.dataset.format.

    Raises:
        DatasetError: unreadable, of a kind that holds no rows or is not the one that the spec says; also while rows are read.
        OutOfReachError: the store could not be reached for too long.
    """
    with opened(source) as stored:
        data = plain(stored, position, source.name)
        kind = next((kind for kind in TABLES if kind.magic.match(data.head)), None)
        if kind is None:
            yield _text_rows(data, position, source.name, form)
            return
    _check_format(source.name, form, kind.name, kind.format)
    position.kind = {"parquet": PARQUET, "arrow": "Arrow"}[kind.format]
    if data.unpack:
        remedy = f"unpack it first: {data.unpack} FILE > NEW; {kind.name} is compressed within"
        raise DatasetError(f"it is {kind.name} that was compressed once more", where=source.name, remedy=remedy)
    from specbatch.runner.dataset.tables import open_table  # noqa: PLC0415 - pyarrow is needed by tables alone

    position.stored_bytes = 0
    with open_table(source, kind.format, is_stream=kind.is_stream) as table:
        yield table.rows(position)


def _text_rows(data: Plain, position: ReadPosition, name: str, form: DatasetFormat) -> Iterator[RawRow]:
    kind = kind_of(data.head)
    if kind is not None:
        raise refused(kind, name)
    head, chunks = utf8(data, position, name, HEAD_BYTES)
    is_text = form == "text" or (form == "auto" and bare_name(name).endswith(".txt"))
    if is_text:
        found: Layout | Kind = _BINARY if b"\0" in head.partition(b"\n")[0] else LINES
    elif form in {"csv", "tsv"}:
        found = CSV
    else:
        is_csv = bare_name(name).endswith((".csv", ".tsv"))
        found = layout_of(head, whole=len(head) < HEAD_BYTES, is_csv=is_csv)
    if isinstance(found, Kind):
        raise refused(found, name)
    _check_format(name, form, "CSV" if found == CSV else "JSON or text", "csv" if found == CSV else "jsonl")
    position.kind = _said(found, is_text=is_text) + (f" ({data.unpack.split()[0]})" if data.unpack else "")
    if found == CSV:
        is_tsv = form == "tsv" or (form != "csv" and bare_name(name).endswith(".tsv"))
        delimiter = "\t" if is_tsv else delimiter_of(head.decode("utf-8-sig", "replace"))
        return read_csv(chunks, delimiter, name, position)
    if found == LINES:
        return _rows(read_lines(chunks, MAX_LINE_BYTES), position, is_text=is_text)
    return _rows(read_values(_after(chunks, found.start), name, MAX_LINE_BYTES, end=found.end), position)


def _said(layout: Layout, *, is_text: bool) -> str:
    if layout == LINES:
        return "text, a prompt a line" if is_text else "JSON Lines"
    return "CSV" if layout == CSV else "JSON objects" if layout.end is None else "a JSON array"


def _rows(lines: Iterator[Line], position: ReadPosition, *, is_text: bool = False) -> Iterator[RawRow]:
    for line in lines:
        position.taken = line.end
        if line.too_long or line.data.strip():
            yield RawRow(0, line.number, line.data, too_long() if line.too_long else None, is_text)


def _after(chunks: Iterator[bytes], start: int) -> Iterator[bytes]:
    for chunk in chunks:
        if start < len(chunk):
            yield chunk[start:]
        start = max(0, start - len(chunk))


def _check_format(name: str, form: DatasetFormat, kind: str, found: str) -> None:
    """Refuses a file that is not what `dataset.format` says; formats that name the form of a row alone suit every kind of file."""
    said = {"json": "jsonl", "tsv": "csv"}.get(form, form)
    if said in {"jsonl", "csv", "parquet", "arrow"} and said != found:
        raise DatasetError(
            f"it is {kind}, and dataset.format is {form}",
            where=name,
            remedy="leave dataset.format out: what a file is is found in its bytes",
        )
