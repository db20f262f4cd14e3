import dataclasses
import threading
from datetime import UTC, datetime

import pytest

from specbatch.errors import ResultsError
from specbatch.results.clock import agreed_instant
from specbatch.results.layout import CLOCK, ShardFile
from specbatch.results.shard.shard import ShardResults
from specbatch.results.storage.folder import Folder
from tests.results.builders import IDENTITY

DAYS = [datetime(2026, 11, day, 23, 59, 30, tzinfo=UTC) for day in range(1, 9)]
FIRST = "2026-11-01T23:59:30+00:00"


def agree(run_dir, day, *, shard=0, shards=2, published=None, fresh=False):
    file = ShardFile("identity", shard, shards)
    return agreed_instant(run_dir, published, file, DAYS[day], fresh=fresh)


def claim(run_dir, instant, shard=0, shards=2):
    identity = dataclasses.replace(IDENTITY, instant=instant)
    ShardResults.open(run_dir, shard=shard, shards=shards, identity=identity).close()


def test_the_first_to_ask_decides_for_every_shard_and_attempt(run_dir):
    assert [agree(run_dir, day, shard=day % 2) for day in range(4)] == [FIRST] * 4
    claim(run_dir, FIRST)
    assert agree(run_dir, 4, shard=2, shards=3) == FIRST  # in another split too


def test_shards_that_ask_at_once_agree(run_dir):
    start, found = threading.Barrier(8), []

    def ask(day):
        start.wait()
        found.append(agree(run_dir, day))

    threads = [threading.Thread(target=ask, args=(day,)) for day in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def test_shards_without_a_common_volume_agree_where_they_publish(tmp_path):
    bucket = Folder(tmp_path / "bucket")
    assert agree(tmp_path / "a", 0, published=bucket) == FIRST
    assert agree(tmp_path / "b", 1, shard=1, published=bucket) == FIRST


def test_a_lost_volume_and_a_lost_clock_are_found_again_in_published_identities(tmp_path):
    bucket = Folder(tmp_path / "bucket")
    claim(tmp_path / "bucket", FIRST)
    assert agree(tmp_path / "new", 3, published=bucket) == FIRST


def test_while_the_store_cannot_be_asked_only_a_shard_that_knows_goes_on(tmp_path, run_dir):
    class Away(Folder):
        def sizes(self):
            raise ResultsError("no store")

    with pytest.raises(ResultsError, match=r"reads the clock.*no store"):
        agree(run_dir, 0, published=Away(tmp_path / "bucket"))
    claim(run_dir, FIRST)
    assert agree(run_dir, 1, published=Away(tmp_path / "bucket")) == FIRST


def test_a_run_begun_anew_has_a_new_instant(tmp_path, run_dir):
    bucket = Folder(tmp_path / "bucket")
    for published in (None, bucket):
        agree(run_dir, 0, shards=1, published=published)
        claim(run_dir, FIRST, shards=1)
        assert agree(run_dir, 2, shards=1, published=published, fresh=True) == DAYS[2].isoformat()
        ShardResults.open(run_dir, identity=IDENTITY, fresh=True).close()


def test_one_shard_begun_anew_goes_by_the_instant_of_the_others(run_dir):
    claim(run_dir, FIRST, shard=1)
    assert agree(run_dir, 2, fresh=True) == FIRST


@pytest.mark.parametrize("left", [b"", b'{"instant": "2026-', b'{"instant": "2026-11-01T23:59:30+00:00"}'])
def test_what_a_dying_writer_left_is_written_anew(run_dir, left):
    run_dir.mkdir(exist_ok=True)
    (run_dir / CLOCK).write_bytes(left)
    assert agree(run_dir, 1) == DAYS[1].isoformat() == agree(run_dir, 2)


def test_a_file_that_holds_no_time_is_refused(run_dir):
    run_dir.mkdir(exist_ok=True)
    (run_dir / CLOCK).write_bytes(b"noon\n")
    with pytest.raises(ResultsError, match="not the file of a run's time"):
        agree(run_dir, 1)
