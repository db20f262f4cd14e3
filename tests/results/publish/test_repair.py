"""A published object that somebody changed or removed: the next run puts it right, from the volume."""

import base64
import hashlib
import json

import pytest

from specbatch.errors import ResultsError
from specbatch.results.storage.checksums import Checksum, checksum_of, has_checksum
from specbatch.results.storage.folder import Folder
from tests.results.builders import IDENTITY
from tests.results.published import QUICK, ShardDir, listed, memory_uri, wait_for

PART, NEXT = "part-00000-of-00001.jsonl", "part-00000-of-00001-00001.jsonl"
IDENTITY_FILE, MANIFEST = "identity-00000-of-00001.json", "manifest-00000-of-00001.json"


@pytest.fixture
def shard(tmp_path):
    made = ShardDir(tmp_path / "volume" / "nightly")
    made.close(0)
    made.close(1)
    return made


@pytest.fixture(params=["memory", "folder", pytest.param("s3", marks=pytest.mark.slow)])
def uri(request, tmp_path):
    if request.param == "s3":
        request.getfixturevalue("s3")
        return "s3://bucket/runs/nightly"
    return memory_uri() if request.param == "memory" else str(tmp_path / "published" / "nightly")


def whole(shard):
    return {entry.name: entry.sha256 for entry in shard.entries}


def of_the_same_size(data):
    return b"?" + data[1:]


CHANGES = {
    "another content": of_the_same_size,
    "cut": lambda data: data[:-5],
    "added to": lambda data: data + b"x\n",
    "emptied": lambda _data: b"",
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
@pytest.mark.parametrize("ended", ["complete", "killed before its manifest"])
def test_a_changed_object_is_put_there_again_and_nothing_else(shard, uri, change, ended):
    if ended == "complete":
        shard.publish(uri)
    else:
        publisher = shard.publisher(uri)
        wait_for(lambda: not publisher.state.pending_files)
        publisher.close()
    there = Folder(uri)
    there.write(PART, change(there.read(PART)))
    said = []
    shard.publish(uri, say=said.append)
    assert listed(uri) == whole(shard)
    assert {name for name in there.sizes() if name.startswith("part")} == whole(shard).keys()
    told = sum("is not what was published" in line for line in said)
    assert told == (0 if change is CHANGES["emptied"] else 1)  # an empty one may be of an attempt that had no rows yet
    said.clear()
    shard.publish(uri, say=said.append)
    assert said == []


@pytest.mark.parametrize("name", [PART, IDENTITY_FILE, MANIFEST, "_SUCCESS", "splits.jsonl"])
def test_a_removed_object_is_put_there_again(shard, uri, name):
    shard.publish(uri)
    before = Folder(uri).sizes().keys()
    Folder(uri).remove(name)
    shard.publish(uri)
    assert Folder(uri).sizes().keys() == before
    assert listed(uri) == whole(shard)


def test_an_object_that_is_changed_or_removed_while_the_run_goes_on_is_right_at_the_end(shard, uri):
    publisher = shard.publisher(uri)
    wait_for(lambda: not publisher.state.pending_files)
    there = Folder(uri)
    there.write(PART, b"something else\n")
    there.remove(NEXT)
    there.remove(IDENTITY_FILE)
    shard.end()
    publisher.finish(seconds=5)
    assert listed(uri) == whole(shard)
    assert IDENTITY_FILE in there.sizes()


def test_a_killed_runs_identity_is_restored_by_what_its_volume_remembers(shard, uri):
    publisher = shard.publisher(uri)
    wait_for(lambda: not publisher.state.pending_files)
    publisher.close()
    Folder(uri).remove(IDENTITY_FILE)
    stranger = ShardDir(shard.run_dir.parents[1] / "other" / "nightly")
    with pytest.raises(ResultsError, match="what run it belongs to cannot be told"):
        stranger.destination(uri).reach()
    shard.publish(uri)
    assert json.loads(Folder(uri).read(IDENTITY_FILE)) == IDENTITY.to_json()


def test_a_changed_success_says_again_what_is_true(shard, uri):
    shard.publish(uri)
    Folder(uri).write("_SUCCESS", b'{"shards": 1, "results": 1, "errors": 0}\n')
    shard.publish(uri)
    assert json.loads(Folder(uri).read("_SUCCESS"))["results"] == 6


def test_an_upload_that_did_not_arrive_as_it_was_sent_is_sent_again(shard, uri, monkeypatch):
    real, left = Folder.put, [PART, NEXT]

    def put(self, name, source, *, new=False):
        done = real(self, name, source, new=new)
        if name in left:
            left.remove(name)
            self.write(name, self.read(name)[:-3])
        return done

    monkeypatch.setattr(Folder, "put", put)
    said = []
    shard.publish(uri, say=said.append, backoff=QUICK)
    assert listed(uri) == whole(shard)
    assert any("has not arrived as it was sent" in line for line in said)
    assert not left


def test_a_damaged_object_whose_rows_are_gone_here_too_is_not_listed_as_good(shard, uri):
    shard.publish(uri)
    there = Folder(uri)
    there.write(NEXT, of_the_same_size(there.read(NEXT)))
    shard.entries.pop()  # a lost volume: the damaged file was not restored, its rows were decoded again
    shard.close(1_700_000_000, b"its rows again\n" * 3)
    shard.publish(uri)
    assert listed(uri) == whole(shard)
    assert NEXT not in there.sizes()


def test_a_checksum_is_read_from_what_each_store_says(tmp_path):
    data = b"rows\n" * 1000
    (tmp_path / "rows").write_bytes(data)
    digest = hashlib.md5(data).digest()
    encoded = base64.b64encode(digest).decode()
    for info in ({"ETag": f'"{digest.hex()}"'}, {"md5Hash": encoded}, {"content_settings": {"content_md5": bytearray(digest)}}, {"content_md5": encoded}):  # fmt: skip
        found = checksum_of(info)
        assert found == Checksum(digest.hex())
        assert has_checksum(tmp_path / "rows", found)
    for info in ({}, {"ETag": '"0x8DC"'}, {"ETag": None, "md5Hash": ""}, {"md5Hash": "!"}, {"content_settings": None}):
        assert checksum_of(info) is None
    assert not has_checksum(tmp_path / "rows", Checksum("0" * 32))


def test_the_checksum_of_an_upload_in_pieces_is_that_of_its_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr("specbatch.results.storage.checksums._PIECES", (40,))
    data = bytes(range(100))
    (tmp_path / "rows").write_bytes(data)
    pieces = [hashlib.md5(data[begin : begin + 40]).digest() for begin in (0, 40, 80)]
    etag = hashlib.md5(b"".join(pieces)).hexdigest()
    assert has_checksum(tmp_path / "rows", checksum_of({"ETag": f'"{etag}-3"'}))
    assert not has_checksum(tmp_path / "rows", checksum_of({"ETag": f'"{etag}-2"'}))
