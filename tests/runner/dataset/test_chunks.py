"""What a file is stands in its bytes: it is read right, or refused by name with a command that converts it."""

import bz2
import gzip
import io
import json
import lzma
import shlex
import subprocess
import sys
import tarfile
import zipfile
from itertools import islice

import pyarrow as pa
import pytest
import zstandard
from pyarrow import orc

from specbatch.errors import DatasetError
from specbatch.runner.dataset.chunks import ReadPosition, opened, plain
from specbatch.runner.dataset.file_kinds import Kind, kind_of, refused
from specbatch.runner.dataset.shapes import LINES as ONE_A_LINE
from specbatch.runner.dataset.shapes import layout_of
from tests.runner.tiny import dataset_at

ROWS = [{"id": "a", "prompt": "Convert 30 litres."}, {"id": "b", "prompt": 'ünï "quoted"'}]
LINES = b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in ROWS)
SKIPPABLE = b"\x5a\x2a\x4d\x18\x04\x00\x00\x00skip"


def zst(data):
    return zstandard.ZstdCompressor().compress(data)


def write(tmp_path, data, name="rows.jsonl"):
    (tmp_path / name).write_bytes(data)
    return tmp_path / name


def rows_of(file, **options):
    return [json.loads(row.data) for row in dataset_at(file, **options).rows()]


def refusal(file, **options):
    with pytest.raises(DatasetError) as caught:
        dataset_at(file, **options).check_readable()
    return caught.value


