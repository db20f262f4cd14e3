import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from specbatch.errors import ResultsError
from specbatch.results.attempts import read_attempts, write_attempts
from specbatch.results.manifest import Manifest, write_manifest
from specbatch.results.protocol import Progress, PublishState
from specbatch.results.shard.shard import ShardResults
from specbatch.results.status.status import read_status
from specbatch.results.status.status_text import render_status, status_json
from specbatch.results.storage.folder import Folder
from specbatch.results.storage.process import Process
from specbatch.results.timeline import Timeline
from tests.results.builders import IDENTITY, finish_run, make_error, make_row, make_summary

ROOT = Path(__file__).parents[3]
NOW = Progress(
    seconds=10.0, rows=4, total_rows=10, active=8, tokens_per_second=512.3, acceptance_rate=0.712,
    mean_acceptance_length=3.1, num_speculative_tokens=4, eta_seconds=75.0, fraction_of_ceiling=0.54,
    phase_seconds={"verify": 3.0, "draft": 1.0}, completion_tokens=900, errors=1,
)  # fmt: skip
# A writer in a process of its own: opens the shard, says a word, and waits for a line on its standard input.
WRITER = """
import sys
from specbatch.results.shard.shard import ShardResults
from specbatch.results.timeline import Timeline
from tests.results.builders import IDENTITY, make_error, make_row, make_summary
from tests.results.status.test_status import NOW
with ShardResults.open(sys.argv[1], identity=IDENTITY) as store:
    if sys.argv[2] == "says":
        for index in range(3):
            store.write(make_row(index))
        store.write_error(make_error(9))
        store.save_progress(make_summary(store), Timeline(), "running", NOW)
    print("ready", flush=True)
    sys.stdin.readline()
    store.save_progress(make_summary(store), Timeline(), sys.argv[3], NOW)
"""


def look(run_dir, later=0.0):
    return read_status(Folder(run_dir), time.time() + later)


@pytest.fixture
def start_writer(run_dir):
    children = []

    def start(says="says", outcome="stopped"):
        child = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(run_dir), says, outcome],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
        )  # fmt: skip
        children.append(child)
        assert child.stdout.readline() == "ready\n"
        return child

    yield start
    for child in children:
        child.kill()
        child.communicate()


def change_last(run_dir, **changes):
    """Rewrites the last attempt, as another machine would have written it."""
    *earlier, last = read_attempts(run_dir, 0, 1)
    write_attempts(run_dir, 0, 1, [*earlier, replace(last, **changes)])


def test_a_complete_run_is_complete_with_its_numbers(run_dir):
    finish_run(run_dir, [make_row(index) for index in range(8)], [make_error(8)])
    run = look(run_dir, later=7200)
    assert (run.success, run.complete) == (True, True)
    text = render_status(run)
    for part in (
        "complete (updated 2 h ago)",
        "100%",
        "9 of 9, 1 error",
        "acceptance_rate 0.646",
        "k 4",
        "1: done after",
    ):
        assert part in text, part
    assert "batch" not in text


@pytest.mark.slow
def test_a_run_at_work_is_read_without_disturbing_it(run_dir, start_writer):
    child = start_writer()
    before = {path.name: path.stat().st_mtime_ns for path in run_dir.iterdir()}
    run = look(run_dir)
    assert (run.shards[0].verdict, run.shards[0].alive) == ("running", True)
    text = render_status(run)
    for part in (
        "running (updated", "1 min 15 s left", "4 of 10, 1 error, batch 8", "512.3 tokens/s, ", "x the target alone (estimated), 54% of the predicted ceiling",
        "acceptance_rate 0.712, mean_acceptance_length 3.10, k 4", "verify 75%, draft 25%", "1: running after",
    ):  # fmt: skip
        assert part in " ".join(text.split()), part
    assert before == {path.name: path.stat().st_mtime_ns for path in run_dir.iterdir()}
    assert max(map(len, text.splitlines()[1:])) <= 80
    child.communicate("\n")
    assert child.returncode == 0
    assert look(run_dir).shards[0].sentence == "stopped: start the same command again"


