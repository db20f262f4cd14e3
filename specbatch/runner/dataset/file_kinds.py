"""Knows tables, and files that hold no rows, by their first bytes; for the latter names the command that converts them to JSON Lines."""

from __future__ import annotations

import os
import re
import shlex
from typing import NamedTuple

from specbatch.errors import DatasetError
from specbatch.runner.dataset.compressions import uncompressed_name

MAGIC_BYTES = 512
TABLE_PACKAGE = "pip install 'specbatch[runner]'"


def _by_pyarrow(module: str, batches: str) -> str:
    """The command that writes a table's rows as JSON Lines, in bounded memory where the format has batches."""
    rows = f"for batch in {batches} for row in batch.to_pylist()"
    return (
        f'python -c "import json, sys, {module} as a; [print(json.dumps(row, default=str)) {rows}]" {{file}} > {{out}}'
    )


_FEATHER = _by_pyarrow("pyarrow.feather", "a.read_table(sys.argv[1]).to_batches()")
_ORC = _by_pyarrow("pyarrow.orc", "a.ORCFile(sys.argv[1]).read().to_batches()")
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_EXPORT = "export it as JSON Lines: one JSON object a line"
_SHEET = "save the sheet as CSV (UTF-8), and name that file in spec.dataset.uri"
_UNPACK = "unpack it first"


class Kind(NamedTuple):
    """What a file is that holds no rows as they are read.

    Attributes:
        name: with an article.
        remedy: what to do, or a command: {file} and {out} stand for the file and a new one beside it, as a shell takes them.
        needs: what must be installed for that.
        printable: whether the file is text itself; others hold control characters, and a prompt that begins with ORC is none of them.
    """

    name: str
    remedy: str
    needs: str = ""
    printable: bool = False


class Table(NamedTuple):
    """A kind of file whose rows are read by pyarrow: what it is called, its format in the spec, how it begins."""

    name: str
    format: str
    magic: re.Pattern[bytes]
    is_stream: bool = False


