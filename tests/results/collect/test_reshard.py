"""A run that is resharded between attempts is one run: each row once, whatever a killed reshard has left."""

import json
import random
from pathlib import Path

import pytest

from specbatch.errors import OtherRunError, ResultsError, SplitError
from specbatch.results.collect.collect import collect
from specbatch.results.collect.reshard import reshard
from specbatch.results.layout import SPLITS, SUCCESS
from specbatch.results.report.facts import gather
from specbatch.results.shard import split_lock
from specbatch.results.shard.shard import ShardResults
from specbatch.results.splits import decode_splits
from specbatch.results.status.status import read_status
from specbatch.results.status.status_text import render_status
from specbatch.results.storage.folder import Folder
from specbatch.results.wire import encode_result
from specbatch.runner.verify.sample import sample_rows
from tests.results.builders import IDENTITY, make_row
from tests.results.sharded_runs import BAD, ROWS, collected, open_shard, rows_in, run_all, run_shard


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(split_lock, "WAIT_SECONDS", 0.2)


def of_split(run_dir):
    return {path.name.partition("-of-")[2][:5] for path in run_dir.glob("*-of-*") if "progress" not in path.name}


def kill_in_a_line(part, torn):
    """As a writer leaves it: before its first row it had withdrawn its manifest."""
    part.write_bytes(part.read_bytes() + torn)
    part.with_name(part.name.replace("part-", "manifest-").replace(".jsonl", ".json")).unlink(missing_ok=True)


@pytest.mark.parametrize("seed", [*range(3), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(3, 10))])
def test_every_row_ends_once_however_often_the_run_is_resharded(run_dir, tmp_path, seed):
    chosen = random.Random(seed)
    shards = chosen.choice([1, 3])
    decoded = run_shard(run_dir, 0, shards, 0.3, chosen)
    for new in (chosen.choice([1, 2, 3, 4, 5, 9]) for _ in range(5)):
        torn = chosen.choice([b'{"id": "row-', b"\0\0", encode_result(make_row(7))[:-1]])
        kill_in_a_line(chosen.choice(sorted(run_dir.glob("part-*"))), torn)
        done = reshard(run_dir, new)
        assert (done.rows, done.duplicates) == ((len(decoded), 0) if new != shards else (0, 0))
        shards = new
        for shard in chosen.sample(range(shards), chosen.randint(1, shards)):
            decoded += run_shard(run_dir, shard, shards, chosen.choice([0.0, 0.2]), chosen)
    decoded += run_all(run_dir, shards, 1.0, chosen)
    assert sorted(decoded) == list(range(ROWS)) == rows_in(run_dir)
    assert json.loads((run_dir / SUCCESS).read_bytes()) == {"shards": shards, "results": ROWS - 3, "errors": 3}
    run_all(tmp_path / "unsplit", 1)
    assert collected(run_dir, tmp_path / "a") == collected(tmp_path / "unsplit", tmp_path / "b")


def test_rows_are_in_order_in_the_file_of_their_shard_and_old_files_are_gone(run_dir):
    run_all(run_dir, 3, 0.6, random.Random(1))
    before = rows_in(run_dir)
    done = reshard(run_dir, 5, memory_bytes=1000)
    assert (done.before, done.shards, done.rows) == (3, 5, len(before))
    for shard in range(5):
        for kind in ("part", "errors"):
            lines = (run_dir / f"{kind}-{shard:05d}-of-00005.jsonl").read_bytes().splitlines()
            indices = [json.loads(line)["index"] for line in lines]
            assert indices == [row for row in before if row % 5 == shard and (row in BAD) == (kind == "errors")]
    assert of_split(run_dir) == {"00005"}
    assert decode_splits((run_dir / SPLITS).read_bytes()) == (3, 5)
    assert not list(run_dir.glob(".*")), "no temporary file is left"


