"""Publishing to a real S3 server: what it refuses, and what happens to it."""

import os
import threading
import time

import pytest

from specbatch.errors import ResultsError
from specbatch.results.publish.restore import restore
from specbatch.results.storage.folder import Folder
from tests.results.builders import IDENTITY
from tests.results.publish.test_publish import OTHER, PART
from tests.results.published import QUICK, ShardDir, listed, wait_for
from tests.s3 import SECRET, credentials, silent_server

URI = "s3://bucket/runs/nightly"

pytestmark = pytest.mark.slow


@pytest.fixture
def shard(tmp_path):
    made = ShardDir(tmp_path / "nightly")
    for number in range(3):
        made.close(number)
    return made


def objects(server):
    folder = server.root / "bucket" / "runs" / "nightly"
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def one_readable_line(text):
    assert "\n" not in text
    assert len(text) < 400
    assert "Traceback" not in text
    assert SECRET not in text
    return text


def test_a_shard_is_published_found_again_and_brought_back(s3, shard, tmp_path):
    (shard.run_dir / "report.html").write_text("<html>")
    shard.publish(URI)
    there = objects(s3)
    assert set(there) == {path.name for path in shard.run_dir.iterdir()} | {"_SUCCESS", "splits.jsonl"}
    assert listed(URI) == {entry.name: entry.sha256 for entry in shard.entries}
    again = ShardDir(tmp_path / "again")
    assert restore(again.destination(URI), seconds=5, say=print).files == 3
    assert (again.run_dir / PART).read_bytes() == there[PART]
    with pytest.raises(ResultsError, match="belong to another run"):
        ShardDir(tmp_path / "other", identity=OTHER).destination(URI).reach()
    ShardDir(tmp_path / "other", identity=OTHER).destination(URI, fresh=True).reach()
    assert Folder(URI).sizes() == {}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"AWS_ACCESS_KEY_ID": "nobody"}, "Access Key Id you provided does not exist"),
        ({"AWS_SECRET_ACCESS_KEY": "wrong-secret"}, "signature we calculated does not match"),
        ({"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}, "Unable to locate credentials"),
        ({"AWS_ENDPOINT_URL_S3": "http://no-such-host.invalid"}, "Could not connect to the endpoint"),
        ({"uri": "s3://no-such-bucket/runs/nightly"}, "bucket does not exist"),
    ],
    ids=["key", "secret", "no credentials", "host", "bucket"],
)
def test_what_the_store_refuses_is_said_in_one_line_and_again_at_the_end(s3, shard, monkeypatch, changes, reason):
    uri = changes.pop("uri", URI)
    for name, value in changes.items():
        monkeypatch.delenv(name) if value is None else monkeypatch.setenv(name, value)
    said = []
    shard.end()
    publisher = shard.publisher(uri, said.append)
    wait_for(lambda: publisher.state.problem, 20)
    assert reason in one_readable_line(publisher.state.problem)
    with pytest.raises(ResultsError, match="3 of 3 files with") as caught:
        publisher.finish(seconds=0.2)
    assert reason in one_readable_line(caught.value.message)
    assert caught.value.exit_code == 74
    assert len(said) == 1
    one_readable_line(said[0])


def test_a_server_killed_in_the_middle_of_uploads_and_started_again_gets_everything_once(s3, shard):
    for number in range(3, 60):
        shard.close(number, os.urandom(200_000).hex().encode() + b"\n")
    said = []
    publisher = shard.publisher(URI, said.append)
    shard.end()
    for count in (10, 25, 40):
        wait_for(lambda count=count: publisher.state.done_files >= count, 30)
        s3.kill()
        wait_for(lambda: publisher.state.problem, 30)
        time.sleep(0.2)
        assert publisher.state.done_files < 60
        s3.start()
    publisher.finish(seconds=30)
    assert listed(URI) == {entry.name: entry.sha256 for entry in shard.entries}
    assert {name: len(data) for name, data in objects(s3).items() if name.startswith("part")} == {
        entry.name: entry.bytes for entry in shard.entries
    }
    assert [("fails" in line, "works again" in line) for line in said[:2]] == [(True, False), (False, True)]


def test_a_server_that_is_down_to_the_end_is_an_error_and_the_next_start_goes_on(s3, shard):
    s3.kill()
    with pytest.raises(ResultsError, match=r"3 of 3 files with .* are not published, and only in"):
        shard.publish(URI, seconds=0.5)
    s3.start()
    shard.publish(URI)
    assert "_SUCCESS" in objects(s3)


