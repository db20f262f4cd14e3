import errno
import fcntl
import os

import pytest

from specbatch.errors import ResultsError
from specbatch.results.storage.locking import WriterLock


@pytest.fixture
def path(tmp_path):
    return tmp_path / "part.jsonl"


def test_a_second_writer_is_refused_until_the_first_is_gone(path):
    first = WriterLock(path)
    with pytest.raises(ResultsError, match=r"another process is writing this file[\s\S]*remedy"):
        WriterLock(path)
    first.release()
    first.release()
    WriterLock(path).release()


def test_a_file_system_without_locks_is_written_all_the_same(path, monkeypatch):
    def no_locks(descriptor, how):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    WriterLock(path).release()


def test_a_failing_lock_is_a_results_error(path, monkeypatch):
    def fail(descriptor, how):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(ResultsError, match="cannot open the file for appending"):
        WriterLock(path)


def test_a_file_removed_between_open_and_lock_is_opened_again(path, monkeypatch):
    real, removed = fcntl.flock, []

    def remove_once(descriptor, how):
        if not removed:
            removed.append(path.unlink())
        real(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", remove_once)
    lock = WriterLock(path)
    monkeypatch.undo()
    with pytest.raises(ResultsError, match="another process"):
        WriterLock(path)
    lock.release()
