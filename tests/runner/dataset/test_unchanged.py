"""A dataset that is not, at its end, what it was at the start, or not of the size that was expected, is no success."""

import os

import fsspec
import pytest

from specbatch.errors import DatasetError
from tests.runner.tiny import dataset_at

LINES = b"".join(b'{"prompt": "number %d"}\n' % number for number in range(300))


def half_read(uri, **options):
    """A dataset's rows, of which some were taken."""
    rows = dataset_at(uri, **options).rows()
    next(rows)
    return rows


def grow(file):
    with file.open("ab") as opened:
        opened.write(b'{"prompt": "one more"}\n')


def cut(file):
    os.truncate(file, 5000)


def replace(file):
    (file.parent / "new").write_bytes(LINES.replace(b"number", b"NUMBER"))
    os.utime(file.parent / "new", ns=(1, 2))
    (file.parent / "new").rename(file)


def remove(file):
    file.unlink()


def add(file):
    (file.parent / "another.jsonl").write_bytes(LINES)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (grow, r"rows.jsonl had 7,\d+ bytes, and has 7,\d+ now"),
        (cut, "and has 5,000 now"),
        (replace, "was written anew, with the same size"),
        (remove, "is gone|no files of rows"),
        (add, "another.jsonl is new"),
    ],
)
def test_a_change_while_it_is_read_is_an_error_after_the_rows(tmp_path, change, what):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "rows.jsonl").write_bytes(LINES)
    rows = half_read(folder)
    change(folder / "rows.jsonl")
    with pytest.raises(DatasetError, match=f"changed while it was read: .*({what})") as caught:
        list(rows)
    assert "--fresh" in caught.value.remedy


def test_a_dataset_that_stays_is_read_to_its_end_and_a_limit_asks_for_no_more(tmp_path):
    (tmp_path / "rows.jsonl").write_bytes(LINES)
    assert len(list(half_read(tmp_path / "rows.jsonl"))) == 299
    rows = half_read(tmp_path / "rows.jsonl", limit=10)
    grow(tmp_path / "rows.jsonl")
    assert len(list(rows)) == 9
    rows = half_read(tmp_path / "rows.jsonl", limit=10)
    cut(tmp_path / "rows.jsonl")
    with pytest.raises(DatasetError, match="5,000 now"):
        list(rows)


def test_an_object_of_a_store_that_is_replaced_is_noticed():
    store = fsspec.filesystem("memory")
    store.pipe("/changing/rows.jsonl", LINES)
    rows = half_read("memory://changing/rows.jsonl")
    store.pipe("/changing/rows.jsonl", LINES * 2)
    with pytest.raises(DatasetError, match="changed while it was read"):
        list(rows)


@pytest.mark.parametrize("expected", [299, 301, 1])
def test_more_or_fewer_rows_than_expected_are_an_error_after_the_last(tmp_path, expected):
    (tmp_path / "rows.jsonl").write_bytes(LINES)
    rows = dataset_at(tmp_path / "rows.jsonl", expect_rows=expected).rows()
    assert sum(1 for _ in (next(rows) for _ in range(300))) == 300
    with pytest.raises(DatasetError, match=f"holds 300 rows, and dataset.expectRows is {expected}"):
        next(rows)


def test_as_many_rows_as_expected_are_right_and_a_limit_lowers_the_number(tmp_path):
    (tmp_path / "rows.jsonl").write_bytes(LINES)
    assert len(list(dataset_at(tmp_path / "rows.jsonl", expect_rows=300).rows())) == 300
    assert len(list(dataset_at(tmp_path / "rows.jsonl", expect_rows=300, limit=7).rows())) == 7
    with pytest.raises(DatasetError, match=r"holds 300 rows, and dataset\.expectRows is 301"):
        list(dataset_at(tmp_path / "rows.jsonl", expect_rows=301, limit=400).rows())
