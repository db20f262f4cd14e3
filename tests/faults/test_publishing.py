"""`specbatch run` with results.publish, as a process, against a real S3 server that fails in every way."""

import contextlib
import json
import shutil
import signal
import time

import pytest

from specbatch.cli.main import main
from tests.runner.tiny import read_lines, spec_text, write_rows
from tests.s3 import silent_server

ROWS = [{"id": f"r{number}", "prompt": f"hello {number}"} for number in range(200)]
OPTIONS = ("decoding.maxNewTokens=24", "decoding.ignoreEos=true", "decoding.temperature=0.8", "batching.maxSequences=8")
OPTIONS += ("results.publish=s3://bucket/runs/", "results.partSize=8Ki", "results.publishRetrySeconds=2")

# Each of these takes ten seconds or more: a few for every day, all of them in `make faults`.


@pytest.fixture(scope="session")
def pair(zygote):
    return zygote.pair


@pytest.fixture
def spec(tmp_path, pair):
    rows = write_rows(tmp_path / "rows.jsonl", [*ROWS[:100], b"broken", *ROWS[100:]])
    file = tmp_path / "spec.yaml"
    file.write_text(spec_text(pair, rows, tmp_path / "results"))
    return file


@pytest.fixture
def results(tmp_path):
    return tmp_path / "results" / "tiny"


class Run:
    """A process of `specbatch run`."""

    def __init__(self, zygote, spec, *options, fresh=False, index=None):
        settings = [word for value in (*OPTIONS, *options) for word in ("--set", value)]
        env = {} if index is None else {"JOB_COMPLETION_INDEX": index}
        words = ("run", spec, *settings, "--log-format=json", *(["--fresh"] if fresh else []))
        self.process = zygote.process("specbatch", *words, **env)

    def end(self, code=0, seconds=120):
        """Waits; the process must end with that code."""
        ended = self.process.wait(seconds)
        self.output, self.errors = self.process.output, self.process.errors
        assert ended == code, self.errors + self.output
        assert "Traceback" not in self.errors
        assert "Unclosed" not in self.errors
        return self

    @property
    def events(self):
        return [json.loads(line) for line in self.output.splitlines()]

    @property
    def steps(self):
        return [event["message"] for event in self.events if event["event"] == "step"]

    @property
    def summary(self):
        return next(event["summary"] for event in self.events if event["event"] == "end")


@pytest.fixture
def run(zygote, spec):
    running = []

    def run_(*options, **more):
        running.append(Run(zygote, spec, *options, **more))
        return running[-1]

    yield run_
    for one in running:
        one.process.kill()
        one.process.wait()


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def objects(server):
    """Name -> bytes of what is there now; rclone's files of uploads that are under way come and go meanwhile."""
    folder, found = server.root / "bucket" / "runs" / "tiny", {}
    for path in list(folder.glob("*")) if folder.is_dir() else []:
        with contextlib.suppress(FileNotFoundError):
            found[path.name] = path.read_bytes()
    return found


def parts(files):
    return {name: data for name, data in files.items() if name.startswith("part-") and data}


def collected(tmp_path, source="s3://bucket/runs/tiny"):
    """What `specbatch collect` makes of it: every row once, in order."""
    target = tmp_path / "collected.jsonl"
    main(["collect", source, "-o", str(target)])
    rows = [json.loads(line) for line in target.read_bytes().splitlines()] if target.exists() else []
    assert [row["id"] for row in rows] == [row["id"] for row in ROWS]
    return {row["id"]: row["text"] for row in rows}


@pytest.fixture(scope="module")
def whole(zygote, tmp_path_factory):
    """What an uninterrupted run gives."""
    folder = tmp_path_factory.mktemp("whole")
    file = folder / "spec.yaml"
    file.write_text(spec_text(zygote.pair, write_rows(folder / "rows.jsonl", ROWS), folder / "results"))
    Run(zygote, file, "results.publish=null").end()
    return {line["id"]: line["text"] for line in read_lines(folder / "results" / "tiny")}


@pytest.mark.faults
def test_a_run_is_at_the_store_when_it_ends_and_parts_long_before(s3, run, results, tmp_path, whole):
    going = run()
    wait_for(lambda: len(parts(objects(s3))) >= 2)
    assert going.process.poll() is None
    assert "manifest-00000-of-00001.json" not in objects(s3)
    going.end()
    there = objects(s3)
    here = {path.name: path.read_bytes() for path in results.iterdir() if path.is_file()}
    assert {name for name, data in here.items() if data} == {name for name, data in there.items() if data}
    assert parts(there) == parts(here)
    shown = [event["publish"] for event in going.events if event["event"] == "progress"][-1]
    assert shown["destination"] == "s3://bucket/runs/tiny"
    saved = json.loads(there["progress-00000-of-00001.json"])["attempts"][-1]["now"]["publish"]
    assert saved["pending_files"] == 0
    assert saved["done_files"] >= len(parts(there))
    assert collected(tmp_path) == whole


@pytest.mark.slow
def test_a_store_that_is_down_to_the_end_gives_74_and_the_next_start_only_uploads(s3, run, results, tmp_path, whole):
    s3.kill()
    failed = run().end(74)
    assert "not published, and only in" in failed.errors
    assert "start the same command again" in failed.errors
    assert failed.summary["results"] == len(ROWS)
    assert sum("fails, and is tried again" in step for step in failed.steps) == 1
    assert (results / "_SUCCESS").exists()
    s3.start()
    again = run().end()
    assert again.summary["results"] == 0
    assert again.summary["load_seconds"] == 0, "no model is loaded to upload"
    assert collected(tmp_path) == whole


