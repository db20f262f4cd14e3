import errno
import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specbatch.results.storage import sorting
from specbatch.results.storage.sorting import LineSorter

keys = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 1 << 63)), unique=True, max_size=60)


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


def sort(directory, rows, **options):
    with LineSorter(directory, **options) as sorter:
        for row in rows:
            sorter.add(*row)
        return list(sorter.sorted())


@pytest.mark.slow
@given(keys, st.integers(0, 3000), st.integers(2, 4), st.integers(0, 400))
def test_any_rows_come_back_in_order_whatever_the_memory(tmp_path_factory, keys, memory_bytes, fan_in, size):
    rows = [(index, rank, f"{index}:{rank}".encode() * (rank % 3) + b"\n" * size) for index, rank in keys]
    directory = tmp_path_factory.getbasetemp()
    assert sort(directory, rows, memory_bytes=memory_bytes, fan_in=fan_in) == sorted(rows)


def test_rows_that_fit_the_memory_need_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "TemporaryFile", None)
    rows = [(index, 0, b"x") for index in range(1000)]
    assert sort(tmp_path, reversed(rows)) == rows


def test_nearly_sorted_rows_make_one_run_however_many_they_are(tmp_path):
    order = random.Random(1)
    rows = sorted(((index, 0, b"row") for index in range(20_000)), key=lambda row: row[0] + order.random() * 40)
    with LineSorter(tmp_path, memory_bytes=100_000) as sorter:
        for row in rows:
            sorter.add(*row)
        assert [row[0] for row in sorter.sorted()] == list(range(20_000))
        assert [len(level) for level in sorter._levels] == [1]


def test_many_runs_are_merged_in_passes_and_few_files_are_open(tmp_path):
    before = open_files()
    with LineSorter(tmp_path, memory_bytes=1, fan_in=4) as sorter:
        for index in reversed(range(500)):  # each row is a run of its own
            sorter.add(index, 0, b"%d" % index)
        assert open_files() - before <= 4 * 6
        assert [line for _, _, line in sorter.sorted()] == [b"%d" % index for index in range(500)]
        assert open_files() - before <= 5
    assert open_files() == before


def test_temporary_files_have_no_names(tmp_path):
    with LineSorter(tmp_path, memory_bytes=1) as sorter:
        sorter.add(1, 0, b"x" * 1_000_000)
        sorter.add(0, 0, b"y")
        assert list(tmp_path.iterdir()) == []
        assert sorter.spilled_bytes > 1_000_000


def test_a_full_disk_is_one_os_error_and_leaves_nothing_open(tmp_path, monkeypatch):
    before = open_files()
    real = tempfile.TemporaryFile

    def full(**options):
        real(**options).close()
        return Path("/dev/full").open("r+b", buffering=0)

    monkeypatch.setattr(sorting.tempfile, "TemporaryFile", full)
    with pytest.raises(OSError, match="No space") as caught:
        sort(tmp_path, [(0, 0, b"x" * 1_000_000)], memory_bytes=1)
    assert caught.value.errno == errno.ENOSPC
    assert open_files() == before