def test_the_same_rows_give_the_same_files_whatever_files_they_were_in(run_dir, tmp_path):
    run_all(run_dir, 3, 0.5, random.Random(1))
    run_all(other := tmp_path / "other" / "nightly", 3, 0.5, random.Random(1))
    reshard(other, 2)
    for one in (run_dir, other):
        reshard(one, 5)
    assert [(one.name, one.read_bytes()) for one in sorted(run_dir.glob("part*"))] == [
        (one.name, one.read_bytes()) for one in sorted(other.glob("part*"))
    ]


class Killed(BaseException):
    pass


@pytest.mark.slow
def test_a_kill_at_any_step_leaves_all_rows_and_the_same_command_ends_what_it_began(run_dir, tmp_path, monkeypatch):
    """Each step is a call that changes the folder; a pod of the split that counts then may start in between."""
    steps, left = [], [1000]

    def counted(owner, name):
        real = getattr(owner, name)

        def call(*args, **kwargs):
            steps.append(name)
            if not left[0]:
                raise Killed
            left[0] -= 1
            return real(*args, **kwargs)

        monkeypatch.setattr(owner, name, call)

    for name in ("put", "write", "remove"):
        counted(Folder, name)
    counted(split_lock.SplitLock, "change")
    run_all(tmp_path / "unsplit", 1)
    whole = collected(tmp_path / "unsplit", tmp_path / "whole")
    at, seen = 0, set()
    while True:
        place = tmp_path / str(at) / "nightly"
        left[0] = 1000
        decoded = run_all(place, 3, 0.5, random.Random(at))
        left[0] = at
        try:
            reshard(place, 2)
        except Killed:
            pass
        else:
            break
        left[0] = 1000
        shards = read_status(Folder(place), 0.0).shards[0].shards
        seen.add(shards)
        decoded += run_shard(place, 1, shards, 0.5, random.Random(at))
        assert read_status(Folder(place), 0.0).now.rows == len(decoded)
        reshard(place, 2)
        assert of_split(place) == {"00002"}
        decoded += run_all(place, 2)
        assert sorted(decoded) == list(range(ROWS)) == rows_in(place)
        assert collected(place, tmp_path / str(at) / "out") == whole
        at += 1
    assert at > 12
    assert seen == {2, 3}
    assert {"put", "write", "remove", "change"} == set(steps)


@pytest.mark.slow
def test_a_run_that_is_still_written_is_refused_by_its_shard_and_no_writer_starts_meanwhile(run_dir, monkeypatch):
    with open_shard(run_dir, 1, 3) as old:
        old.write(make_row(1))
        with pytest.raises(ResultsError, match=r"writing shard 1 of this run, which is split into 3") as refused:
            reshard(run_dir, 5)
        assert refused.value.exit_code.retryable
    real = Folder.put

    def put(self, name, source, **options):
        with pytest.raises(ResultsError, match="is changing the number of shards") as busy:
            open_shard(run_dir, 0, 3)
        assert busy.value.exit_code.retryable
        return real(self, name, source, **options)

    monkeypatch.setattr(split_lock, "WAIT_SECONDS", 0.01)
    monkeypatch.setattr(Folder, "put", put)
    assert reshard(run_dir, 5).rows == 1


def test_a_process_of_another_split_is_refused_for_good_and_told_both_ways_out(run_dir):
    run_all(run_dir, 3, 0.3)
    with pytest.raises(SplitError, match=r"split into 3 shards, and this process is one of 5") as refused:
        open_shard(run_dir, 0, 5)
    assert not refused.value.exit_code.retryable
    assert "set job.completions to 3" in refused.value.remedy
    assert f"specbatch reshard {run_dir} --completions 5" in refused.value.remedy
    assert of_split(run_dir) == {"00003"}


def test_another_run_is_refused_whatever_its_split(run_dir):
    run_all(run_dir, 3, 0.3)
    other = type(IDENTITY)(spec_hash="b" * 64, dataset="x", models={"target": "t@1"})
    with pytest.raises(OtherRunError, match="belong to another run"):
        ShardResults.open(run_dir, shard=0, shards=2, identity=other)


