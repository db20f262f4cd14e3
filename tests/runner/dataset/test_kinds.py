"""The same rows in every kind of file that people bring: read alike, or refused by name with what to do."""

import bz2
import csv
import gzip
import io
import json
import lzma
import sqlite3
import zipfile
from pathlib import Path

import pyarrow as pa
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import feather, orc, parquet

from specbatch.errors import DatasetError
from specbatch.runner.rows.row import Row
from specbatch.runner.rows.row_reader import RowReader
from tests.runner.tiny import dataset_at, row_rules

ROWS = [
    {"id": "a", "prompt": "Convert 30 litres.", "max_tokens": 7, "note": None},
    {"id": "b", "prompt": 'ünï, "quoted";\ttab | 😀\nsecond line', "max_tokens": None, "note": "x"},
    {"id": "c", "prompt": '{[\\\\"]}', "max_tokens": 9, "note": " y "},
]


def lines(rows):
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def array(rows):
    return json.dumps(rows).encode()


def pretty(rows):
    return json.dumps(rows, indent=2, ensure_ascii=False).encode()


def pretty_objects(rows):
    return "\n".join(json.dumps(row, indent=1) for row in rows).encode()


def glued(rows):
    return b"".join(json.dumps(row).encode() for row in rows)


def wrapped(rows):
    return json.dumps({"version": "1.0", "data": rows, "count": len(rows)}).encode()


def delimited(delimiter):
    def write(rows):
        csv.writer(file := io.StringIO(newline=""), delimiter=delimiter).writerows(
            [list(rows[0]), *([row[name] for name in rows[0]] for row in rows)]
        )
        return file.getvalue().encode()

    return write


def table(rows):
    return pa.Table.from_pylist(rows, pa.schema([("id", pa.string()), ("prompt", pa.string()), ("max_tokens", pa.int64()), ("note", pa.string())]))  # fmt: skip


def in_memory(write):
    def made(rows):
        write(table(rows), file := io.BytesIO())
        return file.getvalue()

    return made


def arrow(new):
    def write(made, file):
        with new(file, made.schema) as writer:
            writer.write_table(made, max_chunksize=2)

    return in_memory(write)


def feather_of(compression):
    return in_memory(lambda made, file: feather.write_feather(made, file, compression=compression))


def packed(pack, kind=lines):
    return lambda rows: pack(kind(rows))


def recoded(encoding, kind=lines):
    return lambda rows: kind(rows).decode().encode(encoding)


zst = zstandard.ZstdCompressor().compress
READ = {
    "JSON Lines": lines,
    "JSON Lines, CRLF": lambda rows: lines(rows).replace(b"\n", b"\r\n"),
    "JSON Lines with commas": lambda rows: lines(rows).replace(b"}\n", b"},\n"),
    "JSON array on a line": array,
    "JSON array, pretty": pretty,
    "JSON array, a row a line": lambda rows: b"[\n" + lines(rows).replace(b"}\n", b"},\n").rstrip(b",\n") + b"\n]\n",
    "JSON array in data": wrapped,
    "JSON objects, pretty": pretty_objects,
    "JSON objects, glued": glued,
    "JSON array, gzip": packed(gzip.compress, pretty),
    "JSON array, UTF-16": recoded("utf-16", pretty),
    "CSV": delimited(","),
    "CSV, semicolons": delimited(";"),
    "CSV, bars": delimited("|"),
    "TSV": delimited("\t"),
    "CSV with a mark": recoded("utf-8-sig", delimited(",")),
    "CSV of Excel": lambda rows: b"sep=;\r\n" + delimited(";")(rows),
    "CSV, bzip2": packed(bz2.compress, delimited(",")),
    "Parquet": in_memory(parquet.write_table),
    "Parquet, small row groups": in_memory(lambda made, file: parquet.write_table(made, file, row_group_size=1)),
    "Arrow file": arrow(pa.ipc.new_file),
    "Arrow stream": arrow(pa.ipc.new_stream),
    "Feather": feather_of("uncompressed"),
    "Feather, lz4": feather_of("lz4"),
    "JSON Lines, gzip": packed(gzip.compress),
    "JSON Lines, zstd": packed(zst),
    "JSON Lines, bzip2": packed(bz2.compress),
    "JSON Lines, xz": packed(lzma.compress),
}


def prompts(uri, **fields):
    """What the rows of a dataset ask, as a run reads them."""
    reader = RowReader(row_rules(**fields))
    rows = [reader.read(raw) for raw in dataset_at(uri, **fields).rows()]
    assert all(isinstance(row, Row) for row in rows), rows
    return [(row.id, row.index, row.fingerprint, row.prompt, row.decoding.max_new_tokens) for row in rows]


