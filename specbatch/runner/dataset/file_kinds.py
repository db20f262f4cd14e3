"""Detects files that hold no lines of text by their first bytes, and names the command that converts them to JSON Lines."""

from __future__ import annotations

import os
import re
import shlex
from typing import NamedTuple

from specbatch.errors import DatasetError
from specbatch.runner.dataset.compressions import ENDINGS

MAGIC_BYTES = 512
TABLE_PACKAGE = "pip install 'specbatch[parquet]'"


def _by_pyarrow(module: str, batches: str) -> str:
    """The command that writes a table's rows as JSON Lines, in bounded memory where the format has batches."""
    rows = f"for batch in {batches} for row in batch.to_pylist()"
    return (
        f'python -c "import json, sys, {module} as a; [print(json.dumps(row, default=str)) {rows}]" {{file}} > {{out}}'
    )


_PARQUET = _by_pyarrow("pyarrow.parquet", "a.ParquetFile(sys.argv[1]).iter_batches()")
_ARROW_STREAM = _by_pyarrow("pyarrow", "a.ipc.open_stream(sys.argv[1])")
_ARROW_FILE = _by_pyarrow("pyarrow.feather", "a.read_table(sys.argv[1]).to_batches()")
_ORC = _by_pyarrow("pyarrow.orc", "a.ORCFile(sys.argv[1]).read().to_batches()")
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_EXPORT = "export it as JSON Lines: one JSON object a line"
_UNPACK = "unpack it first"


class Kind(NamedTuple):
    """A kind of file: its name with an article, what its first bytes are, what to do with it, and what the command needs.

    `printable` where the file is text itself; others hold control characters, and a prompt that begins with ORC is none of them.
    """

    name: str
    magic: re.Pattern[bytes]
    remedy: str
    needs: str = ""
    printable: bool = False


def _kind(name: str, magic: bytes, remedy: str, needs: str = "", *, printable: bool = False) -> Kind:
    return Kind(name, re.compile(magic, re.DOTALL), remedy, needs, printable)


