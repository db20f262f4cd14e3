import errno
import hashlib
import json
import os
from pathlib import Path

import pytest

from specbatch.errors import ResultsError
from specbatch.results.storage.appender import Appender


def check_json(line):
    json.loads(line)


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def open_file(path, lines=None, **options):
    def on_line(line):
        check_json(line)
        if lines is not None:
            lines.append(line)

    return Appender(path, on_line=on_line, **options)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "part.jsonl"


def failing(error_number, calls):
    def fail(*arguments):
        calls.append(arguments)
        raise OSError(error_number, os.strerror(error_number))

    return fail


def test_a_last_line_torn_at_any_byte_is_cut_and_nothing_else(path):
    whole = [json.dumps({"id": number, "text": "ä" * number}).encode() + b"\n" for number in range(4)]
    kept = b"".join(whole[:3])
    for length in range(len(whole[3])):
        path.write_bytes(kept + whole[3][:length])
        lines = []
        with open_file(path, lines) as file:
            assert [line + b"\n" for line in lines] == whole[:3]
            assert file.cut == length
            assert path.read_bytes() == kept
            file.append(whole[3])
        assert path.read_bytes() == b"".join(whole)
        assert file.sha256 == hashlib.sha256(b"".join(whole)).hexdigest()
        assert (file.rows, file.bytes) == (4, len(kept) + len(whole[3]))


@pytest.mark.parametrize(
    "tail", [b"\0" * 5000, b"{broken}\n", b"{broken}\n{again\n", b"{broken}\n\0\0", b"\n", b'{"a": 2} ']
)
def test_lines_at_the_end_that_are_no_rows_are_cut(path, tail):
    path.write_bytes(b'{"a": 1}\n' + tail)
    with open_file(path) as file:
        assert file.rows == 1
    assert path.read_bytes() == b'{"a": 1}\n'


def test_a_damaged_line_in_the_middle_is_an_error_and_left_alone(path):
    content = b'{"a": 1}\n{broken}\n{"a": 3}\n'
    path.write_bytes(content)
    with pytest.raises(ResultsError, match=r"line 2 is damaged[\s\S]*remedy: .*--fresh"):
        open_file(path)
    assert path.read_bytes() == content


def test_rows_are_synced_in_bounded_number_and_time(path, monkeypatch):
    clock, synced = Clock(), []
    with open_file(path, fsync_rows=3, fsync_seconds=5, clock=clock) as file:
        monkeypatch.setattr(os, "fsync", synced.append)
        file.append(b"1\n")
        file.append(b"2\n")
        assert len(synced) == 0
        file.append(b"3\n")
        assert len(synced) == 1
        file.append(b"4\n")
        clock.now = 4.9
        file.maybe_sync()
        assert len(synced) == 1
        clock.now = 5.0
        file.maybe_sync()
        assert len(synced) == 2
        clock.now = 100.0
        file.maybe_sync()
        file.sync()
        assert len(synced) == 2  # nothing new
        file.append(b"5\n")
        assert len(synced) == 2  # time counts from the first unsynced row
    assert len(synced) == 3


def test_a_new_file_is_entered_in_its_directory_for_good(path, monkeypatch):
    synced, real = [], os.fsync

    def record(descriptor):
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        real(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    open_file(path).close()
    assert path.parent in synced


def test_a_partly_written_line_is_taken_back(path, monkeypatch):
    with open_file(path) as file:
        file.append(b'{"a": 1}\n')
        real, calls = os.write, []

        def half_then_full(descriptor, data):
            calls.append(len(data))
            if len(calls) == 1:
                return real(descriptor, bytes(data)[:4])
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "write", half_then_full)
        with pytest.raises(ResultsError, match=r"No space left on device[\s\S]*remedy: free space"):
            file.append(b'{"a": 2}\n')
        assert path.read_bytes() == b'{"a": 1}\n'
        monkeypatch.undo()
        file.append(b'{"a": 3}\n')  # there is room again
    assert path.read_bytes() == b'{"a": 1}\n{"a": 3}\n'
    assert file.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_short_write_is_completed(path, monkeypatch):
    real = os.write
    with open_file(path) as file:
        monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, bytes(data)[:3]))
        file.append(b'{"a": 1}\n')
    assert path.read_bytes() == b'{"a": 1}\n'


@pytest.mark.parametrize("broken", ["ftruncate", "fsync"])
def test_after_a_failure_that_leaves_the_disk_unknown_nothing_more_is_written(path, monkeypatch, broken):
    file = open_file(path)
    file.append(b"1\n")
    if broken == "ftruncate":
        monkeypatch.setattr(os, "write", failing(errno.EIO, []))
        monkeypatch.setattr(os, "ftruncate", failing(errno.EIO, []))
        with pytest.raises(ResultsError, match="append a row"):
            file.append(b"2\n")
    else:
        monkeypatch.setattr(os, "fsync", failing(errno.EIO, []))
        with pytest.raises(ResultsError, match="sync the file"):
            file.sync()
    monkeypatch.undo()
    with pytest.raises(ResultsError, match=r"what the disk holds is not known[\s\S]*start again"):
        file.append(b"3\n")
    file.close()
    assert path.read_bytes() == b"1\n"


def test_a_file_that_cannot_be_read_back_is_a_results_error_and_let_go(path, monkeypatch):
    path.write_bytes(b"1\n")
    monkeypatch.setattr(os, "fsync", failing(errno.EIO, []))
    with pytest.raises(ResultsError, match="read the file back"):
        open_file(path)
    monkeypatch.undo()
    open_file(path).close()


def test_a_file_size_limit_is_a_results_error_and_leaves_whole_lines(path, run_python):
    code = """
import resource, sys, pathlib
from specbatch.errors import ResultsError
from specbatch.results.storage.appender import Appender
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
file = Appender(pathlib.Path(sys.argv[1]), on_line=lambda line: None)
try:
    while True:
        file.append(b"x" * 98 + b"\\n")
except ResultsError as error:
    print(error)
"""
    assert "File too large" in run_python(code, path).stdout
    assert path.read_bytes() == (b"x" * 98 + b"\n") * 10
