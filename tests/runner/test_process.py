"""`specbatch run` as a process of its own: killed, told to stop, started again."""

import json
import signal
import time

import pytest

from specbatch.runner.job import run_job
from tests.runner.tiny import read_lines, spec_text, write_rows

ROWS = [{"id": f"r{number}", "prompt": f"hello {number}"} for number in range(280)]
MANY_TOKENS = (
    "decoding.maxNewTokens=24",
    "decoding.ignoreEos=true",
    "decoding.temperature=0.8",
    "batching.maxSequences=8",
)

pytestmark = pytest.mark.slow


@pytest.fixture
def spec(tmp_path, pair):
    rows = write_rows(tmp_path / "rows.jsonl", [*ROWS[:100], b"broken", *ROWS[100:]])
    file = tmp_path / "spec.yaml"
    file.write_text(spec_text(pair, rows, tmp_path / "results"))
    return file


@pytest.fixture
def results(tmp_path):
    return tmp_path / "results" / "tiny"


@pytest.fixture
def start(zygote, spec, results):
    """start() -> the process, once it has written a part of the rows."""
    running = []

    def start_():
        options = [option for value in MANY_TOKENS for option in ("--set", value)]
        before = written(results)
        process = zygote.process("specbatch", "run", spec, *options, "--log-format=json")
        running.append(process)
        deadline = time.monotonic() + 60
        while written(results) < before + 60 and process.poll() is None:
            assert time.monotonic() < deadline, "no rows were written"
            time.sleep(0.01)
        return process

    yield start_
    for process in running:
        process.kill()
        process.wait()


def written(results):
    return sum(path.read_bytes().count(b"\n") for path in results.glob("part-*.jsonl"))


def check_whole(results, spec, tmp_path):
    """Every row once, with the text of an uninterrupted run."""
    from specbatch.api import load_spec

    lines = read_lines(results)
    assert len(lines) == len(ROWS)
    assert [line["code"] for line in read_lines(results, "errors")] == ["invalid_json"]
    run_job(load_spec(spec, [*MANY_TOKENS, f"results.dir={tmp_path}/whole"]))
    whole = {line["id"]: line["text"] for line in read_lines(tmp_path / "whole" / "tiny")}
    assert {line["id"]: line["text"] for line in lines} == whole


def test_run_killed_in_the_middle_goes_on_to_the_same_results(start, spec, results, tmp_path):
    kept = b""
    for _ in range(2):
        process = start()
        assert process.poll() is None, process.errors
        process.kill()
        process.wait()
        data = (results / "part-00000-of-00001.jsonl").read_bytes()
        assert data.startswith(kept)
        kept = data[: data.rindex(b"\n") + 1]
        assert not (results / "_SUCCESS").exists()
    process = start()
    assert process.wait() == 0, process.errors
    end = json.loads(process.output.splitlines()[-1])
    assert end["summary"]["skipped"] >= kept.count(b"\n")
    assert (results / "part-00000-of-00001.jsonl").read_bytes().startswith(kept)
    assert (results / "_SUCCESS").exists()
    check_whole(results, spec, tmp_path)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_run_told_to_stop_saves_what_is_finished_and_ends_with_75(start, results, number):
    process = start()
    process.signal(number)
    told = time.monotonic()
    assert process.wait(30) == 75, process.errors
    assert time.monotonic() - told < 8
    assert "every finished row is saved" in process.errors
    assert "Traceback" not in process.errors
    manifest = json.loads((results / "manifest-00000-of-00001.json").read_text())
    assert not manifest["complete"]
    assert manifest["attempts"][-1]["outcome"] == "stopped"
    data = (results / "part-00000-of-00001.jsonl").read_bytes()
    assert data.endswith(b"\n")
    assert manifest["files"][0]["rows"] == len(data.splitlines()) < len(ROWS)
    rows_seen = [json.loads(line).get("rows") for line in process.output.splitlines() if '"progress"' in line]
    assert rows_seen