TABLES = (
    Table("a Parquet file", "parquet", re.compile(rb"PAR1[\x00-\xff]*[\x00-\x08]", re.DOTALL)),
    Table("an Arrow file (Feather)", "arrow", re.compile(rb"ARROW1\x00\x00")),
    Table("an Arrow stream", "arrow", re.compile(rb"\xff\xff\xff\xff.{3}\x00", re.DOTALL), is_stream=True),
)
_KINDS = (  # a pattern of the first bytes, and what they show
    (rb"PARE", Kind("an encrypted Parquet file", "write it anew without encryption, by a program that has its key")),
    (rb"FEA1", Kind("a Feather file of the old version 1", _FEATHER, TABLE_PACKAGE)),
    (rb"ORC", Kind("an ORC file", _ORC, TABLE_PACKAGE)),
    (rb"Obj\x01", Kind("an Avro file", "avro-tools tojson {file} > {out}")),
    (rb"SQLite format 3\x00", Kind("an SQLite database", "sqlite3 -json {file} 'SELECT * FROM TABLE' | jq -c '.[]' > {out}")),
    (rb".{8}DUCK", Kind("a DuckDB database", "duckdb {file} \"COPY TABLE TO '{out}' (FORMAT json)\"")),
    (rb"PK\x03\x04.{26}(\[Content_Types\]\.xml|_rels/|docProps/|xl/)", Kind("an Excel workbook", _SHEET)),
    (rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", Kind("an old Office file (Excel, Word)", _SHEET)),
    (rb"PK(\x03\x04|\x05\x06|\x07\x08)", Kind("a zip archive", "unzip -p {file} > {out}")),
    (rb".{257}ustar", Kind("a tar archive", f"{_UNPACK} (tar -xf {{file}}), and name what was in it")),
    (rb"7z\xbc\xaf\x27\x1c", Kind("a 7z archive", "7z x -so {file} > {out}")),
    (rb"Rar!\x1a\x07", Kind("a RAR archive", f"{_UNPACK} (unrar x {{file}}), and name what was in it")),
    (rb"\x04\x22\x4d\x18|\x02\x21\x4c\x18", Kind("an lz4 file", "lz4 -dc {file} > {out}")),
    (rb"\xff\x06\x00\x00sNaPpY", Kind("a snappy file", "snzip -dc {file} > {out}")),
    (rb"LZIP[\x00\x01]", Kind("an lzip file", "lzip -dc {file} > {out}")),
    (rb"\x89LZO\x00\r\n\x1a\n", Kind("an lzop file", "lzop -dc {file} > {out}")),
    (rb"\x1f[\x9d\xa0]", Kind("a file of compress (.Z)", "gzip -dc {file} > {out}")),
    (rb"\x5d\x00\x00", Kind("an LZMA file", "xz --format=lzma -dc {file} > {out}")),
    (rb"\x89HDF\r\n\x1a\n", Kind("an HDF5 file", _EXPORT)),
    (rb"\x93NUMPY", Kind("a NumPy file", _EXPORT)),
    (rb"\x80[\x02-\x05][\x80-\x95\(\]\}cXKM]", Kind("a Python pickle", f"{_EXPORT} (where it was made: unpickling runs code)")),
    (rb"GGUF", Kind("a GGUF model", "name the dataset's file in spec.dataset.uri; models stand in spec.target and spec.drafter")),
    (rb".{4}\x00{4}\{\"", Kind("a safetensors file", "name the dataset's file in spec.dataset.uri; models stand in spec.target and spec.drafter")),
    (rb"%PDF-", Kind("a PDF", _EXPORT, printable=True)),
    (rb"\x89PNG\r\n|\xff\xd8\xff|GIF8[79]a|RIFF.{4}WEBP", Kind("an image", "name the file that holds the rows")),
    (rb"age-encryption\.org/|-----BEGIN PGP MESSAGE", Kind("an encrypted file", "decrypt it first", printable=True)),
    (rb"Salted__|\x85[\x01-\x04]\x0c\x03|\x8c\x0d\x04", Kind("an encrypted file", "decrypt it first")),
    (rb"\x7fELF|MZ.\x00", Kind("a program", "name the file that holds the rows")),
    (rb"version https://git-lfs\.github\.com/spec/", Kind("a Git LFS pointer, not the file itself", "git lfs pull", printable=True)),
    (rb"(\.\./)*(\.git)?/annex/objects/", Kind("a git-annex pointer, not the file itself", "git annex get {file}", printable=True)),
    (rb"\x1e\s*[\{\[]", Kind("a JSON text sequence (RFC 7464)", "tr -d '\\036' < {file} | jq -c . > {out}")),
)  # fmt: skip


def kind_of(head: bytes) -> Kind | None:
    """The kind that a file's first `MAGIC_BYTES` show; None where they may be text."""
    binary = _CONTROL.search(head) is not None
    shown = (kind for magic, kind in _KINDS if re.match(magic, head, re.DOTALL))
    return next((kind for kind in shown if binary or kind.printable), None)


def refused(kind: Kind, name: str) -> DatasetError:
    """The error for a file of that kind; of its name (a path or URI) the query is no part of the remedy."""
    file = name.partition("?")[0].rpartition("/")[2] if "://" in name else name
    text = kind.remedy.replace("{file}", shlex.quote(file)).replace("{out}", shlex.quote(_converted(file)))
    if "{file}" in kind.remedy:
        text = f"convert it, and name the new file in spec.dataset.uri: {text}"
    if kind.needs:
        text += f"   (needs: {kind.needs})"
    return DatasetError(
        f"it is {kind.name}, and rows are read from JSON, CSV, Parquet, Arrow or text", where=name, remedy=text
    )


def _converted(file: str) -> str:
    """rows.parquet -> rows.jsonl, and never the file itself."""
    new = os.path.splitext(uncompressed_name(file))[0] + ".jsonl"  # noqa: PTH122 - names may be URIs
    return new if new != file else new.removesuffix(".jsonl") + "-lines.jsonl"
