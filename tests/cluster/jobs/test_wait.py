"""Waiting for a Job's end: whichever comes first."""

import threading
import time

import pytest

from specbatch.cluster.client.kinds import JOBS
from specbatch.cluster.jobs.suspend import cancel
from specbatch.cluster.jobs.wait import wait_for_end
from specbatch.errors import ClusterError
from tests.cluster.submitting import end, submitted


def soon(action):
    """Does something while the wait goes on."""
    timer = threading.Timer(0.15, action)
    timer.start()
    return timer


def patient(api, job, **options):
    return wait_for_end(api.cluster(real_time=True), job, **{"seconds": 20, **options})


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "expected"), [("Complete", "complete"), ("Failed", "failed")])
def test_it_ends_with_complete_and_with_failed(api, kind, expected):
    job = submitted(api).job
    soon(lambda: end(api, job["metadata"]["name"], kind, completed="0", reason="Because", message="of this"))
    ending = patient(api, job)
    assert ending.end == expected
    assert ending.reason == ("Because: of this" if expected == "failed" else "")


@pytest.mark.parametrize(("kind", "expected"), [("Complete", "complete"), ("Failed", "failed")])
def test_a_job_that_has_ended_is_not_waited_for(api, kind, expected):
    job = submitted(api).job
    end(api, job["metadata"]["name"], kind)
    assert patient(api, job).end == expected


@pytest.mark.slow
def test_a_job_that_is_deleted_meanwhile_ends_the_wait(api):
    job = submitted(api).job
    soon(lambda: api.remove(JOBS, job["metadata"]["name"]))
    assert patient(api, job).end == "deleted"


def test_a_job_that_was_deleted_before_ends_the_wait(api):
    job = submitted(api).job
    api.remove(JOBS, job["metadata"]["name"])
    assert patient(api, job).end == "deleted"


def test_another_job_of_the_name_is_not_the_one_that_is_waited_for(api):
    job = submitted(api).job
    api.remove(JOBS, job["metadata"]["name"])
    end(api, submitted(api).job["metadata"]["name"], "Complete")
    assert patient(api, job).end == "deleted"


@pytest.mark.slow
def test_a_cancelled_job_ends_the_wait(api):
    job = submitted(api).job
    soon(lambda: cancel(api.cluster(), job))
    assert patient(api, job).end == "cancelled"


@pytest.mark.slow
def test_the_time_is_up(api):
    job = submitted(api).job
    began = time.monotonic()
    assert patient(api, job, seconds=0.2).end == "timeout"
    assert patient(api, job, seconds=0).end == "timeout"
    assert time.monotonic() - began < 10


@pytest.mark.slow
def test_a_job_that_is_sure_to_fail_is_waited_for_until_its_pods_have_ended(api):
    job = submitted(api).job
    end(api, job["metadata"]["name"], "FailureTarget", reason="PodFailurePolicy")
    soon(lambda: end(api, job["metadata"]["name"], "Failed", reason="PodFailurePolicy"))
    states = []
    ending = patient(api, job, changed=lambda view: states.append(view.outcome))
    assert (ending.end, ending.reason) == ("failed", "PodFailurePolicy")
    assert states[0] is None


@pytest.mark.slow
def test_but_not_for_ever(api, monkeypatch):
    monkeypatch.setattr("specbatch.cluster.jobs.wait._FAILING_SECONDS", 0.1)
    monkeypatch.setattr("specbatch.cluster.jobs.wait._POLL_SECONDS", 0.05)
    job = submitted(api).job
    end(api, job["metadata"]["name"], "FailureTarget")
    assert patient(api, job).end == "failed"


@pytest.mark.slow
def test_every_change_is_told(api):
    job = submitted(api).job
    name = job["metadata"]["name"]
    seen = []

    def go_on():
        api.put(JOBS, {**api.cluster().get(JOBS, name), "status": {"active": 2, "ready": 2, "completedIndexes": "0"}})
        end(api, name, "Complete", completed="0-2")

    soon(go_on)
    patient(api, job, changed=lambda view: seen.append((len(view.completed), view.outcome)))
    assert seen[0] == (0, None)
    assert seen[-1] == (3, "complete")
    assert (1, None) in seen


@pytest.mark.slow
def test_a_watch_that_ends_is_taken_up_again(api, monkeypatch):
    monkeypatch.setattr("specbatch.cluster.jobs.wait._POLL_SECONDS", 0.05)
    job = submitted(api).job
    soon(lambda: soon(lambda: end(api, job["metadata"]["name"], "Complete")))
    assert patient(api, job).end == "complete"


def test_an_api_server_that_is_away_for_longer_than_a_request_is_tried_is_waited_for(api, monkeypatch):
    monkeypatch.setattr("specbatch.cluster.jobs.wait._RETRY_SECONDS", 0.0)
    job = submitted(api).job
    end(api, job["metadata"]["name"], "Complete")
    api.fail("GET", "/jobs/", status=503, times=60)
    assert wait_for_end(api.cluster(), job).end == "complete"
    assert sum("/jobs/" in path for _, path, _ in api.requests) > 60


def test_but_what_is_not_permitted_is_told_at_once(api):
    job = submitted(api).job
    api.deny("get", "jobs")
    with pytest.raises(ClusterError, match="not permitted to get jobs"):
        wait_for_end(api.cluster(), job)
