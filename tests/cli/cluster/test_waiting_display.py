"""What somebody sees who waits for a Job."""

import threading
import time

import pytest

from specbatch.cli.cluster import waiting_display
from specbatch.cli.cluster.waiting_display import outage_reporter, wait_for_job
from specbatch.cluster.client.kinds import JOBS
from tests.cluster.job_objects import submitted


def test_an_outage_is_told_once_after_ten_seconds_and_so_is_its_end():
    said = []
    tell = outage_reporter(said.append)
    for seconds in (None, 3.0, 9.9, 10.5, 20.0, None, None, 11.0):
        tell(seconds)
    assert said == [
        "the API server has not answered for 10 s: the Job is not affected, and is looked for until it answers",
        "the API server answers again",
        "the API server has not answered for 11 s: the Job is not affected, and is looked for until it answers",
    ]


@pytest.mark.slow
def test_a_wait_says_that_the_api_server_is_away(api, monkeypatch):
    monkeypatch.setattr(waiting_display, "_OUTAGE_SHOWN_SECONDS", 0.5)
    said, lines = [], []
    monkeypatch.setattr(waiting_display, "say", said.append)
    job = submitted(api, status={"ready": 1})
    cluster = api.cluster(real_time=True)
    waiting = threading.Thread(target=wait_for_job, args=(cluster, job), kwargs={"seconds": 4, "emit": lines.append})
    waiting.start()
    while not lines:
        time.sleep(0.05)
    api.stop()
    waiting.join(20)
    assert not waiting.is_alive()  # --timeout holds, whatever a call is retried for
    assert any("the API server has not answered for" in line for line in said)


def test_a_job_whose_last_pods_end_does_not_go_back_to_pending(api):
    lines = []
    job = submitted(api, completions=3, status={"ready": 1, "active": 1, "completedIndexes": "0-1"})
    states = iter(
        [
            {"active": 1, "completedIndexes": "0-1"},
            {"uncountedTerminatedPods": {"succeeded": ["uid"]}, "completedIndexes": "0-1"},
            {"completedIndexes": "0-2", "conditions": [{"type": "Complete", "status": "True"}]},
        ]
    )

    def emit(line):
        lines.append(line)
        status = next(states, None)
        while status is not None:
            api.put(JOBS, {**job, "status": status})
            status = next(states, None)

    wait_for_job(api.cluster(), job, seconds=10, emit=emit)
    assert [line.partition(":")[0] for line in lines[:2]] == ["running", "complete"]