@pytest.mark.slow
def test_a_lost_volume_costs_only_what_was_not_published(s3, run, results, tmp_path, whole):
    going = run()
    wait_for(lambda: len(parts(objects(s3))) >= 3)
    going.process.kill()
    going.process.wait()
    kept = parts(objects(s3))
    shutil.rmtree(results)
    again = run().end()
    assert any("fetching" in step for step in again.steps)
    assert again.summary["skipped"] >= sum(data.count(b"\n") for data in kept.values())
    assert parts(objects(s3)).items() >= kept.items()
    assert collected(tmp_path) == whole
    shutil.rmtree(results)
    done = run().end()
    assert (done.summary["results"], done.summary["skipped"]) == (0, len(ROWS) + 1)
    assert done.summary["load_seconds"] == 0


@pytest.mark.faults
def test_a_lost_volume_while_the_store_is_away_loses_nothing(s3, run, results, tmp_path, whole):
    going = run()
    wait_for(lambda: len(parts(objects(s3))) >= 3)
    going.process.kill()
    going.process.wait()
    kept = parts(objects(s3))
    shutil.rmtree(results)
    s3.kill()
    again = run("results.publishRetrySeconds=60")
    wait_for(lambda: len(list(results.glob("part-*.jsonl"))) >= 3)
    s3.start()
    again.end()
    assert any("cannot be reached, the run goes on without it" in step for step in again.steps)
    assert parts(objects(s3)).items() > kept.items()
    assert collected(tmp_path) == whole


@pytest.mark.faults
def test_a_server_killed_again_and_again_gets_everything(s3, run, tmp_path, whole):
    going = run("results.publishRetrySeconds=60")
    for count in (1, 3, 5):
        wait_for(lambda count=count: len(parts(objects(s3))) >= count or going.process.poll() is not None)
        s3.kill()
        time.sleep(0.5)
        s3.start()
    going.end()
    assert collected(tmp_path) == whole


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.faults)])
def test_told_to_stop_while_uploads_are_pending_ends_with_75_in_time(s3, run, results, number):
    going = run()
    wait_for(lambda: len(parts(objects(s3))) >= 1)
    s3.freeze()
    before = len(list(results.glob("part-*.jsonl")))
    wait_for(lambda: len(list(results.glob("part-*.jsonl"))) > before)
    going.process.signal(number)
    told = time.monotonic()
    going.end(75, seconds=30)
    assert time.monotonic() - told < 28
    assert "every finished row is saved" in going.errors
    assert any("not published, and only in" in step for step in going.steps)
    s3.thaw()
    run().end()


@pytest.mark.faults
def test_told_to_stop_what_is_closed_is_published_before_the_end(s3, run):
    going = run("results.partSize=256Mi")
    wait_for(lambda: any(name.startswith("identity") for name in objects(s3)))
    time.sleep(1.0)
    going.process.signal(signal.SIGTERM)
    going.end(75, seconds=30)
    there = objects(s3)
    assert not json.loads(there["manifest-00000-of-00001.json"])["complete"]
    assert "_SUCCESS" not in there
    assert run().end().summary["skipped"] > 0


@pytest.mark.faults
def test_told_to_stop_while_only_uploads_are_left_ends_with_75(s3, run, results):
    s3.kill()
    going = run("results.publishRetrySeconds=600")
    wait_for((results / "_SUCCESS").exists)
    time.sleep(1.0)
    assert going.process.poll() is None
    going.process.signal(signal.SIGTERM)
    told = time.monotonic()
    going.end(75, seconds=30)
    assert time.monotonic() - told < 25  # of 600; 8 on a machine with nothing else to do
    assert "not published, and only in" in going.output


@pytest.mark.faults
def test_a_store_that_never_answers_delays_the_start_and_the_end_and_no_row(s3, run, monkeypatch):
    with silent_server() as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
        failed = run().end(74, seconds=200)
    assert failed.summary["results"] == len(ROWS)
    assert "the store does not answer" in failed.errors


@pytest.mark.faults
def test_another_run_at_the_destination_is_refused_before_anything_is_decoded(s3, run, results):
    run("dataset.limit=4").end()
    shutil.rmtree(results)
    refused = run("dataset.limit=4", "decoding.maxNewTokens=5").end(64)
    assert "decoding.maxNewTokens: 24 -> 5" in refused.errors
    assert not results.exists()
    run("dataset.limit=4", "decoding.maxNewTokens=5", fresh=True).end()
    assert json.loads(objects(s3)["manifest-00000-of-00001.json"])["rows"]["results"] == 4


@pytest.mark.faults
def test_two_pods_on_volumes_of_their_own_leave_one_whole_run(s3, run, tmp_path):
    pods = [run("job.completions=2", f"results.dir={tmp_path}/pod{index}", index=str(index)) for index in range(2)]
    for pod in pods:
        pod.end()
    assert json.loads(objects(s3)["_SUCCESS"]) == {"shards": 2, "results": len(ROWS), "errors": 1}
    collected(tmp_path)


@pytest.mark.faults
def test_objects_that_were_changed_or_removed_between_two_runs_are_put_right_by_the_second(s3, run, tmp_path, whole):
    run().end()
    folder, before = s3.root / "bucket" / "runs" / "tiny", objects(s3)
    first, second = sorted(parts(before))[:2]
    (folder / first).write_bytes(before[first][:-3] + b"??\n")
    (folder / second).unlink()
    (folder / "identity-00000-of-00001.json").unlink()
    time.sleep(2.0)  # the server's own listing is a second old
    again = run().end()
    assert again.summary["load_seconds"] == 0, "no model is loaded to repair"
    assert any(f"{first} is not what was published" in step for step in again.steps)
    assert parts(objects(s3)) == parts(before)
    assert "identity-00000-of-00001.json" in objects(s3)
    assert collected(tmp_path) == whole