@pytest.mark.parametrize("how", ["frozen", "silent"])
def test_a_server_that_hangs_delays_the_end_by_no_more_than_was_given(s3, shard, monkeypatch, how):
    with silent_server() as url:
        s3.freeze() if how == "frozen" else monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
        shard.end()
        publisher = shard.publisher(URI, seconds=0.5)
        began = time.monotonic()
        with pytest.raises(ResultsError, match="the store does not answer"):
            publisher.finish(seconds=1.0)
        assert time.monotonic() - began < 5
        slow = shard.publisher(URI, seconds=60)
        time.sleep(0.2)
        began = time.monotonic()
        with pytest.raises(ResultsError, match="there was no time left"):
            slow.finish(seconds=60, at_most=1.0)
        assert time.monotonic() - began < 3
    if how == "frozen":
        s3.thaw()
        shard.publish(URI, seconds=10)
        assert listed(URI) == {entry.name: entry.sha256 for entry in shard.entries}


def test_a_server_that_hangs_in_the_middle_and_comes_back_gets_everything(s3, shard):
    publisher = shard.publisher(URI, seconds=0.5)
    wait_for(lambda: publisher.state.done_files == 3)
    s3.freeze()
    publisher.offer(shard.close(3))
    wait_for(lambda: publisher.state.problem == "cannot look for the file: the store does not answer")
    s3.thaw()
    shard.end()
    publisher.finish(seconds=10)
    assert len(listed(URI)) == 4


def test_of_a_thousand_parts_none_is_sent_twice(s3, shard):
    """A listing of S3 has a thousand names a page."""
    for number in range(3, 1000):
        shard.close(number)
    there = s3.bucket() / "runs" / "nightly"
    there.parent.mkdir()
    shard.publish(str(there))  # by the other door of the same place, in a fiftieth of the time
    written = sent(there)
    for number in range(1000, 1010):
        shard.close(number)
    shard.publish(URI, seconds=30)
    assert sent(there).items() > written.items()
    assert {entry.name: entry.sha256 for entry in shard.entries} == listed(str(there))
    written = sent(there)
    assert len(written) == 1010
    shard.publish(URI)
    assert sent(there) == written


def sent(folder):
    """When each part was written."""
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("part-*")}


def test_two_shards_that_end_at_the_same_time_leave_one_success(s3, tmp_path):
    for round_ in range(5):
        uri = f"s3://bucket/runs/{round_}"
        shards = [ShardDir(tmp_path / f"{round_}-{number}", number, 2) for number in range(2)]
        publishers = []
        for shard in shards:
            shard.close(0)
            shard.end()
            publishers.append(shard.publisher(uri))
        threads = [threading.Thread(target=publisher.finish, kwargs={"seconds": 10}) for publisher in publishers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert Folder(uri).read("_SUCCESS") == b'{"shards": 2, "results": 6, "errors": 0}\n'


def test_a_file_of_another_process_is_not_replaced_where_the_store_knows_no_create_only(s3, shard):
    publisher = shard.publisher(URI)
    wait_for(lambda: publisher.state.done_files == 3)
    name = "part-00000-of-00001-00003.jsonl"
    Folder(URI).write(name, b"of another process\n")
    publisher.offer(shard.close(3))
    shard.end()
    publisher.finish(seconds=10)
    assert objects(s3)[name] == b"of another process\n"
    assert set(listed(URI).values()) > {entry.sha256 for entry in shard.entries}


def test_a_file_as_large_as_a_real_part_goes_up_in_pieces(s3, shard, tmp_path):
    shard.close(3, os.urandom(1 << 20) * 130 + b"\n")
    shard.publish(URI, seconds=60, backoff=QUICK)
    again = ShardDir(tmp_path / "again", identity=IDENTITY)
    assert restore(again.destination(URI), seconds=5, say=print).files == 4


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"])
def test_credentials_and_endpoint_come_from_the_usual_environment(s3, shard, monkeypatch, name):
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3")
    monkeypatch.setenv(name, credentials(s3.url)["AWS_ENDPOINT_URL_S3"])
    shard.publish(URI)
    assert "_SUCCESS" in objects(s3)
