"""A published run is resharded where it is: on one volume, or with a volume for each pod that is lost with it."""

import json
import random
import shutil
import time

import pytest

from specbatch.results.collect.reshard import reshard
from specbatch.results.layout import SPLITS, SUCCESS, ShardFile
from specbatch.results.manifest import Manifest, write_manifest, write_success
from specbatch.results.publish.destination import Destination
from specbatch.results.publish.ownership import RefusedError
from specbatch.results.publish.publish import Publisher
from specbatch.results.publish.restore import restore
from specbatch.results.shard.parts import PartPolicy
from specbatch.results.shard.shard import ShardResults
from specbatch.results.splits import decode_splits
from specbatch.results.storage.folder import Folder
from tests.results.builders import IDENTITY, make_error, make_row
from tests.results.published import QUICK, memory_uri
from tests.results.sharded_runs import BAD, ROWS, collected, run_all


@pytest.fixture
def uri():
    return memory_uri()


class Pod:
    """One attempt at a shard, published; what a session does."""

    def __init__(self, run_dir, uri, shard, shards):
        self.run_dir = run_dir
        self.said = []
        file = ShardFile("identity", shard, shards)
        destination = Destination(Folder(uri), run_dir, file, IDENTITY)
        restore(destination, seconds=1.0, say=self.said.append, backoff=QUICK)
        self.publisher = Publisher(destination, say=self.said.append, backoff=QUICK)
        self.store = ShardResults.open(
            run_dir,
            shard=shard,
            shards=shards,
            identity=IDENTITY,
            policy=PartPolicy(max_bytes=1500, max_seconds=1000.0, on_closed=self.publisher.offer),
        )
        self.publisher.start()
        self.left = [
            index
            for index in range(shard, ROWS, shards)
            if not self.store.finished(f"row-{index}", f"{index:016x}", index)
        ]

    def decode(self, count):
        for index in self.left[:count]:
            self.store.write_error(make_error(index)) if index in BAD else self.store.write(make_row(index))
        del self.left[:count]

    def die(self):
        """As by kill -9, after what was offered may have got there or not."""
        self.publisher.close()
        self.publisher._thread.join()
        self.store.close()

    def end(self):
        self.store.close()
        store = self.store
        manifest = Manifest(
            name="nightly", shard=store.shard, shards=store.shards, complete=not self.left, identity=IDENTITY,
            files=store.files, totals=store.totals, attempts=store.attempts, dataset_rows=ROWS,
        )  # fmt: skip
        write_manifest(self.run_dir, manifest)
        write_success(self.run_dir)
        self.publisher.finish(seconds=2.0)


def attempt(run_dir, uri, shard, shards, count=ROWS, *, dies=False):
    pod = Pod(run_dir, uri, shard, shards)
    pod.decode(count)
    pod.die() if dies else pod.end()
    return pod


@pytest.mark.slow
@pytest.mark.parametrize("volume", ["one for all", "one each, lost with its pod"])
@pytest.mark.parametrize("seed", range(6))
def test_what_is_published_is_the_whole_run_however_often_it_is_resharded(tmp_path, uri, seed, volume):
    chosen = random.Random(seed)
    lost = volume != "one for all"
    shards = chosen.choice([1, 2, 3])

    def go(shard, count, *, dies=False):
        run_dir = tmp_path / (f"{shard}" if lost else "all") / "nightly"
        attempt(run_dir, uri, shard, shards, count, dies=dies)
        if lost:
            shutil.rmtree(run_dir)

    for new in [chosen.choice([1, 2, 3, 5]) for _ in range(4)]:
        for shard in chosen.sample(range(shards), chosen.randint(1, shards)):
            go(shard, chosen.randint(0, 12), dies=chosen.random() < 0.5)
        for place in (uri, *([] if lost else [tmp_path / "all" / "nightly"])):
            if not isinstance(place, str) or Folder(place).sizes():
                reshard(place, new)
        shards = new
    for shard in range(shards):
        go(shard, ROWS)
    assert json.loads(Folder(uri).read(SUCCESS)) == {"shards": shards, "results": ROWS - 3, "errors": 3}
    run_all(tmp_path / "unsplit", 1)
    if lost:
        assert collected(uri, tmp_path / "a") == collected(tmp_path / "unsplit", tmp_path / "b")


@pytest.mark.slow
def test_on_an_empty_volume_the_rows_of_the_new_shard_are_fetched_and_not_decoded_again(tmp_path, uri):
    for shard in range(3):
        attempt(tmp_path / f"old-{shard}" / "nightly", uri, shard, 3, 10)
    done = reshard(uri, 2)
    assert (done.rows, done.duplicates) == (30, 0)
    pod = Pod(tmp_path / "new" / "nightly", uri, 1, 2)
    assert pod.left == [index for index in range(1, ROWS, 2) if index // 3 >= 10]
    assert any("fetching 2 published files of this shard" in said for said in pod.said)
    pod.die()


@pytest.mark.slow
def test_a_pod_of_another_split_is_refused_before_anything_of_it_is_there_or_here(tmp_path, uri):
    attempt(tmp_path / "old" / "nightly", uri, 0, 3, 5)
    before = Folder(uri).sizes()
    with pytest.raises(RefusedError, match="split into 3 shards, and this process is one of 2") as refused:
        Pod(tmp_path / "new" / "nightly", uri, 1, 2)
    assert refused.value.exit_code == 64
    assert f"specbatch reshard {uri} --completions 2" in refused.value.remedy
    assert Folder(uri).sizes() == before
    assert not (tmp_path / "new" / "nightly").exists()


@pytest.mark.slow
def test_a_pod_that_lives_through_a_reshard_puts_nothing_there_any_more(tmp_path, uri):
    attempt(tmp_path / "first" / "nightly", uri, 1, 3, 5)
    old = Pod(tmp_path / "old" / "nightly", uri, 0, 3)
    while Folder(uri).size("identity-00000-of-00003.json") is None:
        time.sleep(0.01)
    reshard(uri, 2)
    before = Folder(uri).sizes()
    old.decode(ROWS)
    with pytest.raises(RefusedError, match="split into 2 shards, and this process is one of 3"):
        old.end()
    assert Folder(uri).sizes() == before


@pytest.mark.slow
def test_of_two_splits_that_begin_at_once_one_is_refused(tmp_path, uri):
    folder = Folder(uri)
    first, second = (
        Destination(folder, tmp_path / f"{shards}", ShardFile("identity", 0, shards), IDENTITY) for shards in (2, 3)
    )
    for one in (first, second):
        one.run_dir.mkdir()
        (one.run_dir / one.file.name).write_bytes(IDENTITY.encode())
        one.reach()
    first.claim()
    with pytest.raises(RefusedError, match="split into 2 shards, and this process is one of 3"):
        second.claim()
    assert decode_splits(folder.read(SPLITS)) == (2,)


@pytest.mark.slow
def test_the_list_there_grows_with_every_reshard_so_that_its_size_tells_a_pod_of_the_change(tmp_path, uri):
    attempt(tmp_path / "old" / "nightly", uri, 0, 3, 5)
    for shards in (5, 3):
        reshard(uri, shards)
    assert decode_splits(Folder(uri).read(SPLITS)) == (3, 5, 3)