def test_fresh_deletes_the_files_of_every_split(run_dir):
    run_all(run_dir, 3, 0.3)
    assert sorted(run_shard(run_dir, 0, 1, fresh=True)) == list(range(ROWS))
    assert of_split(run_dir) == {"00001"}
    assert (run_dir / SUCCESS).exists()


def test_a_complete_run_and_a_folder_without_one_are_refused_and_stay_as_they_are(run_dir, tmp_path):
    run_all(run_dir, 3)
    before = {path.name: path.read_bytes() for path in run_dir.iterdir()}
    with pytest.raises(ResultsError, match="the run is complete"):
        reshard(run_dir, 2)
    assert {path.name: path.read_bytes() for path in run_dir.iterdir()} == before
    (tmp_path / "empty").mkdir()
    with pytest.raises(ResultsError, match="no run is there"):
        reshard(tmp_path / "empty", 2)
    assert not list((tmp_path / "empty").iterdir())


def test_a_damaged_line_stops_it_before_anything_is_written(run_dir):
    run_all(run_dir, 3, 0.5)
    part = run_dir / "part-00000-of-00003.jsonl"
    lines = part.read_bytes().splitlines(keepends=True)
    part.write_bytes(b"".join([lines[0], b"{broken\n", *lines[1:]]))
    with pytest.raises(ResultsError, match="manifest"):
        reshard(run_dir, 2)
    assert of_split(run_dir) == {"00003"}


def test_files_of_another_split_are_never_collected_in_silence(run_dir, tmp_path):
    run_all(run_dir, 3)
    (run_dir / "part-00000-of-00002.jsonl").write_bytes(encode_result(make_row(0)))
    with pytest.raises(ResultsError, match=r"part-00000-of-00002.jsonl lies beside a run that is split into 3 shards"):
        collect(run_dir, tmp_path / "rows.jsonl")
    assert reshard(run_dir, 3).removed == 1
    assert collected(run_dir, tmp_path / "out")


def test_temporary_files_of_a_killed_reshard_are_removed_by_the_next(run_dir):
    run_all(run_dir, 3, 0.5)
    (left := run_dir / ".reshard-abc").mkdir()
    Path(left, "part").touch()
    reshard(run_dir, 2)
    assert not left.exists()


def test_rows_of_a_changed_dataset_are_found_after_a_reshard_too(run_dir):
    run_all(run_dir, 3, 0.9, random.Random(0))
    first = rows_in(run_dir)[0]
    reshard(run_dir, 2)
    with open_shard(run_dir, first % 2, 2) as store, pytest.raises(ResultsError, match="the results hold another row"):
        store.finished(f"row-{first}", "another content", first)


def test_status_counts_the_rows_of_shards_that_were_not_started_since(run_dir):
    run_all(run_dir, 3, 0.5, random.Random(2))
    before = read_status(Folder(run_dir), 0.0)
    reshard(run_dir, 5)
    status = read_status(Folder(run_dir), 0.0)
    assert (status.now.rows, status.now.errors) == (before.now.rows, before.now.errors)
    assert status.now.rows == len(rows_in(run_dir))
    assert len(status.shards) == 5
    run_all(run_dir, 5)
    status = read_status(Folder(run_dir), 0.0)
    assert status.complete
    assert status.success
    assert f"{ROWS}/{ROWS} (100%)" in render_status(status)


@pytest.mark.slow
def test_report_and_sample_see_each_row_once_and_the_time_of_both_splits(run_dir):
    run_all(run_dir, 3, 0.5)
    reshard(run_dir, 2)
    run_all(run_dir, 2)
    facts = gather(Folder(run_dir))
    assert facts.totals.rows == ROWS
    assert facts.repeated == 0
    assert facts.summary.seconds == 2 * 12.5, "the splits were one after the other, their shards at once"
    assert sample_rows(run_dir, 1000, 0).finished == ROWS - 3
