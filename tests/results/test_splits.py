"""The list of a run's splits, and the lock that keeps two of them apart."""

import errno
import fcntl
import os
import threading
import time

import pytest

from specbatch.errors import ResultsError
from specbatch.results import splits
from specbatch.results.layout import SPLITS
from specbatch.results.splits import Split, SplitLock, decode_splits, encode_splits, next_history, read_split
from specbatch.results.storage.folder import Folder


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(splits, "PATIENCE_SECONDS", 0.3)


def join(run_dir, shards, **options):
    lock = SplitLock.join(run_dir, shards, **options)
    lock.release()
    return lock.split


def history(run_dir):
    return decode_splits((run_dir / SPLITS).read_bytes())


def test_each_change_is_a_line_also_the_way_back(tmp_path):
    joined = [join(tmp_path, shards) for shards in (3, 3, 5, 3)]
    assert joined == [Split(3, 0), Split(3, 0), Split(5, 1), Split(3, 2)]
    assert history(tmp_path) == (3, 5, 3)
    assert read_split(Folder(tmp_path), Folder(tmp_path).sizes()) == Split(3, 2)


@pytest.mark.slow
def test_shards_of_one_split_share_it_and_another_split_waits_until_all_are_gone(tmp_path):
    first, second = SplitLock.join(tmp_path, 2), SplitLock.join(tmp_path, 2)
    for lock in (first, second):
        with pytest.raises(ResultsError, match=r"writing .*split into 2; this one is to split it into 3") as refused:
            join(tmp_path, 3)
        assert refused.value.exit_code.retryable
        assert "or run with 2 shards" in refused.value.remedy
        lock.release()
        lock.release()
    assert join(tmp_path, 3) == Split(3, 1)


def test_the_shard_that_still_writes_is_named(tmp_path):
    lock = SplitLock.join(tmp_path, 2)
    (tmp_path / "identity-00000-of-00002.json").touch()
    (tmp_path / "identity-00001-of-00002.json").touch()
    (tmp_path / "part-00000-of-00002.jsonl").touch()
    with (tmp_path / "part-00001-of-00002.jsonl").open("w") as part:
        fcntl.flock(part, fcntl.LOCK_EX)
        with pytest.raises(ResultsError, match="is writing shard 1 of the run as it is split into 2"):
            join(tmp_path, 3)
    lock.release()


def test_a_writer_that_ends_within_the_patience_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(splits, "PATIENCE_SECONDS", 20)
    lock = SplitLock.join(tmp_path, 2)
    timer = threading.Timer(0.3, lock.release)
    timer.start()
    assert join(tmp_path, 3) == Split(3, 1)
    timer.join()


def test_many_shards_that_start_at_the_same_moment_begin_one_split(tmp_path, monkeypatch):
    monkeypatch.setattr(splits, "PATIENCE_SECONDS", 20)
    join(tmp_path, 3)
    joined, gate = [], threading.Barrier(8)

    def start():
        gate.wait()
        lock = SplitLock.join(tmp_path, 5)
        joined.append(lock.split)
        time.sleep(0.02)
        lock.release()

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert joined == [Split(5, 1)] * 8
    assert history(tmp_path) == (3, 5)


def test_whoever_splits_the_run_anew_for_too_long_is_told_of(tmp_path):
    join(tmp_path, 2)
    with (tmp_path / SPLITS).open("rb+") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(ResultsError, match=r"about to split the run anew[\s\S]*start again"):
            join(tmp_path, 2)


@pytest.mark.parametrize("torn", [b'{"shar', b"\0\0\0\0", b'{"shards": 7}'])
def test_what_a_dying_writer_left_at_the_end_is_cut_off(tmp_path, torn):
    join(tmp_path, 2)
    with (tmp_path / SPLITS).open("ab") as file:
        file.write(torn)
    assert join(tmp_path, 2) == Split(2, 0)
    assert join(tmp_path, 3) == Split(3, 1)
    assert (tmp_path / SPLITS).read_bytes() == encode_splits([2, 3])


@pytest.mark.parametrize(
    "data", [b"junk\n" + encode_splits([2]), b'{"shards": 0}\n{"shards": 1}\n', b'[]\n{"shards": 1}\n']
)
def test_a_damaged_list_is_an_error_and_not_another_split(tmp_path, data):
    (tmp_path / SPLITS).write_bytes(data)
    with pytest.raises(ResultsError, match=r"not the list of a run's splits[\s\S]*check the disk"):
        join(tmp_path, 2)
    with pytest.raises(ResultsError, match="not the list of a run's splits"):
        read_split(Folder(tmp_path), [SPLITS])


def test_without_a_list_the_files_say_how_the_run_is_split(tmp_path):
    assert read_split(Folder(tmp_path), []) is None
    (tmp_path / "part-00000-of-00003.jsonl").touch()
    assert join(tmp_path, 5) == Split(5, 1)
    assert history(tmp_path) == (3, 5)
    names = ["part-00000-of-00003.jsonl", "part-00000-of-00005.jsonl"]
    with pytest.raises(ResultsError, match="runs split into 3, 5 shards lie there together"):
        read_split(Folder(tmp_path), names)


@pytest.mark.parametrize(
    ("here", "known", "after"),
    [((), (), (4,)), ((), (3,), (3, 4)), ((3,), (3, 5), (3, 5, 4)), ((), (3, 4), (3, 4)), ((2, 4), (3,), (2, 4))],
)
def test_a_lost_directory_goes_on_from_what_is_known_elsewhere(tmp_path, here, known, after):
    assert next_history(here, 4, known) == after
    (tmp_path / SPLITS).write_bytes(encode_splits(here))
    assert join(tmp_path, 4, known=known) == Split(4, len(after) - 1)
    assert history(tmp_path) == after


def test_success_goes_before_the_run_is_split_anew(tmp_path):
    join(tmp_path, 2)
    (tmp_path / "_SUCCESS").touch()
    join(tmp_path, 2)
    assert (tmp_path / "_SUCCESS").exists()
    join(tmp_path, 3)
    assert not (tmp_path / "_SUCCESS").exists()


def test_a_file_system_without_locks_is_written_all_the_same(tmp_path, monkeypatch):
    def no_locks(descriptor, how):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    assert [join(tmp_path, shards) for shards in (2, 3)] == [Split(2, 0), Split(3, 1)]


def test_a_list_that_cannot_be_locked_or_written_is_a_results_error(tmp_path, monkeypatch):
    def fail(descriptor, how):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(ResultsError, match="cannot join the run's split"):
        join(tmp_path, 2)
