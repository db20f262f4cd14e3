import gzip
import io
from itertools import islice

import fsspec
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from specbatch.errors import DatasetError
from specbatch.runner.dataset.lines import Line, Shard, read_lines
from tests.runner.tiny import dataset_at

LINES = b'{"prompt": "a"}\n{"prompt": "b"}\n{"prompt": "c"}\n'


def data_of(uri, **options):
    return [row.data for row in dataset_at(uri, **options).rows()]


def test_rows_of_a_file_come_in_order_with_index_and_line_number(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b"\n  \n1\r\n\n2\n3")
    rows = list(dataset_at(file).rows())
    assert [(row.index, row.line_number, row.data) for row in rows] == [(0, 3, b"1"), (1, 5, b"2"), (2, 6, b"3")]


def test_byte_order_mark_is_no_part_of_any_row(tmp_path):
    (tmp_path / "rows.jsonl").write_bytes(b"\xef\xbb\xbf1\n2\n\xef\xbb\xbf3\n\xef\xbb\xbf\n\xef\xbb\xbf")
    assert data_of(tmp_path / "rows.jsonl") == [b"1", b"2", b"3"]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz", "rows.jsonl.zst"])
def test_compressed_files_hold_the_same_rows(tmp_path, name):
    pack = {"gz": gzip.compress, "zst": zstandard.ZstdCompressor().compress}.get(name.rpartition(".")[2], bytes)
    (tmp_path / name).write_bytes(pack(LINES))
    assert data_of(tmp_path / name) == LINES.splitlines()


def test_zstd_frames_one_after_another_are_one_file(tmp_path):
    frames = [zstandard.ZstdCompressor().compress(line) for line in LINES.splitlines(keepends=True)]
    (tmp_path / "rows.jsonl.zst").write_bytes(b"".join(frames))
    assert data_of(tmp_path / "rows.jsonl.zst") == LINES.splitlines()


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.ZstdCompressor().compress], ids=["gz", "zst"])
def test_compressed_file_cut_short_is_an_error_after_its_whole_rows(tmp_path, pack):
    rows = b"".join(b'{"prompt": "%032x"}\n' % (n * 7919**7) for n in range(20_000))
    file = tmp_path / ("rows.jsonl.gz" if pack is gzip.compress else "rows.jsonl.zst")
    file.write_bytes(pack(rows)[:-100])
    read = dataset_at(file).rows()
    assert len(list(islice(read, 100))) == 100
    with pytest.raises(DatasetError, match="ends in the middle"):
        list(read)


def test_damaged_gzip_is_an_error_that_names_the_file(tmp_path):
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(LINES * 100)[:40] + b"damage" * 10)
    with pytest.raises(DatasetError, match=r"rows\.jsonl\.gz: the gzip data is damaged"):
        data_of(tmp_path / "rows.jsonl.gz")


def test_directory_gives_its_row_files_sorted_and_nothing_else(tmp_path):
    for name in ("b.jsonl", "a.txt", "c.jsonl.gz", ".hidden.jsonl", "_SUCCESS.json", "README.md"):
        (tmp_path / name).write_bytes(gzip.compress(b"9\n") if name.endswith(".gz") else b"%d\n" % len(name))
    assert data_of(tmp_path) == [b"5", b"7", b"9"]


def test_glob_takes_the_matches_and_a_file_named_like_a_glob_is_itself(tmp_path):
    (tmp_path / "a1.jsonl").write_bytes(b"1\n")
    (tmp_path / "a2.jsonl").write_bytes(b"2\n")
    (tmp_path / "b[1].jsonl").write_bytes(b"3\n")
    assert data_of(tmp_path / "a*.jsonl") == [b"1", b"2"]
    assert data_of(tmp_path / "b[1].jsonl") == [b"3"]


@pytest.mark.parametrize("name", ["missing.jsonl", "*.nothing"])
def test_missing_dataset_is_an_error_with_remedy(tmp_path, name):
    with pytest.raises(DatasetError, match="no such file") as caught:
        dataset_at(tmp_path / name)
    assert caught.value.remedy


def test_directory_without_rows_and_files_without_rows_are_errors(tmp_path):
    with pytest.raises(DatasetError, match="holds no files of rows; it is empty"):
        dataset_at(tmp_path)
    (tmp_path / "empty.jsonl").write_bytes(b"\n \n")
    with pytest.raises(DatasetError, match="holds no rows"):
        dataset_at(tmp_path).check_readable()