@pytest.mark.parametrize(
    "data",
    [
        gzip.compress(LINES),
        zst(LINES),
        bz2.compress(LINES),
        lzma.compress(LINES),
        *(pack(LINES[:30]) + pack(LINES[30:]) for pack in (gzip.compress, zst, bz2.compress, lzma.compress)),
        gzip.compress(LINES) + bytes(70),
        gzip.compress(LINES[:30]) + bytes(9) + gzip.compress(LINES[30:]) + bytes(9),
        SKIPPABLE + zst(LINES[:30]) + SKIPPABLE + zst(LINES[30:]) + SKIPPABLE,
        gzip.compress(gzip.compress(LINES)),
        gzip.compress(LINES.decode().encode("utf-16")),
        *(LINES.decode().encode(encoding) for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be")),
        b"\xef\xbb\xbf" + LINES.replace(b"\n", b"\n\xef\xbb\xbf"),
        LINES.replace(b"\n", b"\r"),
        LINES.replace(b"\n", b"\r\n"),
        b"\n \n" + LINES,
    ],
    ids=lambda data: "",  # bytes of archives hold the time
)
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.gz"])
def test_rows_are_read_from_the_bytes_whatever_the_name(tmp_path, data, name):
    assert rows_of(write(tmp_path, data, name)) == ROWS


@pytest.mark.slow
@pytest.mark.parametrize("pack", [gzip.compress, zst, bz2.compress, lzma.compress])
def test_what_was_cut_or_has_something_behind_it_is_an_error_after_the_rows_before(tmp_path, pack):
    plain = b"".join(b'{"prompt": "%032x"}\n' % (n * 7919**7) for n in range(40_000))
    read = dataset_at(write(tmp_path, pack(plain)[:-100])).rows()
    assert len(list(islice(read, 100))) == 100
    with pytest.raises(DatasetError, match="ends in the middle: the file was cut"):
        list(read)
    read = dataset_at(write(tmp_path, pack(LINES) + b"trailing")).rows()
    assert [json.loads(next(read).data) for _ in ROWS] == ROWS
    with pytest.raises(DatasetError, match=r"after the end of its \w+ data there is something else"):
        next(read)


@pytest.mark.slow
def test_a_compressed_file_that_holds_little_but_expands_far_is_read_in_bounded_chunks(tmp_path):
    for pack in (gzip.compress, bz2.compress, lzma.compress):
        file = dataset_at(str(write(tmp_path, pack(b" " * (8 << 20) + b"\n" + LINES)))).sources[0]
        with opened(file) as stored:
            assert max(len(chunk) for chunk in plain(stored, ReadPosition(), file.name).chunks) <= 1 << 18


def test_a_file_compressed_again_and_again_is_refused(tmp_path):
    assert "compressed more than 2 times" in refusal(write(tmp_path, gzip.compress(zst(bz2.compress(LINES))))).message


def tar():
    with tarfile.open(fileobj=(file := io.BytesIO()), mode="w") as archive:
        archive.addfile(tarfile.TarInfo("rows.jsonl"))
    return file.getvalue()


def zipped(name):
    with zipfile.ZipFile(file := io.BytesIO(), "w") as archive:
        archive.writestr(name, LINES)
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"PAR1\x15\x04\x15", "the Parquet file is damaged"),
        (b"PARE\x15\x04\x15", "an encrypted Parquet file"),
        (gzip.compress(b"PAR1\x15\x04\x15"), "a Parquet file that was compressed once more"),
        (b"ARROW1\0\0\xff\xff\xff\xff", "the Arrow file is damaged"),
        (b"\xff\xff\xff\xff\x80\x01\x00\x00\x10", "the Arrow file is damaged"),
        (b"FEA1\0\0\0\0", "a Feather file of the old version 1"),
        (b"ORC\n\x03\x00", "an ORC file"),
        (b"Obj\x01\x04\x16avro.schema", "an Avro file"),
        (b"SQLite format 3\0\x10\0", "an SQLite database"),
        (b"\1\2\3\4\5\6\7\x08DUCK\x40", "a DuckDB database"),
        (b"\x89HDF\r\n\x1a\n\0", "an HDF5 file"),
        (b"\x93NUMPY\x01\0v\0", "a NumPy file"),
        (b"\x80\x04\x95\x10\0\0\0\0\0\0\0]\x94", "a Python pickle"),
        (zipped("rows.jsonl"), "a zip archive"),
        (zipped("[Content_Types].xml"), "an Excel workbook"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office file"),
        (tar(), "a tar archive"),
        (gzip.compress(tar()), "a tar archive"),
        (b"7z\xbc\xaf\x27\x1c\0\4", "a 7z archive"),
        (b"Rar!\x1a\x07\x01\0", "a RAR archive"),
        (b"\x04\x22\x4d\x18\x64\x40", "an lz4 file"),
        (b"\xff\x06\0\0sNaPpY\0", "a snappy file"),
        (b"GGUF\3\0\0\0", "a GGUF model"),
        (b'\x40\0\0\0\0\0\0\0{"__metadata__"', "a safetensors file"),
        (b"\x89PNG\r\n\x1a\n\0", "an image"),
        (b"\x7fELF\2\1", "a program"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7\nsize 12\n", "a Git LFS pointer"),
        (b"../.git/annex/objects/K3/x", "a git-annex pointer"),
        (b"-----BEGIN PGP MESSAGE-----\n", "an encrypted file"),
        (b'\x1e{"prompt": "x"}\n', "a JSON text sequence"),
        (b"[]", "the dataset holds no rows"),
        (b'["one", "two"]', "a JSON array of strings"),
        (b'{"id": {"0": 1, "1": 2}, "prompt": {"0": "a", "1": "b"}}', "a JSON table by columns"),
        (json.dumps({"prompt": {"0": "a"}}, indent=1).encode(), 'orient="records"'),
        (zipped("xl/workbook.xml"), "save the sheet as CSV"),
        (b"[[1], [2]]", "a JSON array whose items are no objects"),
        (b"id,prompt,id\n1,one,2\n", "two columns are named 'id'"),
        (b"<!DOCTYPE html>\n<title>404</title>\n", "a web page"),
        (b'<?xml version="1.0"?>\n<Error><Code>AccessDenied</Code></Error>', "AccessDenied"),
        (b"{'prompt': 'x'}\n{'prompt': None}\n", "Python's notation"),
        (b'"one"\n"two"\n', "strings, not objects"),
        (b"Write a poem.\nCount to 3.\n", "text that is not JSON (it begins with 'Write a poem.')"),
        ('{"prompt": "日本"}\n'.encode("cp932") * 3, "another encoding than UTF-8"),
        (b"\1\2\0\3\0\0\4", "binary data"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # bytes of archives hold the time
)  # fmt: skip
def test_what_cannot_be_read_is_refused_by_name_before_a_row(tmp_path, data, what):
    error = refusal(write(tmp_path, data))
    assert what in str(error)
    assert error.remedy
    assert error.where == str(tmp_path / "rows.jsonl")


@pytest.mark.parametrize(
    "data",
    [
        b'no JSON\n{"prompt": "x"}\n',
        b'[1]\n{"prompt": "x"}\n',
        b'{"prompt": "x"\n{"prompt": "y"}\n',
        b'{"prompt": "a"}{"prompt": "b"}\n{"prompt": "c"}\n',
        b'{"prompt": "x"},\n{"prompt": "y"},\n',
        b'{"prompt": "ORC\x01"}\n',
        b"{}\n",
        b'{"prompt": "' + b"x" * 70_000 + b'"}',
        '{"prompt": "é"}\n'.encode("latin-1") + b'{"prompt": "x"}\n',
        b'{"id": 1, "prompt":}\n{"id": 2, "prompt":}\n',
    ],
)
def test_bad_lines_are_rows_of_their_own_not_the_files_fault(data):
    assert layout_of(data, whole=True) == ONE_A_LINE


def test_a_file_is_text_by_its_name_or_by_the_spec_and_still_no_archive(tmp_path):
    lines = b"ORC is a format.\nPAR1 is another.\n7z too\n"
    assert [row.data for row in dataset_at(write(tmp_path, lines, "p.txt")).rows()] == lines.splitlines()
    rows = list(dataset_at(write(tmp_path, lines, "p.md"), format="text").rows())
    assert [(row.data, row.is_text) for row in rows] == [(line, True) for line in lines.splitlines()]
    json_row = next(dataset_at(write(tmp_path, b'{"prompt": "x"}', "p.txt"), format="jsonl").rows())
    assert not json_row.is_text
    assert "dataset.format: text" in str(refusal(write(tmp_path, lines, "p.md")))
    assert "a zip archive" in refusal(write(tmp_path, zipped("x"), "z.txt")).message
    assert "binary data" in refusal(write(tmp_path, b"\1\0\2", "b.txt")).message


def an_orc_file():
    orc.write_table(pa.table({"prompt": ["x"]}), file := io.BytesIO())
    return file.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "rows"),
    [
        (lambda: b"{'prompt': 'x', 'n': None}\n", [{"prompt": "x", "n": None}]),
        (an_orc_file, [{"prompt": "x"}]),
    ],
)
def test_the_command_that_a_refusal_names_makes_what_is_read(tmp_path, make, rows):
    file = write(tmp_path, make(), "it's rows.dat")
    command = refusal(file).remedy.partition("spec.dataset.uri: ")[2].partition("   (needs")[0]
    subprocess.run(command.replace("python -c", f"{shlex.quote(sys.executable)} -c"), shell=True, check=True)
    made = rows_of(tmp_path / "it's rows.jsonl")
    assert made == rows


def test_the_query_of_a_url_is_no_part_of_its_name():
    error = refused(Kind("a thing", "convert {file} > {out}"), "https://host/a%20b/rows.csv?X-Sig=rows.jsonl.gz")
    assert (
        error.remedy.endswith("convert a%20b/rows.csv > rows.jsonl".removeprefix("a%20b/"))
        or "rows.csv" in error.remedy
    )
    assert "X-Sig" not in error.remedy


def test_prompts_that_begin_like_a_magic_number_are_text():
    assert kind_of(b"ORC warriors attack.\n") is None
    assert kind_of(b"MZ is a header.\n") is None
