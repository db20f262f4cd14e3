"""A lost volume: the shard's rows come back from where they were published, or the run goes on without them."""

import json

import pytest

from specbatch.errors import ResultsError
from specbatch.results.publish.ownership import RefusedError
from specbatch.results.publish.restore import Restored, restore
from specbatch.results.storage.folder import Folder
from tests.results.builders import IDENTITY
from tests.results.publish.test_publish import IDENTITY_FILE, NEXT, OTHER, PART
from tests.results.published import QUICK, ShardDir, listed, memory_uri


@pytest.fixture
def uri():
    return memory_uri()


@pytest.fixture
def lost(tmp_path, uri):
    """A shard that was published in part; its directory is somewhere else now."""
    shard = ShardDir(tmp_path / "lost")
    shard.close(0)
    shard.close(1)
    shard.close(0, kind="errors")
    (shard.run_dir / "progress-00000-of-00001.json").write_text('{"attempts": []}')
    shard.publish(uri, complete=False)
    return shard


@pytest.fixture
def said():
    return []


@pytest.fixture
def bring_back(tmp_path, uri, said):
    def bring_back_(identity=IDENTITY, *, seconds=5.0, fresh=False):
        shard = ShardDir(tmp_path / "nightly", identity=identity)
        return restore(shard.destination(uri, fresh=fresh), seconds=seconds, say=said.append, backoff=QUICK)

    return bring_back_


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_lost_volume_gets_its_files_back_byte_for_byte(lost, bring_back, tmp_path, said):
    restored = bring_back()
    assert restored == Restored(3)
    kept = content(lost.run_dir)
    del kept["manifest-00000-of-00001.json"]
    assert content(tmp_path / "nightly") == kept
    assert "fetching 3 published files" in said[0]


def test_what_was_on_the_lost_disk_is_not_expected_on_this_one(lost, bring_back, tmp_path, uri):
    """The progress that is published may be of a volume before the one whose files are."""
    progress = lost.run_dir / "progress-00000-of-00001.json"
    progress.write_text(json.dumps({"attempts": [{"number": 1, "synced": {PART: 2516}}]}))
    lost.publish(uri, complete=False)
    bring_back()
    assert json.loads((tmp_path / "nightly" / progress.name).read_text()) == {"attempts": [{"number": 1}]}


def test_a_directory_that_has_its_identity_is_left_as_it_is(lost, bring_back, tmp_path, said):
    ShardDir(tmp_path / "nightly").claim()
    assert bring_back() == Restored()
    assert [path.name for path in (tmp_path / "nightly").iterdir()] == [IDENTITY_FILE]
    assert said == []


def test_nothing_published_is_nothing_to_do(bring_back, said):
    assert bring_back() == Restored()
    assert said == []


def test_fresh_fetches_nothing_and_deletes_there(lost, bring_back, uri):
    assert bring_back(fresh=True) == Restored()
    assert Folder(uri).sizes() == {}


def test_another_runs_files_are_never_fetched(lost, bring_back, tmp_path):
    with pytest.raises(RefusedError, match="belong to another run"):
        bring_back(OTHER)
    assert content(tmp_path / "nightly") == {}


def test_a_start_that_was_killed_while_fetching_is_continued(lost, bring_back, tmp_path):
    bring_back()
    (tmp_path / "nightly" / IDENTITY_FILE).unlink()
    (tmp_path / "nightly" / NEXT).unlink()
    assert bring_back().files == 3
    assert content(tmp_path / "nightly").keys() >= {IDENTITY_FILE, PART, NEXT}


def test_rows_here_that_are_not_those_there_are_not_overwritten(lost, bring_back, tmp_path):
    (tmp_path / "nightly").mkdir()
    (tmp_path / "nightly" / PART).write_bytes(b"mine\n")
    with pytest.raises(ResultsError, match=f"{PART} is there without {IDENTITY_FILE}"):
        bring_back()
    assert (tmp_path / "nightly" / PART).read_bytes() == b"mine\n"


def test_a_directory_of_another_run_gets_nothing(lost, bring_back, tmp_path):
    sibling = ShardDir(tmp_path / "nightly", 1, 2, OTHER)
    sibling.claim()
    with pytest.raises(ResultsError, match="belong to another run"):
        bring_back()
    assert len(content(tmp_path / "nightly")) == 1


def test_a_store_that_cannot_be_reached_is_said_and_its_names_are_not_used_again(bring_back, said, monkeypatch):
    def fail(self):
        raise ResultsError("cannot list the folder: refused")

    monkeypatch.setattr(Folder, "sizes", fail)
    restored = bring_back()
    assert restored.files == 0
    assert restored.first_sequence > 1_700_000_000
    assert "cannot be reached, the run goes on without it" in said[0]
    assert "decoded again" in said[0]


def test_a_download_that_fails_is_tried_again(lost, bring_back, monkeypatch):
    real, calls = Folder.get, []

    def get(self, name, target, size):
        calls.append(name)
        if len(calls) % 2:
            target.write_bytes(b"half")
            raise ResultsError("cannot fetch the file: reset")
        real(self, name, target, size)

    monkeypatch.setattr(Folder, "get", get)
    assert bring_back().files == 3
    assert len(calls) == 10


@pytest.mark.parametrize("damage", [b"short\n", "flip"])
def test_what_is_not_what_was_published_is_not_taken(lost, bring_back, uri, tmp_path, said, damage):
    data = Folder(uri).read(NEXT)
    Folder(uri).write(NEXT, damage if isinstance(damage, bytes) else bytes([data[0] ^ 1]) + data[1:])
    restored = bring_back()
    assert restored.files == 2
    assert restored.first_sequence
    assert (
        said[-1]
        == f"published file {NEXT} is not what its manifest says (sha256): its rows, and those of 0 later files, are decoded again"
    )
    errors = "errors-00000-of-00001.jsonl"
    assert set(content(tmp_path / "nightly")) == {IDENTITY_FILE, PART, errors, "progress-00000-of-00001.json"}


@pytest.mark.slow
def test_a_store_that_goes_away_for_good_leaves_what_came_and_an_identity(
    lost, bring_back, tmp_path, said, monkeypatch
):
    real = Folder.get

    def get(self, name, target, size):
        if name == NEXT:
            raise ResultsError("cannot fetch the file: reset")
        real(self, name, target, size)

    monkeypatch.setattr(Folder, "get", get)
    restored = bring_back(seconds=0.1)
    assert restored.files == 1
    assert restored.first_sequence
    assert said[-1].endswith("cannot be fetched, their rows are decoded again: cannot fetch the file: reset")
    assert set(content(tmp_path / "nightly")) == {IDENTITY_FILE, PART}
    assert bring_back() == Restored()


def test_after_starting_without_the_store_everything_is_listed_there(lost, uri, tmp_path):
    again = ShardDir(tmp_path / "again")
    again.close(1_763_866_297, b"decoded again\n")
    again.publish(uri)
    assert set(listed(uri)) == {entry.name for entry in [*lost.entries, *again.entries]}
