"""Datasets that go out of reach, and strangers in the results' folder, while a run goes on."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from specbatch.errors import ResultsError
from specbatch.results.status.status import read_status
from specbatch.results.storage.folder import Folder
from specbatch.runner.dataset import dataset, remote
from tests import web
from tests.faults.cases import bulky_rows
from tests.faults.proof import check_whole
from tests.s3 import free_port

# A few for every day, all of them in `make faults`.

SPECBATCH = str(Path(sys.executable).with_name("specbatch"))
PATH = "/rows.jsonl"
SETTINGS = {"results__fsyncRows": 3, "batching__maxSequences": 4}
PART = "part-00000-of-00001.jsonl"


@pytest.fixture
def case(make_case):
    """Its rows fill several of the blocks in which a dataset is read."""
    rows = [{**row, "answer": "", "note": "x" * 150_000} if isinstance(row, dict) else row for row in bulky_rows(60)]
    return make_case(rows, **SETTINGS)


@pytest.fixture
def server(case, reference_of):
    reference_of(case)  # read from the file
    with web.serving(files={PATH: case.dataset.read_bytes()}, headers={"ETag": '"one"'}) as serving:
        case.dataset = f"{serving.url}{PATH}"
        yield serving


def after_the_first_block(server, trouble):
    """What the run reads first is there; every request for more meets the trouble."""
    server.always, server.troubles_from = trouble, 4 << 20


def wait_for(condition, seconds=40):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def sentence(case):
    """What `specbatch status` says of the shard."""
    try:
        return read_status(Folder(case.run_dir), time.time()).shards[0].sentence
    except (ResultsError, IndexError):
        return ""


def rows_written(case):
    return case.run_dir.exists() and sum(path.read_bytes().count(b"\n") for path in case.run_dir.glob("part-*"))


@pytest.mark.faults
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no ranges"])
def test_a_server_that_fails_again_and_again_costs_no_row(case, server, reference_of, seed, ranges):
    chosen = random.Random(seed)
    kinds = ["reset", 500, 503, 429, ("cut", 10), ("cut", 1_000_000), None, None]
    server.ranges = ranges
    server.troubles = [None, None, *(chosen.choice(kinds) for _ in range(12))]
    attempt = case.start()
    assert attempt.wait(120) == 0, attempt.output
    check_whole(case.run_dir, reference_of(case))


@pytest.mark.slow
@pytest.mark.parametrize("trouble", ["reset", 503, 403], ids=["reset", "503", "permission that expired"])
def test_a_dataset_that_stays_away_ends_the_run_with_68_and_the_next_start_goes_on(case, server, reference_of, trouble):
    after_the_first_block(server, trouble)
    attempt = case.start(dataset__retrySeconds=1)
    assert attempt.wait() == 68, attempt.output
    assert "is out of reach, and tried again" in attempt.output
    assert "start the same command again" in attempt.output
    assert "Traceback" not in attempt.output
    kept = rows_written(case)
    assert kept
    assert not (case.run_dir / "_SUCCESS").exists()
    server.always = None
    again = case.start()
    assert again.wait() == 0, again.output
    assert f'"skipped": {kept}' in again.output
    check_whole(case.run_dir, reference_of(case))


@pytest.mark.slow
def test_a_dataset_that_never_answers_is_one_sentence_within_30_seconds(case, server):
    assert remote._CALL_SECONDS + dataset.START_SECONDS < 30
    server.always = "hang"
    attempt = case.start({"dataset_seconds": [0.5, 1.0]})
    assert attempt.wait(30) == 68, attempt.output
    assert not case.run_dir.exists()


@pytest.mark.faults
def test_status_says_that_the_run_waits_and_a_signal_ends_the_waiting(case, server, reference_of):
    after_the_first_block(server, 503)
    attempt = case.start(dataset__retrySeconds=600)
    wait_for(lambda: "waits for the dataset" in sentence(case))
    attempt.signal(15)
    assert attempt.wait(30) == 75, attempt.output
    server.always = None
    again = case.start()
    assert again.wait() == 0, again.output
    check_whole(case.run_dir, reference_of(case))


def appended(path):
    with path.open("ab") as file:
        file.write(b"a stranger's line\n")


def replaced(path):
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data)


@pytest.mark.faults
@pytest.mark.parametrize(
    "deed",
    [appended, replaced, lambda path: os.truncate(path, path.stat().st_size - 20), lambda path: path.unlink()],
    ids=["appended", "replaced", "truncated", "removed"],
)
def test_a_stranger_in_a_file_of_rows_is_found_before_success_and_with_the_file_gone_the_run_ends(
    case, server, reference_of, deed
):
    after_the_first_block(server, 503)
    attempt = case.start(dataset__retrySeconds=600)
    wait_for(lambda: (rows_written(case) or 0) >= 6)
    deed(case.run_dir / PART)
    server.always = None
    assert attempt.wait() == 74, attempt.output
    assert PART in attempt.output
    assert "Traceback" not in attempt.output
    assert not (case.run_dir / "_SUCCESS").exists()
    again = case.start()
    if again.wait() != 0:
        assert again.wait() == 74, again.output
        assert PART in again.output
        (case.run_dir / PART).unlink()
        again = case.start()
        assert again.wait() == 0, again.output
    check_whole(case.run_dir, reference_of(case))


@pytest.mark.faults
def test_a_hub_that_refuses_connections_ends_the_command_with_68_and_one_sentence(case, tmp_path):
    env = {**os.environ, "HF_ENDPOINT": f"http://127.0.0.1:{free_port()}", "HF_HUB_CACHE": str(tmp_path / "hub")}
    env.pop("HF_HUB_OFFLINE", None)
    command = [SPECBATCH, "run", str(case.spec()), "--set", "target.model=org/name", "--log-format=json"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 68, done.stderr
    assert "spec.target.model org/name" in done.stderr
    assert "Traceback" not in done.stderr
    assert "is out of reach, and tried again" in done.stdout
