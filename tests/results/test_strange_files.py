"""What somebody else did to the files of a run: told before the run is called complete, and never made worse by us."""

import os
import threading

import pytest

from specbatch.errors import ResultsError
from specbatch.results.manifest import Manifest, synced_of, write_manifest, write_success
from specbatch.results.shard.parts import PartPolicy
from specbatch.results.shard.shard import ShardResults
from specbatch.results.storage.folder import Folder
from specbatch.results.timeline import Timeline
from tests.results.builders import IDENTITY, make_error, make_row, make_summary

PART, ERRORS = "part-00000-of-00001.jsonl", "errors-00000-of-00001.jsonl"


def open_store(run_dir, told=None, **policy):
    on_cut = (told if told is not None else []).append
    return ShardResults.open(run_dir, identity=IDENTITY, policy=PartPolicy(on_cut=on_cut, **policy))


def written(run_dir, rows=6, **policy):
    store = open_store(run_dir, **policy)
    for index in range(rows):
        store.write(make_row(index))
    store.write_error(make_error(rows))
    return store


def make_manifest(store):
    return Manifest(
        name="nightly", shard=0, shards=1, complete=True, identity=IDENTITY, files=store.files, totals=store.totals
    )


def stranger_appends(path):
    with path.open("ab") as file:
        file.write(b"a stranger's line\n")


def replaced_by_a_copy(path):
    data = path.read_bytes()
    path.rename(path.with_name("old"))
    path.write_bytes(data)


def cut_short(path):
    os.truncate(path, path.stat().st_size - 1)


def replaced_by_a_link(path):
    path.rename(path.with_name("old"))
    path.symlink_to("old")


@pytest.mark.parametrize("when", ["while it is written", "after it was closed"])
@pytest.mark.parametrize("name", [PART, ERRORS])
@pytest.mark.parametrize(
    ("deed", "says"),
    [
        (stranger_appends, "and the run wrote"),
        (cut_short, "and the run wrote"),
        (replaced_by_a_copy, "replaced"),
        (replaced_by_a_link, "replaced"),
        (lambda path: path.unlink(), "removed"),
    ],
    ids=["appended", "cut", "replaced", "linked", "removed"],
)
def test_what_a_stranger_did_to_a_file_is_found_before_the_run_is_called_complete(run_dir, deed, says, name, when):
    with written(run_dir) as store:
        if when == "while it is written":
            store.sync()
            deed(run_dir / name)
        else:
            store.close()
            deed(run_dir / name)
        store.close()
        with pytest.raises(ResultsError, match=says) as caught:
            store.check_whole()
    assert caught.value.exit_code == 74
    assert caught.value.remedy


def test_files_that_are_as_they_were_written_are_whole_also_in_many_parts(run_dir):
    with written(run_dir, max_bytes=300) as store:
        store.check_whole()
        store.close()
        store.check_whole()
        assert len(store.files) > 3
    with open_store(run_dir, max_bytes=300) as again:
        again.close()
        again.check_whole()


@pytest.mark.parametrize("deed", [stranger_appends, cut_short, lambda path: path.unlink(), replaced_by_a_link])
def test_there_is_no_success_where_a_listed_file_is_not_as_the_manifest_says(run_dir, deed):
    with written(run_dir) as store:
        store.close()
        write_manifest(run_dir, make_manifest(store))
    deed(run_dir / PART)
    with pytest.raises(ResultsError, match=PART):
        write_success(run_dir)
    assert not (run_dir / "_SUCCESS").exists()


def test_what_is_cut_off_is_told_and_is_only_what_lies_behind_our_rows(run_dir):
    with written(run_dir) as store:
        store.save_progress(make_summary(store), Timeline())
    size = (run_dir / PART).stat().st_size
    stranger_appends(run_dir / PART)
    told = []
    with open_store(run_dir, told) as store:
        assert store.found.results == 6
    assert (run_dir / PART).stat().st_size == size
    assert told == [f"{PART}: 18 bytes after its last whole row, which a killed writer left, were cut off"]


@pytest.mark.parametrize("known_by", ["progress", "manifest"])
@pytest.mark.parametrize("damage", ["shorter", "no rows any more"])
def test_rows_that_were_synced_are_never_cut_off(run_dir, known_by, damage):
    with written(run_dir) as store:
        store.sync()
        store.save_progress(make_summary(store), Timeline()) if known_by == "progress" else None
        store.close()
        if known_by == "manifest":
            write_manifest(run_dir, make_manifest(store))
    path = run_dir / PART
    size = path.stat().st_size
    with path.open("r+b") as file:
        if damage == "shorter":
            file.truncate(size - 100)
        else:
            file.seek(size - 100)
            file.write(bytes(100))
    before = path.read_bytes()
    with pytest.raises(ResultsError, match="was whole to byte") as caught:
        open_store(run_dir)
    assert caught.value.exit_code == 74
    assert path.read_bytes() == before
    path.unlink()  # the remedy
    told = []
    with open_store(run_dir, told) as store:
        assert store.found.results == 0
    assert told == [f"{PART}: {size:,} bytes that were written are gone: their rows are decoded again"]


def test_a_synced_length_is_that_of_the_last_sync(run_dir):
    with written(run_dir, fsync_rows=1000, fsync_seconds=1e9) as store:
        store.save_progress(make_summary(store), Timeline())
        assert store.attempts[-1].synced == {PART: 0, ERRORS: 0}
        store.sync()
        store.save_progress(make_summary(store), Timeline())
        assert store.attempts[-1].synced[PART] == (run_dir / PART).stat().st_size
    (run_dir / "manifest-00000-of-00001.json").write_bytes(b'{"files": [{"name": 5}]}')
    assert synced_of(run_dir, 0, 1) == {}


@pytest.mark.parametrize("name", [PART, ERRORS, "splits.jsonl", "identity-00000-of-00001.json"])
def test_a_link_under_the_name_of_a_file_of_ours_never_leads_us_to_another_file(run_dir, name):
    precious = run_dir.parent / "precious"
    precious.write_text("not yours\n")
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / name).symlink_to(precious)
    with pytest.raises(ResultsError):
        open_store(run_dir)
    assert precious.read_text() == "not yours\n"


@pytest.mark.parametrize("name", [PART, "splits.jsonl", "identity-00000-of-00001.json", "progress-00000-of-00001.json", "manifest-00000-of-00001.json"])  # fmt: skip
def test_a_fifo_in_the_folder_is_never_waited_for(run_dir, name):
    run_dir.mkdir(parents=True, exist_ok=True)
    os.mkfifo(run_dir / name)
    ended = []

    def try_it():
        try:
            open_store(run_dir).close()
        except ResultsError as error:
            ended.append(error)
        try:
            Folder(run_dir).read(name)
        except ResultsError as error:
            ended.append(error)

    thread = threading.Thread(target=try_it, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    assert ended
