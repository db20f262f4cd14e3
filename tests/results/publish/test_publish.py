"""Publishing a shard, to a store in memory: what is put there, in which order, and what is left alone."""

import json
import threading
import time

import pytest

from specbatch.errors import ResultsError
from specbatch.results.protocol import PublishState
from specbatch.results.storage.folder import Folder
from tests.results.builders import IDENTITY
from tests.results.published import ShardDir, listed, memory_uri, wait_for

PART, NEXT = "part-00000-of-00001.jsonl", "part-00000-of-00001-00001.jsonl"
IDENTITY_FILE, MANIFEST = "identity-00000-of-00001.json", "manifest-00000-of-00001.json"
OTHER = type(IDENTITY)(**{**IDENTITY.to_json(), "spec_hash": "b" * 64, "spec": {"decoding": {"maxNewTokens": 256}}})


@pytest.fixture
def uri():
    return memory_uri()


@pytest.fixture
def shard(tmp_path):
    made = ShardDir(tmp_path / "nightly")
    made.close(0)
    made.close(0, kind="errors", data=b"")
    return made


@pytest.fixture
def calls(monkeypatch):
    """Every change of a folder, in order."""
    seen = []

    def watch(method):
        real = getattr(Folder, method)

        def call(self, name, *arguments, **options):
            seen.append((method, name))
            return real(self, name, *arguments, **options)

        monkeypatch.setattr(Folder, method, call)

    for method in ("put", "write", "remove"):
        watch(method)
    return seen


def test_identity_comes_first_then_rows_as_they_close_then_report_manifest_and_success(shard, uri, calls):
    (shard.run_dir / "progress-00000-of-00001.json").write_text("{}")
    publisher = shard.publisher(uri)
    wait_for(lambda: publisher.state.pending_files == 0 and ("put", "progress-00000-of-00001.json") in calls)
    names = [name for _, name in calls]
    assert names == ["splits.jsonl", IDENTITY_FILE, PART, "errors-00000-of-00001.jsonl", "progress-00000-of-00001.json"]
    publisher.offer(shard.close(1))
    (shard.run_dir / "report.html").write_text("<html>")
    wait_for(lambda: publisher.state.done_files == 3)
    shard.end()
    publisher.finish(seconds=5)
    names = [name for _, name in calls[5:] if not name.startswith("progress")]
    assert names == [NEXT, "report.html", MANIFEST, "_SUCCESS"]
    assert listed(uri) == {entry.name: entry.sha256 for entry in shard.entries}
    size = sum(entry.bytes for entry in shard.entries)
    assert publisher.state == PublishState(uri, done_files=3, done_bytes=size)


def test_what_is_there_already_is_not_put_there_again(shard, uri, calls):
    shard.publish(uri)
    calls.clear()
    shard.publish(uri)
    assert [name for _, name in calls] == [MANIFEST, "_SUCCESS"]
    assert shard.publish(uri).state.done_files == 2


def test_new_rows_after_a_complete_run_withdraw_success_and_manifest_first(shard, uri, calls):
    shard.publish(uri)
    shard.close(1)
    calls.clear()
    shard.publish(uri, complete=False)
    assert calls[:3] == [("remove", "_SUCCESS"), ("remove", MANIFEST), ("put", NEXT)]
    assert "_SUCCESS" not in Folder(uri).sizes()
    shard.publish(uri)
    assert "_SUCCESS" in Folder(uri).sizes()


def test_success_goes_where_a_shard_turns_out_incomplete(shard, uri):
    shard.publish(uri)
    shard.publish(uri, complete=False)
    assert "_SUCCESS" not in Folder(uri).sizes()


def test_a_file_offered_twice_is_published_once(shard, uri, calls):
    publisher = shard.publisher(uri)
    for entry in shard.entries:
        publisher.offer(entry)
    shard.end()
    publisher.finish(seconds=5)
    assert publisher.state.done_files == 2
    assert [name for _, name in calls].count(PART) == 1