@pytest.mark.slow
def test_no_lock_is_taken_that_could_refuse_a_writer(run_dir):
    # Whoever looks all the time must never be in the way of a run that starts.
    ended = threading.Event()

    def watch():
        while not ended.is_set():
            try:
                look(run_dir)
            except ResultsError:
                time.sleep(0.001)  # nothing is there yet

    watching = [threading.Thread(target=watch) for _ in range(3)]
    for thread in watching:
        thread.start()
    try:
        for _ in range(50):
            ShardResults.open(run_dir, identity=IDENTITY).close()
    finally:
        ended.set()
        for thread in watching:
            thread.join()


@pytest.mark.slow
def test_a_kill_is_seen_at_once(run_dir, start_writer):
    child = start_writer()
    child.send_signal(signal.SIGKILL)
    child.wait()
    (shard,) = look(run_dir).shards
    assert (shard.verdict, shard.alive) == ("killed", False)
    assert shard.sentence == "killed: start the same command again"
    assert "1: killed after" in render_status(look(run_dir))


@pytest.mark.slow
def test_a_restart_that_still_reads_back_is_starting(run_dir, start_writer):
    start_writer().kill()
    start_writer("silent")
    (shard,) = look(run_dir).shards
    if not shard.locked:
        pytest.skip("this kernel does not list file locks")
    assert shard.sentence == "starting: reading back what is finished"


@pytest.mark.slow
def test_of_another_machine_only_the_age_tells(run_dir, start_writer):
    child = start_writer()
    child.kill()
    child.wait()
    change_last(run_dir, process=Process(host="elsewhere", pid=1, space="other", started="5"))
    assert look(run_dir).shards[0].verdict == "running"
    (silent,) = look(run_dir, later=185).shards
    assert (silent.verdict, silent.alive) == ("killed", None)
    assert silent.sentence.startswith(
        "killed? no progress was saved for 3 min: unless it still runs, start the same command again"
    )


@pytest.mark.slow
def test_a_process_that_lives_and_says_nothing_may_hang(run_dir, start_writer):
    start_writer()
    assert look(run_dir, later=300).shards[0].sentence == "running, but no progress was saved for 5 min: it may hang"


def test_before_the_first_look_a_run_is_loading(run_dir):
    with ShardResults.open(run_dir, identity=IDENTITY) as store:
        store.save_progress(make_summary(store), Timeline())
        assert look(run_dir).shards[0].sentence == "starting: loading, nothing is decoded yet"


def test_a_failure_says_why(run_dir):
    with ShardResults.open(run_dir, identity=IDENTITY) as store:
        store.write(make_row(0))
        store.save_progress(
            make_summary(store), Timeline(), "failed", None, "rows.jsonl: cannot be read\n  remedy: chmod"
        )
    assert look(run_dir).shards[0].sentence == "failed: rows.jsonl: cannot be read"
    change_last(run_dir, reason="")
    assert look(run_dir).shards[0].sentence == "failed: its own output says why"


def test_publishing_is_shown_and_why_it_fails(run_dir):
    state = PublishState(
        destination="s3://b/nightly", done_files=2, done_bytes=2_000_000, pending_files=1, pending_bytes=500,
        problem="no such bucket", failing_since=time.time() - 7260,
    )  # fmt: skip
    with ShardResults.open(run_dir, identity=IDENTITY) as store:
        store.write(make_row(0))
        store.save_progress(make_summary(store), Timeline(), "running", replace(NOW, publish=state))
        run = look(run_dir)
    text = " ".join(render_status(run).split())
    assert "2 files (2.0 MB) at s3://b/nightly, 1 waiting (500 bytes); failing for 2 h 0" in text
    assert status_json(run)["shards"][0]["publish"]["problem"] == "no such bucket"


def test_a_complete_run_that_is_not_all_published_says_so_and_does_not_grow_older(run_dir):
    state = PublishState(
        destination="s3://b/nightly",
        pending_files=3,
        problem="no route to " + "x " * 90,
        failing_since=time.time() - 60,
    )
    finish_run(run_dir, [make_row(0)])
    change_last(run_dir, now=Progress(publish=state))
    assert look(run_dir).shards[0].sentence == "complete: publishing the rest"
    change_last(run_dir, process=None)
    run = look(run_dir, later=7200)
    assert run.shards[0].sentence == "complete, but not all published: start the same command again"
    text = render_status(run)
    assert "failing for 1 min 0" in " ".join(text.split())
    assert max(map(len, text.splitlines()[1:])) <= 80


