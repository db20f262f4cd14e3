"""However a run is killed, resharded and started again: its status counts each finished row once, and never more than there are."""

import json
import random
import time

import pytest

from specbatch.results.collect.reshard import reshard
from specbatch.results.status.status import read_status
from specbatch.results.status.status_text import render_status, status_json
from specbatch.results.storage.folder import Folder
from specbatch.results.timeline import Timeline
from tests.results.builders import make_error, make_row, make_summary
from tests.results.sharded_runs import BAD, ROWS, open_shard, run_all, run_shard


def finished_indices(run_dir, kind="*"):
    """The truth: the index of every whole line."""
    return {
        json.loads(line)["index"]
        for path in run_dir.glob(f"{kind}-*-of-*.jsonl")
        for line in path.read_bytes().split(b"\n")[:-1]
    }


def finished(run_dir):
    return len(finished_indices(run_dir)), len(finished_indices(run_dir, "errors"))


def told(run_dir):
    run = read_status(Folder(run_dir), time.time())
    value = status_json(run)
    assert render_status(run)
    assert value["total_rows"] is None or value["total_rows"] == ROWS or value["total_rows_estimated"], value
    if value["total_rows"] is not None:
        assert value["rows"] <= value["total_rows"]
    return value["rows"], value["errors"]


def killed_shard(run_dir, shard, shards, chosen):
    """An attempt that writes some rows, says a word now and then, and dies in the middle of a line: as kill -9 leaves it."""
    with open_shard(run_dir, shard, shards) as store:
        if chosen.random() < 0.8:
            store.save_progress(make_summary(store), Timeline(), "running")
        for index in range(shard, ROWS, shards):
            if store.finished(f"row-{index}", f"{index:016x}", index) or chosen.random() < 0.5:
                continue
            store.write_error(make_error(index)) if index in BAD else store.write(make_row(index))
            if chosen.random() < 0.2:
                look = {"total_rows": chosen.randint(1, 40), "total_rows_estimated": True}
                store.save_progress(make_summary(store), Timeline(), "running", look)
    path = run_dir / f"part-{shard:05d}-of-{shards:05d}.jsonl"
    with path.open("ab") as file:
        file.write(b'{"id": "torn'[: chosen.randint(0, 12)])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_status_is_the_number_of_finished_rows_at_every_quiet_moment(run_dir, seed):
    chosen = random.Random(seed)
    shards = chosen.choice([1, 2, 3])
    for _ in range(chosen.randint(3, 6)):
        if list(run_dir.glob("part-*")) and len(finished_indices(run_dir)) < ROWS:
            reshard(run_dir, shards := chosen.choice([1, 2, 3, 5]))
            assert told(run_dir) == finished(run_dir)
        for shard in chosen.sample(range(shards), chosen.randint(1, shards)):
            if chosen.random() < 0.5:
                killed_shard(run_dir, shard, shards, chosen)
            else:
                run_shard(run_dir, shard, shards, chosen.random(), chosen)
            assert told(run_dir) == finished(run_dir), (shard, shards)
    run_all(run_dir, shards)
    assert told(run_dir) == (ROWS, len(BAD))


def test_rows_written_after_the_last_word_of_a_killed_process_count(run_dir):
    with open_shard(run_dir, 0, 1) as store:
        store.write(make_row(0))
        store.save_progress(make_summary(store), Timeline(), "running")
        store.write(make_row(1))
        store.write_error(make_error(4))
    assert told(run_dir) == (3, 1)


def test_rows_that_were_lost_after_they_were_counted_do_not_count(run_dir):
    with open_shard(run_dir, 0, 1) as store:
        for index in range(3):
            store.write(make_row(index))
        store.save_progress(make_summary(store), Timeline(), "running")
    path = run_dir / "part-00000-of-00001.jsonl"
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    assert told(run_dir) == (1, 0)


def test_a_run_of_an_earlier_version_is_counted_from_its_files(run_dir):
    run_all(run_dir, 2)
    for path in run_dir.glob("*.json"):
        value = json.loads(path.read_text())
        for attempt in value.get("attempts", []):
            del attempt["summary"]["ended"]
        path.write_text(json.dumps(value))
    assert told(run_dir) == (ROWS, len(BAD))


def test_an_estimated_total_is_marked(run_dir):
    look = {"total_rows": 70, "total_rows_estimated": True}
    with open_shard(run_dir, 0, 1) as store:
        store.write(make_row(0))
        store.save_progress(make_summary(store), Timeline(), "running", look)
        run = read_status(Folder(run_dir), time.time())
    assert "1 of about 70" in render_status(run)