@pytest.mark.slow
def test_slow_success_between_failures_is_not_broken_off(shard, uri, monkeypatch):
    real, tries = Folder.put, []

    def put(self, name, source, **options):
        tries.append(name)
        time.sleep(0.05)
        if len(tries) % 2:
            raise ResultsError("cannot copy the file: reset")
        return real(self, name, source, **options)

    for number in range(1, 12):
        shard.close(number)
    monkeypatch.setattr(Folder, "put", put)
    began = time.monotonic()
    shard.publish(uri, seconds=0.5)
    assert time.monotonic() - began > 1
    assert len(listed(uri)) == 13


def test_an_incomplete_manifest_stays_while_rows_are_added(shard, uri, calls):
    shard.publish(uri, complete=False)
    shard.close(1)
    calls.clear()
    shard.publish(uri, complete=False)
    assert [call for call in calls if call[0] == "remove"] == []
    assert len(listed(uri)) == 3


def test_success_waits_for_every_shard(tmp_path, uri):
    shards = [ShardDir(tmp_path / str(number), number, 2) for number in range(2)]
    for shard in shards:
        shard.close(0)
    shards[0].publish(uri)
    shards[1].publish(uri, complete=False)
    assert "_SUCCESS" not in Folder(uri).sizes()
    shards[1].publish(uri)
    assert json.loads(Folder(uri).read("_SUCCESS")) == {"shards": 2, "results": 6, "errors": 0}


def test_another_runs_destination_is_refused_with_what_differs(shard, tmp_path, uri):
    shard.publish(uri)
    other = ShardDir(tmp_path / "other", identity=OTHER)
    other.close(0, b"other\n")
    with pytest.raises(ResultsError, match="belong to another run") as caught:
        other.destination(uri).reach()
    assert "decoding.maxNewTokens: 128 -> 256" in str(caught.value)
    assert "--fresh" in caught.value.remedy
    assert "results.publish" in caught.value.remedy
    with pytest.raises(ResultsError, match="belong to another run") as caught:
        other.publish(uri)
    assert "--fresh" in caught.value.remedy
    assert listed(uri) == {entry.name: entry.sha256 for entry in shard.entries}


def test_rows_without_an_identity_are_refused(shard, uri):
    Folder(uri).write(PART, b"x\n")
    with pytest.raises(ResultsError, match="what run it belongs to cannot be told"):
        shard.destination(uri).reach()


def test_fresh_deletes_this_shard_and_other_splits_but_no_sibling(tmp_path, uri, calls):
    for number in range(2):
        old = ShardDir(tmp_path / f"old{number}", number, 2)
        old.close(0)
        old.publish(uri)
    calls.clear()
    new = ShardDir(tmp_path / "new", 0, 2)
    new.destination(uri, fresh=True).reach()
    removed = [name for _, name in calls]
    assert removed[0] == "_SUCCESS"
    assert removed[-1] == "identity-00000-of-00002.json"
    assert set(Folder(uri).sizes()) == {
        "splits.jsonl",
        "identity-00001-of-00002.json",
        "part-00001-of-00002.jsonl",
        "manifest-00001-of-00002.json",
    }
    whole = ShardDir(tmp_path / "whole", identity=OTHER)
    whole.destination(uri, fresh=True).reach()
    assert Folder(uri).sizes() == {}


@pytest.mark.parametrize("data", [b"lost rows, others\n", None], ids=["another size", "the same size"])
def test_a_name_that_is_taken_loses_neither_file(shard, tmp_path, uri, data):
    """A volume was lost while the store was away: both attempts began with the same names."""
    lost = ShardDir(tmp_path / "lost")
    lost.close(0, data or b"!" * (shard.entries[0].bytes - 1) + b"\n")
    lost.publish(uri, complete=False)
    shard.publish(uri)
    there = listed(uri)
    assert set(there.values()) == {entry.sha256 for entry in [*shard.entries, *lost.entries]}
    assert there[PART] == lost.entries[0].sha256
    shard.publish(uri)  # the name it has there is found again
    assert listed(uri) == there


def test_a_file_that_comes_between_two_looks_is_not_replaced(shard, uri):
    publisher = shard.publisher(uri)
    wait_for(lambda: publisher.state.done_files == 2)
    Folder(uri).write(NEXT, b"of another process\n")
    publisher.offer(shard.close(1))
    shard.end()
    publisher.finish(seconds=5)
    assert Folder(uri).read(NEXT) == b"of another process\n"
    assert {entry.sha256 for entry in shard.entries} < set(listed(uri).values())