_KINDS = (
    _kind("a Parquet file", rb"PAR1|PARE", _PARQUET, TABLE_PACKAGE),
    _kind("an Arrow file (Feather)", rb"ARROW1|FEA1", _ARROW_FILE, TABLE_PACKAGE),
    _kind("an Arrow stream", rb"\xff\xff\xff\xff.{3}\x00", _ARROW_STREAM, TABLE_PACKAGE),
    _kind("an ORC file", rb"ORC", _ORC, TABLE_PACKAGE),
    _kind("an Avro file", rb"Obj\x01", "avro-tools tojson {file} > {out}"),
    _kind("an SQLite database", rb"SQLite format 3\x00", "sqlite3 -json {file} 'SELECT * FROM TABLE' | jq -c '.[]' > {out}"),
    _kind("a DuckDB database", rb".{8}DUCK", "duckdb {file} \"COPY TABLE TO '{out}' (FORMAT json)\""),
    _kind("an Excel workbook", rb"PK\x03\x04.{26}(\[Content_Types\]\.xml|_rels/|docProps/|xl/)", _EXPORT),
    _kind("an old Office file (Excel, Word)", rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", _EXPORT),
    _kind("a zip archive", rb"PK(\x03\x04|\x05\x06|\x07\x08)", "unzip -p {file} > {out}"),
    _kind("a tar archive", rb".{257}ustar", f"{_UNPACK} (tar -xf {{file}}), and name what was in it"),
    _kind("a 7z archive", rb"7z\xbc\xaf\x27\x1c", "7z x -so {file} > {out}"),
    _kind("a RAR archive", rb"Rar!\x1a\x07", f"{_UNPACK} (unrar x {{file}}), and name what was in it"),
    _kind("an lz4 file", rb"\x04\x22\x4d\x18|\x02\x21\x4c\x18", "lz4 -dc {file} > {out}"),
    _kind("a snappy file", rb"\xff\x06\x00\x00sNaPpY", "snzip -dc {file} > {out}"),
    _kind("an lzip file", rb"LZIP[\x00\x01]", "lzip -dc {file} > {out}"),
    _kind("an lzop file", rb"\x89LZO\x00\r\n\x1a\n", "lzop -dc {file} > {out}"),
    _kind("a file of compress (.Z)", rb"\x1f[\x9d\xa0]", "gzip -dc {file} > {out}"),
    _kind("an LZMA file", rb"\x5d\x00\x00", "xz --format=lzma -dc {file} > {out}"),
    _kind("an HDF5 file", rb"\x89HDF\r\n\x1a\n", _EXPORT),
    _kind("a NumPy file", rb"\x93NUMPY", _EXPORT),
    _kind("a Python pickle", rb"\x80[\x02-\x05][\x80-\x95\(\]\}cXKM]", f"{_EXPORT} (where it was made: unpickling runs code)"),
    _kind("a GGUF model", rb"GGUF", "name the dataset's file in spec.dataset.uri; models stand in spec.target and spec.drafter"),
    _kind("a safetensors file", rb".{4}\x00{4}\{\"", "name the dataset's file in spec.dataset.uri; models stand in spec.target and spec.drafter"),
    _kind("a PDF", rb"%PDF-", _EXPORT, printable=True),
    _kind("an image", rb"\x89PNG\r\n|\xff\xd8\xff|GIF8[79]a|RIFF.{4}WEBP", "name the file that holds the rows"),
    _kind("an encrypted file", rb"age-encryption\.org/|-----BEGIN PGP MESSAGE", "decrypt it first", printable=True),
    _kind("an encrypted file", rb"Salted__|\x85[\x01-\x04]\x0c\x03|\x8c\x0d\x04", "decrypt it first"),
    _kind("a program", rb"\x7fELF|MZ.\x00", "name the file that holds the rows"),
    _kind("a Git LFS pointer, not the file itself", rb"version https://git-lfs\.github\.com/spec/", "git lfs pull", printable=True),
    _kind("a git-annex pointer, not the file itself", rb"(\.\./)*(\.git)?/annex/objects/", "git annex get {file}", printable=True),
    _kind("a JSON text sequence (RFC 7464)", rb"\x1e\s*[\{\[]", "tr -d '\\036' < {file} | jq -c . > {out}"),
)  # fmt: skip


def kind_of(head: bytes) -> Kind | None:
    """The kind that a file's first `MAGIC_BYTES` show; None where they may be text."""
    binary = _CONTROL.search(head) is not None
    return next((kind for kind in _KINDS if (binary or kind.printable) and kind.magic.match(head)), None)


def refused(what: str, name: str, remedy: str, needs: str = "") -> DatasetError:
    """The error for a file that holds no rows as they are read.

    Args:
        what: the file is, with an article.
        name: the file's path or URI; its query is no part of the remedy.
        remedy: what to do, or a command: {file} and {out} stand for the file and a new one beside it, as a shell takes them.
        needs: what must be installed for that.
    """
    command = "{file}" in remedy
    file = name.partition("?")[0].rpartition("/")[2] if "://" in name else name
    text = remedy.replace("{file}", shlex.quote(file)).replace("{out}", shlex.quote(_converted(file)))
    if command:
        text = f"convert it, and name the new file in spec.dataset.uri: {text}"
    if needs:
        text += f"   (needs: {needs})"
    return DatasetError(f"it is {what}, and rows are read from JSON Lines or text", where=name, remedy=text)


def _converted(file: str) -> str:
    """rows.parquet -> rows.jsonl, and never the file itself."""
    stem = file
    for ending in ENDINGS:
        stem = stem.removesuffix(ending)
    new = os.path.splitext(stem)[0] + ".jsonl"  # noqa: PTH122 - names may be URIs
    return new if new != file else new.removesuffix(".jsonl") + "-lines.jsonl"
