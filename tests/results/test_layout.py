import errno
import os
from pathlib import Path

import pytest

from specbatch.errors import ResultsError
from specbatch.results.layout import SUFFIXES, ShardFile, rows_of_share, run_directory, shard_files
from specbatch.results.storage.durable import make_directory, results_error, sync_directory, write_atomic


def test_file_names_are_those_of_the_design():
    assert ShardFile("part", 0, 4).name == "part-00000-of-00004.jsonl"
    assert ShardFile("errors", 3, 4).name == "errors-00003-of-00004.jsonl"
    assert ShardFile("manifest", 123_456, 1_000_000).name == "manifest-123456-of-1000000.json"
    assert ShardFile("part", 0, 4, 12).name == "part-00000-of-00004-00012.jsonl"
    assert run_directory("/results", "nightly") == Path("/results/nightly")
    assert run_directory("~/results", "nightly") == Path.home() / "results" / "nightly"


def test_names_are_parsed_back_and_others_are_not():
    for kind in SUFFIXES:
        file = ShardFile(kind, 7, 12)
        assert ShardFile.parse(file.name) == file
    assert ShardFile.parse("errors-00000-of-00001-00003.jsonl") == ShardFile("errors", 0, 1, 3)
    for name in (
        "part-00000-of-00001-00000.jsonl",
        "manifest-00000-of-00001-00001.json",
        "part-000000-of-00001.jsonl",
        "part-00004-of-00004.jsonl",
        "part-0-of-1.jsonl",
        "part-00000-of-00001.json",
        "_SUCCESS",
        "x",
    ):
        assert ShardFile.parse(name) is None


def test_shard_files_are_found_in_order(tmp_path):
    for name in ("part-00001-of-00002.jsonl", "errors-00000-of-00002.jsonl", "part-00000-of-00002.jsonl", "notes.txt"):
        (tmp_path / name).touch()
    assert [file.shard for file in shard_files(tmp_path, "part")] == [0, 1]
    assert len(list(shard_files(tmp_path))) == 3
    assert list(shard_files(tmp_path / "missing")) == []


def test_an_atomic_write_that_fails_leaves_the_old_content_and_no_litter(tmp_path, monkeypatch):
    path = tmp_path / "manifest.json"
    write_atomic(path, b"old")

    def fail(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(ResultsError, match=r"manifest\.json: cannot write the file: No space left"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_atomic_write_makes_a_new_file_and_never_touches_the_old_one(tmp_path):
    path = tmp_path / "manifest.json"
    write_atomic(path, b"old")
    with path.open("rb") as reader:
        write_atomic(path, b"new")
        assert reader.read() == b"old"
    assert path.read_bytes() == b"new"


def test_a_directory_that_cannot_be_synced_is_no_error_but_a_failing_disk_is(tmp_path, monkeypatch):
    def fail_with(number):
        def fail(descriptor):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "fsync", fail)

    fail_with(errno.EINVAL)
    sync_directory(tmp_path)
    fail_with(errno.EIO)
    with pytest.raises(OSError, match="Input/output"):
        sync_directory(tmp_path)


def test_new_directories_are_entered_in_their_parents_for_good(tmp_path, monkeypatch):
    synced, real = [], os.fsync

    def record(descriptor):
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        real(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    make_directory(tmp_path / "a" / "b")
    assert {tmp_path, tmp_path / "a"} <= set(synced)


def test_a_directory_that_a_killed_attempt_made_is_entered_for_good_by_the_next(tmp_path, monkeypatch):
    (tmp_path / "a" / "b").mkdir(parents=True)
    synced, real = [], os.fsync

    def record(descriptor):
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        real(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    make_directory(tmp_path / "a" / "b")
    assert {tmp_path, tmp_path / "a"} <= set(synced)


def test_a_file_in_the_way_of_the_directory_is_an_error(tmp_path):
    (tmp_path / "results").write_text("")
    with pytest.raises(ResultsError, match="make the results directory"):
        make_directory(tmp_path / "results" / "nightly")


@pytest.mark.parametrize(
    ("number", "remedy"),
    [(errno.EDQUOT, "free space"), (errno.EROFS, "make the directory writable"), (errno.EIO, "check the volume")],
)
def test_every_failure_has_a_remedy_and_exit_code_74(number, remedy):
    error = results_error(OSError(number, os.strerror(number)), Path("/x"), "append a row")
    assert error.remedy.startswith(remedy)
    assert error.exit_code == 74


@pytest.mark.parametrize(("rows", "shards"), [(0, 1), (1, 3), (7, 3), (9, 3), (2, 5)])
def test_the_shares_of_all_shards_are_the_rows(rows, shards):
    shares = [rows_of_share(shard, shards, rows) for shard in range(shards)]
    assert shares == [len(range(shard, rows, shards)) for shard in range(shards)]
    assert sum(shares) == rows


def test_a_share_of_any_number_of_rows_is_a_number():
    assert rows_of_share(0, 2, 2**64) == 2**63