def test_rows_come_from_an_object_store(tmp_path):
    store = fsspec.filesystem("memory")
    store.pipe({"/bucket/b.jsonl": b"2\n", "/bucket/a.jsonl.gz": gzip.compress(b"1\n"), "/bucket/x.bin": b"no"})
    assert data_of("memory://bucket") == [b"1", b"2"]
    assert data_of("memory://bucket/b.jsonl") == [b"2"]
    assert data_of("memory://bucket/*.jsonl") == [b"2"]
    with pytest.raises(DatasetError, match="no such object"):
        dataset_at("memory://bucket/none.jsonl")
    with pytest.raises(DatasetError, match="no such object"):
        dataset_at("memory://bucket/*.none")


@pytest.mark.parametrize(("uri", "extra"), [("gs://b/x", "specbatch[gcs]"), ("az://b/x", "specbatch[azure]")])
def test_missing_driver_names_the_extra(uri, extra, monkeypatch):
    def refuse(name, **_options):
        raise ImportError(f"no driver for {name}")

    monkeypatch.setattr(fsspec.core, "url_to_fs", refuse)
    with pytest.raises(DatasetError) as caught:
        dataset_at(uri)
    assert extra in str(caught.value)


def test_store_that_refuses_is_an_error_with_its_reason(monkeypatch):
    def refuse(name, **_options):
        raise PermissionError("access denied")

    monkeypatch.setattr(fsspec.core, "url_to_fs", refuse)
    with pytest.raises(DatasetError, match="access denied"):
        dataset_at("s3://bucket/rows.jsonl")


def test_limit_counts_rows_from_the_first(tmp_path):
    (tmp_path / "rows.jsonl").write_bytes(LINES)
    assert data_of(tmp_path / "rows.jsonl", limit=2) == LINES.splitlines()[:2]


def test_line_over_the_limit_is_passed_over_in_bounded_memory():
    chunks = iter([b"a\nbb", *[b"b" * 1000] * 50, b"bb\nc\n", b"d" * 2000])
    lines = list(read_lines(chunks, max_bytes=100))
    assert [(line.number, line.data[:1], line.too_long) for line in lines] == [
        (1, b"a", False),
        (2, b"b", True),
        (3, b"c", False),
        (4, b"d", True),
    ]
    assert all(len(line.data) <= 1024 for line in lines)


@given(data=st.binary(max_size=300), sizes=st.lists(st.integers(1, 40), min_size=1), limit=st.integers(1, 60))
def test_lines_do_not_depend_on_how_the_file_was_cut_into_chunks(data, sizes, limit):
    stream, chunks, at = io.BytesIO(data), [], 0
    while chunk := stream.read(sizes[at % len(sizes)]):
        chunks.append(chunk)
        at += 1
    whole = list(read_lines(iter([data] if data else []), limit))
    assert list(read_lines(iter(chunks), limit)) == whole
    expected = data.split(b"\n")
    expected = expected[:-1] if expected[-1] == b"" else expected
    assert [line.too_long for line in whole] == [len(line) > limit for line in expected]
    for line, raw in zip(whole, expected, strict=True):
        assert isinstance(line, Line)
        if not line.too_long:
            plain = raw.removesuffix(b"\r")
            assert line.data == plain.removeprefix(b"\xef\xbb\xbf")


def test_shards_deal_out_every_row_once():
    shards = [Shard(number, 3) for number in range(3)]
    assert all(sum(shard.holds(index) for shard in shards) == 1 for index in range(10))


def test_row_count_is_estimated_from_bytes_and_exact_at_the_end(tmp_path):
    for name, count in (("a.jsonl", 3000), ("b.jsonl", 1000)):
        (tmp_path / name).write_bytes(b'{"prompt": "0123456789"}\n' * count)
    dataset = dataset_at(tmp_path)
    assert dataset.estimated_rows is None
    rows = dataset.rows()
    list(islice(rows, 100))
    assert dataset.estimated_rows == pytest.approx(4000, rel=0.02)
    assert sum(1 for _ in rows) == 3900
    assert dataset.estimated_rows == 4000
    limited = dataset_at(tmp_path, limit=10)
    assert limited.estimated_rows == 10
    next(limited.rows())
    assert limited.estimated_rows == 10


def test_fingerprint_changes_with_names_sizes_and_first_bytes(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_bytes(LINES)
    first = dataset_at(file).fingerprint()
    assert dataset_at(file).fingerprint() == first
    file.write_bytes(LINES.replace(b'"a"', b'"x"'))
    assert dataset_at(file).fingerprint() != first
    file.write_bytes(LINES * 2)
    assert dataset_at(file).fingerprint() != first


def test_unreadable_directory_is_an_error(tmp_path, monkeypatch):
    def refuse(self):
        raise PermissionError("denied")

    monkeypatch.setattr("pathlib.Path.iterdir", refuse)
    with pytest.raises(DatasetError, match="denied"):
        dataset_at(tmp_path)
