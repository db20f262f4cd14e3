"""Which form and compression the name of an output stands for."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, Literal, cast

from specbatch.errors import ResultsError

ExportFormat = Literal["jsonl", "csv", "parquet", "openai"]

_ENDINGS: Mapping[str, ExportFormat] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_COMPRESSED = {".gz", ".zst"}


def form_of(name: str) -> ExportFormat | None:
    """What an output's name says of its form: rows.csv.gz is csv. None for an ending that says nothing."""
    return _ENDINGS.get(Path(uncompressed(name)).suffix.lower())


def uncompressed(name: str) -> str:
    """rows.jsonl.gz -> rows.jsonl."""
    return name[: -len(Path(name).suffix)] if Path(name).suffix.lower() in _COMPRESSED else name


def delimiter_of(name: str) -> str:
    """Between the cells of a CSV file: a tab in rows.tsv, else a comma."""
    return "\t" if uncompressed(name).lower().endswith(".tsv") else ","


def compressing(file: BinaryIO, name: str) -> BinaryIO:
    """What to write to so that the file is compressed as its name says; the file itself where it says nothing. Closing it leaves the file open.

    Raises:
        ResultsError: the package for it is not installed.
    """
    match Path(name).suffix.lower():
        case ".gz":
            return cast("BinaryIO", gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0))
        case ".zst":
            try:
                import zstandard  # noqa: PLC0415 - not in the base install
            except ImportError as error:
                raise ResultsError(
                    "a .zst file needs zstandard", where=name, remedy="pip install zstandard, or name a .gz file"
                ) from error
            return cast("BinaryIO", zstandard.ZstdCompressor().stream_writer(file, closefd=False))
        case _:
            return file
