"""The number of shards changes, and results are published: on one volume, or with a volume for each pod that is lost with it."""

import json
import random
import shutil
import time

import pytest

from specbatch.errors import ResultsError
from specbatch.results import splits
from specbatch.results.collect.collect import collect
from specbatch.results.layout import SPLITS, SUCCESS, ShardFile, parse_names
from specbatch.results.manifest import Manifest, read_manifests, write_manifest, write_success
from specbatch.results.publish.destination import Destination
from specbatch.results.publish.ownership import RefusedError
from specbatch.results.publish.publish import Publisher
from specbatch.results.publish.remote_splits import read_published
from specbatch.results.publish.restore import restore
from specbatch.results.shard.parts import PartPolicy
from specbatch.results.shard.shard import ShardResults
from specbatch.results.splits import encode_splits
from specbatch.results.status.status import read_status
from specbatch.results.storage.folder import Folder
from tests.results.builders import IDENTITY, make_error, make_row
from tests.results.published import QUICK, memory_uri
from tests.results.shard.test_changing_splits import BAD, ROWS, run_all


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(splits, "PATIENCE_SECONDS", 0.2)


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
        restored = restore(destination, seconds=1.0, say=self.said.append, backoff=QUICK)
        self.publisher = Publisher(destination, say=self.said.append, backoff=QUICK)
        self.store = ShardResults.open(
            run_dir,
            shard=shard,
            shards=shards,
            identity=IDENTITY,
            policy=PartPolicy(max_bytes=1500, max_seconds=1000.0, on_closed=self.publisher.offer),
            known_splits=restored.splits,
            read_elsewhere=lambda see: read_published(
                destination.folder, restored.others, see, seconds=1.0, say=self.said.append, backoff=QUICK
            ),
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
            files=store.files, totals=store.totals, attempts=store.attempts, generation=store.generation,
            moved=store.moved, dataset_rows=ROWS,
        )  # fmt: skip
        write_manifest(self.run_dir, manifest)
        write_success(self.run_dir)
        self.publisher.finish(seconds=2.0)


def attempt(run_dir, uri, shard, shards, count=ROWS, *, dies=False):
    pod = Pod(run_dir, uri, shard, shards)
    pod.decode(count)
    pod.die() if dies else pod.end()
    return pod


def collected(source, folder):
    folder.mkdir(exist_ok=True)
    found = collect(source, folder / "rows.jsonl", errors=folder / "errors.jsonl")
    assert found.complete, found.unfinished
    return found, (folder / "rows.jsonl").read_bytes(), (folder / "errors.jsonl").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("volume", ["one for all", "one each, lost with its pod"])
@pytest.mark.parametrize("seed", range(8))
def test_what_is_published_is_the_whole_run_whatever_splits_it_has_had(tmp_path, uri, seed, volume):
    chosen = random.Random(seed)
    lost = volume != "one for all"

    def go(shard, shards, count, *, dies=False):
        run_dir = tmp_path / (f"{shard}-{shards}" if lost else "all") / "nightly"
        attempt(run_dir, uri, shard, shards, count, dies=dies)
        if lost:
            shutil.rmtree(run_dir)

    for _ in range(5):
        shards = chosen.choice([1, 2, 3, 5])
        for shard in chosen.sample(range(shards), chosen.randint(1, shards)):
            go(shard, shards, chosen.randint(0, 12), dies=chosen.random() < 0.5)
    shards = chosen.choice([1, 2, 4])
    for shard in range(shards):
        go(shard, shards, ROWS)
    success = json.loads(Folder(uri).read(SUCCESS))
    assert success == {"shards": shards, "results": ROWS - 3, "errors": 3}
    found, *texts = collected(uri, tmp_path / "a")
    assert found.duplicates == 0
    run_all(tmp_path / "unsplit", 1)
    assert texts == list(collected(tmp_path / "unsplit", tmp_path / "b")[1:])
    if not lost:
        here = {path.name for path in (tmp_path / "all" / "nightly").iterdir() if path.stat().st_size}
        assert {file.name for file in parse_names(here, "part")} <= Folder(uri).sizes().keys()


@pytest.mark.slow
def test_adopted_files_are_published_by_the_shard_that_answers_for_them(tmp_path, uri):
    """The pods of the old split died before a byte of theirs was there."""
    run_dir = tmp_path / "nightly"
    run_all(run_dir, 3)
    for shard in range(2):
        attempt(run_dir, uri, shard, 2)
    listed = {shard: {entry.name for entry in one.files} for shard, one in enumerate(read_manifests(Folder(uri)))}
    assert "part-00002-of-00003.jsonl" in listed[0]
    assert "part-00001-of-00003.jsonl" in listed[1]
    assert not listed[0] & listed[1]
    assert collected(uri, tmp_path / "a")[0].rows == ROWS


