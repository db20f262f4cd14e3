"""Suspend, resume, cancel: what they change, and that twice is once."""

import pytest

from specbatch.cluster.client.kinds import JOBS
from specbatch.cluster.jobs.run import group_into_runs
from specbatch.cluster.jobs.suspend import cancel, resume, suspend
from specbatch.cluster.manifests.names import CANCELLED, SUBMITTED
from specbatch.errors import ClusterError
from tests.cluster.submitting import end, only_job, rendered, submitted

QUEUE = "job.queueName=team-a"


def act(api, action):
    return action(api.cluster(), only_job(api))


def state(api):
    return group_into_runs(api.objects(JOBS))[0].state


def test_suspend_stops_and_resume_goes_on(api):
    submitted(api)
    assert act(api, suspend).startswith("suspended Job nightly-")
    assert (only_job(api)["spec"]["suspend"], state(api)) == (True, "suspended")
    assert act(api, resume).startswith("resumed Job nightly-")
    assert only_job(api)["spec"]["suspend"] is False


def test_twice_is_once(api):
    submitted(api)
    act(api, suspend)
    before = only_job(api)
    assert "is suspended already" in act(api, suspend)
    assert only_job(api) == before
    act(api, resume)
    assert "is not suspended" in act(api, resume)
    act(api, cancel)
    assert act(api, cancel).startswith("nothing to cancel")


def test_a_job_that_kubectl_applied_stays_suspended_when_it_is_submitted_again(api):
    api.cluster().create(JOBS, rendered().job)
    act(api, suspend)
    assert submitted(api).state == "suspended"
    assert only_job(api)["spec"]["suspend"] is True


@pytest.mark.parametrize("action", [suspend, resume, cancel])
def test_of_a_complete_job_nothing_is_done(api, action):
    end(api, submitted(api).job["metadata"]["name"], "Complete", completed="0-2")
    before = only_job(api)
    assert act(api, action).startswith("nothing to ")
    assert only_job(api) == before


def test_a_failed_job_is_not_resumed_but_retried(api):
    end(api, submitted(api).job["metadata"]["name"], "Failed")
    with pytest.raises(ClusterError, match="cannot be resumed") as refused:
        act(api, resume)
    assert "specbatch retry nightly" in refused.value.remedy
    assert act(api, suspend).endswith("is failed")


def test_a_job_whose_submit_died_is_not_resumed_without_its_config_map(api):
    body = rendered().job
    api.cluster().create(JOBS, {**body, "spec": {"suspend": True, **body["spec"]}})
    with pytest.raises(ClusterError, match="never completely submitted"):
        act(api, resume)
    assert only_job(api)["spec"]["suspend"] is True


def test_cancel_keeps_the_job_and_resume_undoes_it(api):
    submitted(api)
    assert act(api, cancel).startswith("cancelled Job")
    assert (state(api), only_job(api)["spec"]["suspend"]) == ("cancelled", True)
    act(api, resume)
    job = only_job(api)
    assert job["spec"]["suspend"] is False
    assert CANCELLED not in job["metadata"]["annotations"]
    assert job["metadata"]["annotations"][SUBMITTED] == "true"


@pytest.mark.parametrize(("action", "active"), [(suspend, "false"), (resume, "true")])
def test_a_job_of_kueues_is_kueues_to_suspend_and_resume(api, action, active):
    job = submitted(api, QUEUE).job
    api.put(JOBS, {**job, "spec": {**job["spec"], "suspend": action is resume}})
    before = only_job(api)
    with pytest.raises(ClusterError, match="Kueue alone may") as refused:
        act(api, action)
    assert f'"active": {active}' in refused.value.remedy
    assert f"kueue.x-k8s.io/job-uid={job['metadata']['uid']}" in refused.value.remedy
    assert only_job(api) == before


def test_a_job_of_kueues_is_cancelled_by_a_deadline(api):
    job = submitted(api, QUEUE).job
    assert "as soon as queue team-a admits it" in act(api, cancel)
    api.put(JOBS, {**only_job(api), "spec": {**only_job(api)["spec"], "suspend": False}})
    assert "specbatch retry nightly goes on" in act(api, cancel)
    assert only_job(api)["spec"]["activeDeadlineSeconds"] == 1
    end(api, job["metadata"]["name"], "Failed", reason="DeadlineExceeded")
    assert state(api) == "cancelled"
    assert act(api, cancel).startswith("nothing to cancel")


def test_an_action_never_hits_a_later_job_of_the_name(api):
    old = submitted(api).job
    api.remove(JOBS, old["metadata"]["name"])
    submitted(api)
    with pytest.raises(ClusterError):
        suspend(api.cluster(), old)
    assert only_job(api)["spec"]["suspend"] is False