def test_what_was_removed_there_meanwhile_is_put_there_again(shard, uri):
    publisher = shard.publisher(uri)
    wait_for(lambda: publisher.state.done_files == 2)
    Folder(uri).remove(PART)
    shard.end()
    publisher.finish(seconds=5)
    assert PART in listed(uri)


@pytest.mark.slow
def test_one_file_that_cannot_be_read_does_not_keep_the_others(shard, uri):
    (shard.run_dir / PART).unlink()
    shard.end()
    publisher = shard.publisher(uri)
    publisher.offer(shard.close(1))
    with pytest.raises(ResultsError, match=rf"1 of 3 files with \d+ bytes \({PART}\) is not published") as caught:
        publisher.finish(seconds=0.3)
    assert NEXT in Folder(uri).sizes()
    assert MANIFEST not in Folder(uri).sizes()
    assert "start the same command again" in caught.value.remedy


def test_failing_and_recovering_are_said_once_each_and_shown(shard, uri, monkeypatch):
    down = threading.Event()
    down.set()
    real = Folder.sizes

    def sizes(self):
        if down.is_set():
            raise ResultsError("cannot list the folder: Connection\nrefused", where=self.uri)
        return real(self)

    monkeypatch.setattr(Folder, "sizes", sizes)
    said = []
    publisher = shard.publisher(uri, said.append)
    wait_for(lambda: publisher._failures > 2)
    state = publisher.state
    assert state.problem == "cannot list the folder: Connection refused"
    assert abs(state.failing_since - time.time()) < 5
    assert (state.done_files, state.pending_files, state.pending_bytes) == (0, 2, shard.entries[0].bytes)
    down.clear()
    shard.end()
    publisher.finish(seconds=5)
    assert publisher.state.problem == ""
    assert len(said) == 2
    assert "fails, and is tried again: cannot list the folder: Connection refused" in said[0]
    assert "works again" in said[1]


@pytest.mark.slow
def test_a_call_that_never_returns_holds_up_nothing(shard, uri, monkeypatch):
    forever = threading.Event()
    monkeypatch.setattr(Folder, "sizes", lambda self: forever.wait())
    shard.end()
    publisher = shard.publisher(uri)
    began = time.monotonic()
    with pytest.raises(ResultsError, match="2 of 2 files"):
        publisher.finish(seconds=30, at_most=0.3)
    assert time.monotonic() - began < 2
    hurry = threading.Event()
    hurry.set()
    monkeypatch.setattr("specbatch.results.publish.publish.STOP_SECONDS", 0.2)
    with pytest.raises(ResultsError, match="only in"):
        shard.publisher(uri).finish(seconds=30, hurry=hurry)
    monkeypatch.setattr("specbatch.results.publish.publish._GRACE_SECONDS", 0.1)
    hanging = shard.publisher(uri, seconds=0.1)
    wait_for(lambda: hanging.state.problem == "the store does not answer")
    with pytest.raises(ResultsError, match="only in"):
        hanging.finish(seconds=0)
    forever.set()


def test_no_time_to_retry_is_still_time_for_what_works(shard, uri):
    for number in range(1, 50):
        shard.close(number)
    shard.publish(uri, seconds=0.0)
    assert len(listed(uri)) == 51


def test_a_fault_of_ours_is_no_success(shard, uri, monkeypatch):
    def fail(self, entry):
        raise KeyError("x")

    monkeypatch.setattr("specbatch.results.publish.destination.Destination.put_rows", fail)
    with pytest.raises(ResultsError, match="KeyError"):
        shard.publish(uri)


def test_a_file_that_was_empty_is_filled_and_an_empty_one_takes_no_name(shard, tmp_path, uri):
    shard.publish(uri, complete=False)
    errors = shard.entries.pop()
    shard.close(0, b"an error\n", kind="errors")
    shard.publish(uri)
    there = listed(uri)
    assert there[errors.name] == shard.entries[-1].sha256
    other = ShardDir(tmp_path / "other")
    other.close(0, b"")
    other.publish(uri)
    assert listed(uri) == there
