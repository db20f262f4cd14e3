import errno
import hashlib
import json
import os
from pathlib import Path

import pytest

from specbatch.errors import ResultsError
from specbatch.results.layout import ShardFile
from specbatch.results.shard.parts import PartPolicy, Parts

FIRST = ShardFile("part", 0, 1)
NAMES = ["part-00000-of-00001.jsonl", "part-00000-of-00001-00001.jsonl", "part-00000-of-00001-00002.jsonl"]
ROW = b'{"id": "0123456789"}\n'


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def open_parts(run_dir, found=None, clock=None, **policy):
    def on_line(line):
        json.loads(line)
        if found is not None:
            found.append(line + b"\n")

    return Parts(run_dir, FIRST, on_line, PartPolicy(**policy), clock or Clock())


def files(run_dir):
    return {path.name: path.read_bytes() for path in sorted(run_dir.iterdir())}


def test_a_file_that_has_grown_large_is_closed_and_the_next_row_begins_another(tmp_path):
    closed = []
    parts = open_parts(tmp_path, max_bytes=2 * len(ROW), on_closed=closed.append)
    for _ in range(4):
        parts.append(ROW)
    assert files(tmp_path) == {NAMES[0]: 2 * ROW, NAMES[1]: 2 * ROW}, "no empty file is made ahead of its first row"
    parts.append(ROW)
    assert [entry.name for entry in closed] == NAMES[:2]
    parts.close()
    assert [entry.name for entry in closed] == NAMES
    assert tuple(closed) == parts.entries
    for entry in closed:
        content = files(tmp_path)[entry.name]
        assert (entry.bytes, entry.rows) == (len(content), content.count(b"\n"))
        assert entry.sha256 == hashlib.sha256(content).hexdigest()


def test_a_restart_reads_every_file_in_order_and_goes_on_with_the_last(tmp_path):
    rows = [json.dumps({"id": number}).encode() + b"\n" for number in range(6)]
    parts = open_parts(tmp_path, max_bytes=2 * len(rows[0]))
    for row in rows[:5]:
        parts.append(row)
    parts.close()
    before = files(tmp_path)
    found, closed = [], []
    again = open_parts(tmp_path, found, max_bytes=2 * len(rows[0]), on_closed=closed.append)
    assert found == rows[:5]
    assert [entry.name for entry in closed] == NAMES[:2]
    again.append(rows[5])
    again.close()
    assert files(tmp_path) == {**before, NAMES[2]: rows[4] + rows[5]}


def test_where_parts_are_published_a_restart_never_touches_what_an_earlier_attempt_wrote(tmp_path):
    for attempt in range(3):
        closed = []
        parts = open_parts(tmp_path, max_seconds=60.0, on_closed=closed.append)
        assert [entry.name for entry in closed] == NAMES[:attempt], "found closed, and offered again"
        parts.append(ROW)
        parts.close()
    assert files(tmp_path) == dict.fromkeys(NAMES, ROW)


def test_a_published_part_is_closed_by_age_even_while_no_row_comes(tmp_path):
    clock, closed = Clock(), []
    parts = open_parts(tmp_path, clock=clock, max_seconds=60.0, on_closed=closed.append)
    clock.now = 1000.0
    parts.append(ROW)
    clock.now = 1059.0
    parts.maybe_sync()
    assert not closed, "its age counts from its first row"
    clock.now = 1060.0
    parts.maybe_sync()
    assert [entry.rows for entry in closed] == [1]
    clock.now = 5000.0
    parts.maybe_sync()
    parts.append(ROW)
    parts.close()
    assert files(tmp_path) == {NAMES[0]: ROW, NAMES[1]: ROW}


def test_a_file_is_synced_before_the_next_one_is_made(tmp_path, monkeypatch):
    events, real_open, real_sync = [], os.open, os.fsync

    def record_open(path, flags, *mode):
        if flags & os.O_CREAT:
            events.append(("made", Path(path).name))
        return real_open(path, flags, *mode)

    def record_sync(descriptor):
        events.append(("synced", Path(f"/proc/self/fd/{descriptor}").readlink().name))
        real_sync(descriptor)

    parts = open_parts(tmp_path, max_bytes=1, fsync_rows=1000)
    monkeypatch.setattr(os, "open", record_open)
    monkeypatch.setattr(os, "fsync", record_sync)
    parts.append(ROW)
    parts.append(ROW)
    assert events[:2] == [("synced", NAMES[0]), ("made", NAMES[1])]
    assert ("synced", tmp_path.name) in events[2:], "the new file's entry in the directory outlives a power cut"
    parts.close()


def test_the_first_file_keeps_other_writers_out_also_after_it_was_closed(tmp_path):
    parts = open_parts(tmp_path, max_bytes=1)
    parts.append(ROW)
    parts.append(ROW)
    with pytest.raises(ResultsError, match="another process is writing"):
        open_parts(tmp_path)
    parts.close()
    open_parts(tmp_path).close()


def test_a_missing_file_in_the_middle_is_an_error_and_lets_go(tmp_path):
    parts = open_parts(tmp_path, max_bytes=1)
    for _ in range(3):
        parts.append(ROW)
    parts.close()
    (tmp_path / NAMES[1]).unlink()
    for _ in range(2):
        with pytest.raises(ResultsError, match=rf"{NAMES[1]} is missing.*\n  remedy: put it back"):
            open_parts(tmp_path)


def test_a_file_whose_sync_failed_is_never_called_closed(tmp_path, monkeypatch):
    closed = []
    parts = open_parts(tmp_path, max_bytes=1, on_closed=closed.append)

    def fail(descriptor):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(ResultsError, match="sync the file to disk"):
        parts.append(ROW)
    with pytest.raises(ResultsError, match="an earlier write failed"):
        parts.append(ROW)
    parts.close()
    assert not closed
    monkeypatch.undo()
    open_parts(tmp_path).close()


def test_a_next_file_that_cannot_be_made_loses_nothing_and_is_tried_again(tmp_path, monkeypatch):
    parts = open_parts(tmp_path, max_bytes=1)
    parts.append(ROW)

    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "open", full)
    with pytest.raises(ResultsError, match="No space left"):
        parts.append(ROW)
    monkeypatch.undo()
    parts.append(ROW)
    parts.close()
    assert files(tmp_path) == {NAMES[0]: ROW, NAMES[1]: ROW}


def test_what_somebody_else_put_into_a_new_file_is_no_row_of_ours(tmp_path):
    parts = open_parts(tmp_path, max_bytes=1)
    parts.append(ROW)
    (tmp_path / NAMES[1]).write_bytes(b"{}\n")
    parts.append(ROW)
    parts.close()
    assert files(tmp_path)[NAMES[1]] == ROW


def test_a_new_count_is_begun_where_told_and_is_no_gap(tmp_path):
    closed = []
    parts = open_parts(tmp_path, first_sequence=1_763_866_297, on_closed=closed.append)
    parts.append(ROW)
    parts.close()
    name = "part-00000-of-00001-1763866297.jsonl"
    assert files(tmp_path) == {NAMES[0]: b"", name: ROW}
    assert [entry.name for entry in closed] == [NAMES[0], name]
    found = []
    parts = open_parts(tmp_path, found, max_seconds=600, first_sequence=5)
    parts.append(ROW)
    parts.close()
    assert found == [ROW]
    assert set(files(tmp_path)) == {NAMES[0], name, "part-00000-of-00001-1763866298.jsonl"}
    (tmp_path / NAMES[2]).write_bytes(ROW)
    with pytest.raises(ResultsError, match=f"{NAMES[1]} is missing"):
        open_parts(tmp_path)
