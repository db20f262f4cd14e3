"""collect at its limits: memory, long lines, full disks, kills. In processes of their own where those are measured."""

import os
import signal
import subprocess
import sys
import time
from random import Random

import pytest

from specbatch.errors import ResultsError
from specbatch.results.collect.collect import collect
from specbatch.results.manifest import write_success
from tests.results.builders import make_row
from tests.results.collect_runs import indices, write_run, write_shard

# Prints the peak of its memory in KiB: Linux counts it from the start of the program (VmHWM), not from its parent's.
MEASURED = """
import sys
from pathlib import Path
from specbatch.results.collect.collect import collect
collect(sys.argv[1], Path(sys.argv[2]), memory_bytes=int(sys.argv[3]), form=sys.argv[4])
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.fixture
def tmpfs(tmp_path):
    """A full disk is soon had here: 1 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], check=False, capture_output=True
    ).returncode:
        pytest.skip("may not mount a tmpfs")
    yield place
    subprocess.run(["umount", place], check=True)


def peak_kib(run_python, run_dir, out, memory_bytes, form="jsonl"):
    return int(run_python(MEASURED, run_dir, out, memory_bytes, form).stdout)


@pytest.fixture(scope="module")
def small_and_large(tmp_path_factory):
    """Two runs, the second with twenty times the rows."""
    runs = [tmp_path_factory.mktemp(name) for name in ("small", "large")]
    for run_dir, rows in zip(runs, (7_500, 150_000), strict=True):
        write_run(run_dir, rows, shards=4, parts=3)
    return runs


@pytest.mark.slow
@pytest.mark.parametrize("form", ["jsonl", "openai", "parquet"])
def test_twenty_times_the_rows_need_no_more_memory(run_python, small_and_large, tmp_path, form):
    peaks = [peak_kib(run_python, run_dir, tmp_path / "out", 2 << 20, form) for run_dir in small_and_large]
    assert (tmp_path / "out").stat().st_size > 1_000_000
    # Tables hold one group of rows (32768): the smaller run is less than half of one.
    assert peaks[1] - peaks[0] < (64 << 10 if form == "parquet" else 8 << 10), peaks


@pytest.mark.slow
def test_long_lines_are_never_held_side_by_side(run_python, tmp_path):
    peaks = []
    for rows in (2, 12):
        run_dir = tmp_path / str(rows)
        # Backwards, so that every row is a run of its own, and all of them are merged at once.
        write_shard(
            run_dir, [[make_row(index, text="é" * 5_000_000)] for index in reversed(range(rows))], dataset_rows=rows
        )
        write_success(run_dir)
        peaks.append(peak_kib(run_python, run_dir, tmp_path / "out", 1 << 20))
        assert indices(tmp_path / "out") == list(range(rows))
    assert peaks[1] - peaks[0] < 15_000, peaks


@pytest.mark.slow
def test_a_line_of_50_mb_is_a_row_like_any_other(run_dir, tmp_path):
    rows = [make_row(2), make_row(1, text="x" * 50_000_000), make_row(0)]
    write_shard(run_dir, [rows], dataset_rows=3)
    write_success(run_dir)
    for form in ("jsonl", "openai", "parquet"):
        assert collect(run_dir, tmp_path / f"out.{form}", form=form).complete
    assert indices(tmp_path / "out.jsonl") == [0, 1, 2]
    assert (tmp_path / "out.jsonl").stat().st_size == (run_dir / "part-00000-of-00001.jsonl").stat().st_size


@pytest.mark.slow
@pytest.mark.parametrize("form", ["jsonl", "openai", "parquet"])
def test_a_full_disk_under_the_output_is_one_error_and_leaves_it_empty(run_dir, tmpfs, form):
    random = Random(1)
    write_shard(
        run_dir, [[make_row(index, text=random.randbytes(500).hex()) for index in range(3000)]], dataset_rows=3000
    )
    write_success(run_dir)
    for tmp in (None, run_dir.parent):
        with pytest.raises(ResultsError, match="No space left on device") as caught:
            collect(run_dir, tmpfs / "out.jsonl", form=form, memory_bytes=1 << 20, tmp=tmp)
        assert str(tmpfs) in caught.value.where
        assert "free space" in caught.value.remedy
        assert list(tmpfs.iterdir()) == []
        assert os.statvfs(tmpfs).f_bfree == os.statvfs(tmpfs).f_blocks


def test_a_full_disk_under_temporary_files_keeps_the_output_as_it_was(run_dir, tmp_path, tmpfs):
    write_run(run_dir, 10_000)
    (tmp_path / "out.jsonl").write_text("old")
    with pytest.raises(ResultsError, match="cannot write a temporary file: No space left") as caught:
        collect(run_dir, tmp_path / "out.jsonl", memory_bytes=1 << 20, tmp=tmpfs)
    assert "--tmp" in caught.value.remedy
    assert (tmp_path / "out.jsonl").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["nightly", "out.jsonl", "small"]


def test_a_read_only_place_is_one_error(run_dir, tmpfs):
    write_run(run_dir, 3)
    subprocess.run(["mount", "-o", "remount,ro", tmpfs], check=True)
    with pytest.raises(ResultsError, match="Read-only file system") as caught:
        collect(run_dir, tmpfs / "out.jsonl")
    assert "may write to" in caught.value.remedy


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_it_leaves_nothing_behind(run_dir, tmp_path, number):
    write_run(run_dir, 60_000, shards=2)
    out = tmp_path / "out.jsonl"
    words = [sys.executable, "-m", "specbatch", "collect", run_dir, "-o", out]
    for seconds in (0.3, 0.7, 1.1, None):
        process = subprocess.Popen(words, stderr=subprocess.PIPE)
        if seconds is None:  # while rows are being written
            while process.poll() is None and not list(tmp_path.glob(".out.jsonl.*.tmp")):
                time.sleep(0.001)
        else:
            time.sleep(seconds)
        process.send_signal(number)
        said = process.communicate(timeout=60)[1]
        # -number: before anything of ours was running; 0: after everything.
        assert process.returncode in {0, 128 + number, -number} - ({-number} if seconds is None else set())
        assert b"Traceback" not in said or process.returncode == -number
        if process.returncode == 0 or out.exists():  # the signal came after the last step
            assert indices(out) == list(range(60_000))
            out.unlink()
        assert [path.name for path in tmp_path.iterdir()] == ["nightly"]