@pytest.mark.parametrize("kind", READ)
@pytest.mark.parametrize("name", ["rows", "rows.jsonl"])
def test_the_same_rows_are_read_from_every_kind_of_file_whatever_its_name(tmp_path, kind, name):
    (tmp_path / "plain.jsonl").write_bytes(lines(ROWS))
    (tmp_path / name).write_bytes(READ[kind](ROWS))
    assert prompts(tmp_path / name) == prompts(tmp_path / "plain.jsonl")


def excel():
    with zipfile.ZipFile(file := io.BytesIO(), "w") as archive:
        archive.writestr("[Content_Types].xml", "")
    return file.getvalue()


def database(path):
    sqlite3.connect(path).execute("CREATE TABLE rows (prompt)").connection.close()
    return path.read_bytes()


REFUSED = {
    "Excel workbook": lambda _: excel(),
    "SQLite database": database,
    "ORC file": lambda _: in_memory(orc.write_table)(ROWS),
    "Python pickle": lambda _: b"\x80\x04\x95\x10\0\0\0\0\0\0\0]\x94",
    "Parquet file that was compressed once more": lambda _: gzip.compress(READ["Parquet"](ROWS)),
    "JSON array of strings": lambda _: b'["one",\n"two"]',
    "web page": lambda _: b"<!DOCTYPE html>\n<title>404</title>\n",
    "Git LFS pointer": lambda _: b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7\nsize 12\n",
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_not_read_is_refused_by_name_with_what_to_do(tmp_path, kind):
    (tmp_path / "rows.jsonl").write_bytes(REFUSED[kind](tmp_path / "database"))
    with pytest.raises(DatasetError, match=kind) as caught:
        dataset_at(tmp_path / "rows.jsonl").check_readable()
    assert caught.value.remedy
    assert caught.value.where == str(tmp_path / "rows.jsonl")


def test_a_folder_of_several_kinds_is_one_dataset(tmp_path):
    for number, (kind, ending) in enumerate([("CSV", "csv"), ("Parquet", "parquet"), ("JSON array, pretty", "json"), ("JSON Lines, zstd", "jsonl.zst")]):  # fmt: skip
        (tmp_path / f"part-{number}.{ending}").write_bytes(READ[kind]([{**ROWS[0], "id": f"{number}"}]))
    assert [row[:2] for row in prompts(tmp_path)] == [("0", 0), ("1", 1), ("2", 2), ("3", 3)]


@pytest.mark.parametrize(
    ("form", "kind", "says"),
    [
        ("parquet", "CSV", "it is CSV, and dataset.format is parquet"),
        ("csv", "Parquet", "it is a Parquet file, and dataset.format is csv"),
        ("jsonl", "CSV", "it is CSV, and dataset.format is jsonl"),
        ("json", "Arrow stream", "it is an Arrow stream, and dataset.format is json"),
    ],
)
def test_a_file_that_is_not_what_the_spec_says_is_refused(tmp_path, form, kind, says):
    (tmp_path / "rows").write_bytes(READ[kind](ROWS))
    with pytest.raises(DatasetError, match=says):
        dataset_at(tmp_path / "rows", format=form).check_readable()


@pytest.mark.parametrize(
    ("form", "kind"),
    [("csv", "CSV, bars"), ("tsv", "TSV"), ("json", "JSON Lines"), ("jsonl", "JSON array, pretty"), ("parquet", "Parquet"), ("arrow", "Feather"), ("messages", "Parquet")],
)  # fmt: skip
def test_the_spec_may_say_what_a_file_is(tmp_path, form, kind):
    (tmp_path / "rows").write_bytes(READ[kind](ROWS))
    assert len(list(dataset_at(tmp_path / "rows", format=form).rows())) == 3


@pytest.mark.slow
@settings(max_examples=60)
@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "prompt": st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), min_size=1).filter(str.strip),
                "max_tokens": st.none() | st.integers(1, 99),
            }
        ),
        min_size=1,
        max_size=8,
    ),
    st.sampled_from(sorted(READ)),
)  # fmt: skip
def test_whatever_the_prompts_hold_the_kind_of_file_makes_no_difference(tmp_path_factory, rows, kind):
    folder: Path = tmp_path_factory.mktemp("same")
    rows = [{"id": str(number), **row, "note": None} for number, row in enumerate(rows)]
    (folder / "a.jsonl").write_bytes(lines(rows))
    (folder / "b").write_bytes(READ[kind](rows))
    assert prompts(folder / "b") == prompts(folder / "a.jsonl")
