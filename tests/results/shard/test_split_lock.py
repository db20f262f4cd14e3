"""The lock that keeps processes of two splits apart, and the list that it locks."""

import errno
import fcntl
import os
import threading
import time

import pytest

from specbatch.errors import ResultsError, SplitError
from specbatch.results.layout import SPLITS
from specbatch.results.shard import split_lock
from specbatch.results.shard.split_lock import SplitLock
from specbatch.results.splits import decode_splits, encode_split, read_split
from specbatch.results.storage.folder import Folder


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(split_lock, "WAIT_SECONDS", 0.3)


def share(run_dir, shards, **options):
    lock = SplitLock(run_dir)
    try:
        lock.share(shards, **options)
    except BaseException:
        lock.release()
        raise
    return lock


def join(run_dir, shards, **options):
    share(run_dir, shards, **options).release()


def reshard(run_dir, shards):
    with SplitLock(run_dir) as lock:
        lock.hold_alone()
        lock.change(shards)


def history(run_dir):
    return decode_splits((run_dir / SPLITS).read_bytes())


def test_the_first_process_decides_and_one_of_another_split_is_refused(tmp_path):
    join(tmp_path, 3)
    join(tmp_path, 3)
    with pytest.raises(SplitError, match="split into 3 shards, and this process is one of 5") as refused:
        join(tmp_path, 5)
    assert refused.value.exit_code == 64
    assert history(tmp_path) == (3,)


def test_each_change_is_a_line_also_the_way_back(tmp_path):
    join(tmp_path, 3)
    for shards in (5, 3):
        reshard(tmp_path, shards)
        join(tmp_path, shards)
    assert history(tmp_path) == (3, 5, 3)
    assert read_split(Folder(tmp_path), Folder(tmp_path).sizes()) == 3


@pytest.mark.slow
def test_shards_of_one_split_share_it_and_a_change_waits_until_all_are_gone(tmp_path):
    for lock in (share(tmp_path, 2), share(tmp_path, 2)):
        with pytest.raises(ResultsError, match="is writing a shard of this run, which is split into 2") as refused:
            reshard(tmp_path, 3)
        assert refused.value.exit_code.retryable
        lock.release()
        lock.release()
    reshard(tmp_path, 3)
    join(tmp_path, 3)


@pytest.mark.slow
def test_the_shard_that_still_writes_is_named(tmp_path):
    lock = share(tmp_path, 2)
    with (tmp_path / "part-00001-of-00002.jsonl").open("w") as part:
        fcntl.flock(part, fcntl.LOCK_EX)
        with pytest.raises(ResultsError, match="is writing shard 1 of this run, which is split into 2"):
            reshard(tmp_path, 3)
    lock.release()


@pytest.mark.slow
def test_a_writer_that_ends_soon_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(split_lock, "WAIT_SECONDS", 20)
    timer = threading.Timer(0.2, share(tmp_path, 2).release)
    timer.start()
    reshard(tmp_path, 3)
    timer.join()


@pytest.mark.slow
@pytest.mark.parametrize("old", [None, 3])
def test_many_shards_that_start_at_the_same_moment_agree_on_one_split(tmp_path, monkeypatch, old):
    monkeypatch.setattr(split_lock, "WAIT_SECONDS", 20)
    if old:
        join(tmp_path, old)
    joined, gate = [], threading.Barrier(8)

    def start():
        gate.wait()
        lock = share(tmp_path, 5, fresh=old is not None)
        joined.append(lock)
        time.sleep(0.02)
        lock.release()

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(joined) == 8
    assert history(tmp_path) == ((3, 5) if old else (5,))


@pytest.mark.slow
def test_fresh_takes_another_split_only_once_nobody_writes(tmp_path):
    lock = share(tmp_path, 2)
    with pytest.raises(ResultsError, match="is writing a shard") as refused:
        join(tmp_path, 3, fresh=True)
    assert refused.value.exit_code.retryable
    lock.release()
    join(tmp_path, 3, fresh=True)
    assert history(tmp_path) == (2, 3)


@pytest.mark.slow
def test_a_writer_does_not_start_while_the_run_is_resharded(tmp_path):
    join(tmp_path, 2)
    with SplitLock(tmp_path) as lock:
        assert lock.hold_alone() == 2
        with pytest.raises(ResultsError, match="is changing the number of shards") as refused:
            join(tmp_path, 2)
    assert refused.value.exit_code.retryable


@pytest.mark.parametrize("torn", [b'{"shar', b"\0\0\0\0", b'{"shards": 7}'])
def test_what_a_killed_process_left_at_the_end_is_cut_off(tmp_path, torn):
    join(tmp_path, 2)
    with (tmp_path / SPLITS).open("ab") as file:
        file.write(torn)
    join(tmp_path, 2)
    assert read_split(Folder(tmp_path), [SPLITS]) == 2
    reshard(tmp_path, 3)
    assert (tmp_path / SPLITS).read_bytes() == encode_split(2) + encode_split(3)


@pytest.mark.parametrize(
    "data", [b"junk\n" + encode_split(2), b'{"shards": 0}\n{"shards": 1}\n', b'[]\n{"shards": 1}\n']
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
    (tmp_path / "progress-00000-of-00004.json").touch()  # of before a reshard
    with pytest.raises(SplitError, match="split into 3 shards"):
        join(tmp_path, 5)
    join(tmp_path, 3)
    assert history(tmp_path) == (3,)
    names = ["part-00000-of-00003.jsonl", "part-00000-of-00005.jsonl"]
    with pytest.raises(ResultsError, match="runs split into 3, 5 shards lie there together"):
        read_split(Folder(tmp_path), names)


def test_a_file_system_without_locks_is_written_all_the_same(tmp_path, monkeypatch):
    def no_locks(descriptor, how):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    join(tmp_path, 2)
    reshard(tmp_path, 3)
    assert history(tmp_path) == (2, 3)


def test_a_list_that_cannot_be_locked_is_a_results_error(tmp_path, monkeypatch):
    def fail(descriptor, how):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(ResultsError, match="cannot lock the list of the run's splits"):
        join(tmp_path, 2)