def test_after_the_last_row_what_is_left_to_do_is_said(run_dir):
    with ShardResults.open(run_dir, identity=IDENTITY) as store:
        store.write(make_row(0))
        store.save_progress(make_summary(store), Timeline(), "done", NOW)
        assert look(run_dir).shards[0].sentence == "decoded: writing the manifest"
    change_last(run_dir, process=None)
    assert look(run_dir, later=600).shards[0].verdict == "incomplete"


def make_shards(run_dir, shards=4):
    """Shard 0 complete, 1 stopped, 2 running, 3 without a word; the dataset has 12 rows."""
    for shard, outcome in enumerate(("done", "stopped", "running")):
        with ShardResults.open(run_dir, shard=shard, shards=shards, identity=IDENTITY) as store:
            for index in range(shard, 12, shards):
                store.write(make_row(index))
            store.save_progress(make_summary(store), Timeline(), outcome, NOW if outcome == "running" else None)
        if outcome != "running":
            made = Manifest(
                name="nightly", shard=shard, shards=shards, complete=outcome == "done", identity=IDENTITY,
                files=store.files, totals=store.totals, attempts=store.attempts, dataset_rows=12,
            )  # fmt: skip
            write_manifest(run_dir, made)


def test_shards_are_a_table_with_a_sum_and_a_sentence_where_one_is_needed(run_dir):
    make_shards(run_dir)
    run = look(run_dir)
    assert [one.verdict for one in run.shards] == ["complete", "stopped", "running", "waiting"]
    assert [one.total_rows for one in run.shards] == [3, 3, 3, 3]
    text = render_status(run)
    assert "4 shards: 1 complete, 1 stopped, 1 running, 1 waiting" in text
    assert "shard 1: stopped: start the same command again" in text
    table = [line.split() for line in text.splitlines() if line.strip().startswith(("0 ", "1 ", "2 ", "3 ", "all "))]
    assert [row[:2] for row in table] == [["0", "3/3"], ["1", "3/3"], ["2", "3/3"], ["all", "9/12"]]
    assert table[-1][4] == "512.3"  # the speed of those at work
    assert max(map(len, text.splitlines()[1:])) <= 80
    value = json.loads(json.dumps(status_json(run)))
    assert (value["rows"], value["total_rows"], value["tokens_per_second"]) == (9, 12, 512.3)
    assert [one["verdict"] for one in value["shards"]] == ["complete", "stopped", "running", "waiting"]


@pytest.mark.slow
def test_many_waiting_shards_take_no_room(run_dir):
    make_shards(run_dir, shards=1000)
    assert len(render_status(look(run_dir)).splitlines()) < 20


@pytest.mark.parametrize("name", ["progress", "manifest"])
def test_half_written_files_are_as_if_they_were_not_there(run_dir, name):
    finish_run(run_dir, [make_row(0)])
    path = run_dir / f"{name}-00000-of-00001.json"
    whole = path.read_bytes()
    for end in (0, 1, len(whole) // 2, len(whole) - 3):
        path.write_bytes(whole[:end])
        assert render_status(look(run_dir))


def test_files_that_vanish_between_listing_and_reading_are_no_error(run_dir, monkeypatch):
    finish_run(run_dir, [make_row(0)])
    sizes = Folder(run_dir).sizes()
    for path in list(run_dir.glob("*.json*")):
        path.unlink()
    monkeypatch.setattr(Folder, "sizes", lambda self: sizes)
    assert look(run_dir).shards[0].verdict == "waiting"


def test_a_published_run_is_read_from_its_uri(run_dir):
    import fsspec

    finish_run(run_dir, [make_row(index) for index in range(5)])
    store = fsspec.filesystem("memory")
    for name in ("manifest-00000-of-00001.json", "_SUCCESS"):
        store.pipe_file(f"/status/nightly/{name}", (run_dir / name).read_bytes())
    run = read_status(Folder("memory://status/nightly"), time.time())
    assert (run.complete, run.success, run.name) == (True, True, "nightly")
    assert "5 of 5" in render_status(run)


def test_no_run_is_an_error_that_names_the_runs_below(tmp_path, run_dir):
    with pytest.raises(ResultsError, match="no run is there"):
        look(tmp_path)
    finish_run(run_dir)
    with pytest.raises(ResultsError, match=f"name the run: {run_dir}"):
        look(tmp_path)
    assert os.listdir(tmp_path) == ["nightly"]  # noqa: PTH208