@pytest.mark.slow
def test_on_an_empty_volume_only_what_the_shard_answers_for_is_fetched(tmp_path, uri):
    for shard in range(3):
        attempt(tmp_path / f"old-{shard}" / "nightly", uri, shard, 3, 10)
    pod = attempt(tmp_path / "new" / "nightly", uri, 1, 2)
    assert (
        [said for said in pod.said if "fetching" in said]
        == [said for said in pod.said if "of shard 1 of 3" in said]
        != []
    )
    assert any("published files of the run as it was split before" in said for said in pod.said)
    assert not list(pod.run_dir.glob("*-00000-of-00003*"))
    assert sorted(json.loads(line)["index"] for path in pod.run_dir.glob("part-*-of-00002*") for line in path.read_bytes().splitlines()) == [
        index for index in range(1, ROWS, 2) if index // 3 >= 10 and index not in BAD
    ]  # fmt: skip


@pytest.mark.slow
def test_a_pod_of_the_old_split_that_still_lives_puts_nothing_there_any_more(tmp_path, uri):
    old = Pod(tmp_path / "old" / "nightly", uri, 0, 3)
    while Folder(uri).size("identity-00000-of-00003.json") is None:
        time.sleep(0.01)
    attempt(tmp_path / "first" / "nightly", uri, 1, 2, 5)
    before = Folder(uri).sizes()
    old.decode(ROWS)
    with pytest.raises(
        RefusedError, match="split into 2 shards meanwhile, and goes on so; this process has 3"
    ) as refused:
        old.end()
    assert refused.value.exit_code == 74
    assert Folder(uri).sizes() == before


@pytest.mark.slow
def test_of_two_splits_that_begin_at_once_one_is_refused(tmp_path, uri):
    folder = Folder(uri)
    first, second = (
        Destination(folder, tmp_path / f"{shards}", ShardFile("identity", 0, shards), IDENTITY) for shards in (2, 3)
    )
    for one in (first, second):
        one.run_dir.mkdir()
        (one.run_dir / one.file.name).write_text(json.dumps(IDENTITY.to_json()))
        one.reach()
    first.claim()
    with pytest.raises(RefusedError, match="split into 2 shards meanwhile"):
        second.claim()
    assert folder.read(SPLITS) == encode_splits([2])


@pytest.mark.slow
def test_success_and_manifests_of_the_old_split_do_not_count_any_more(tmp_path, uri):
    for shard in range(2):
        attempt(tmp_path / f"{shard}" / "nightly", uri, shard, 2)
    assert Folder(uri).size(SUCCESS) is not None
    attempt(tmp_path / "new" / "nightly", uri, 0, 3)
    assert Folder(uri).size(SUCCESS) is None
    status = read_status(Folder(uri), 0.0)
    assert [one.verdict for one in status.shards] == ["complete", "waiting", "waiting"]
    attempt(tmp_path / "back" / "nightly", uri, 1, 2)
    assert Folder(uri).size(SUCCESS) is None, "shard 0 of 2 has a complete manifest, from before"
    assert Folder(uri).read(SPLITS) == encode_splits([2, 3, 2])
    attempt(tmp_path / "back2" / "nightly", uri, 0, 2)
    assert collected(uri, tmp_path / "a")[0].duplicates == 0


@pytest.mark.slow
def test_a_store_that_fails_while_old_rows_are_read_costs_nothing_but_time(tmp_path, uri, monkeypatch):
    for shard in range(3):
        attempt(tmp_path / f"old-{shard}" / "nightly", uri, shard, 3, 10)
    real, failures = Folder.open, []

    def open_(self, name):
        stream = real(self, name)
        if len(failures) < 3 and "of-00003" in name:
            failures.append(name)
            raise ResultsError("the store is away")
        return stream

    monkeypatch.setattr(Folder, "open", open_)
    pod = Pod(tmp_path / "new" / "nightly", uri, 0, 2)
    assert len(failures) == 3
    assert pod.left == [index for index in range(0, ROWS, 2) if index // 3 >= 10]
    pod.die()


@pytest.mark.slow
def test_a_store_that_stays_away_while_old_rows_are_read_has_them_decoded_again(tmp_path, uri, monkeypatch):
    attempt(tmp_path / "old" / "nightly", uri, 1, 2, 10)
    real = Folder.open

    def open_(self, name):
        if "part-00001-of-00002" in name:
            raise ResultsError("the store is away")
        return real(self, name)

    monkeypatch.setattr(Folder, "open", open_)
    pod = Pod(tmp_path / "new" / "nightly", uri, 0, 3)
    assert 3 in pod.left
    assert any("cannot be read, their rows are decoded again: the store is away" in said for said in pod.said)
    monkeypatch.undo()
    pod.decode(ROWS)
    pod.end()
    for shard in (1, 2):
        attempt(tmp_path / f"new-{shard}" / "nightly", uri, shard, 3)
    found = collected(uri, tmp_path / "a")[0]
    assert found.duplicates > 0, "rows that are there twice are collected once"
