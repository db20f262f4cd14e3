"""Retry: the shards that no Job of the run has completed, and nothing else."""

import json

import pytest

from specbatch.cluster.client.kinds import CONFIG_MAPS, JOBS
from specbatch.cluster.jobs.lookup import find_job
from specbatch.cluster.jobs.retry import retry
from specbatch.cluster.jobs.run import group_into_runs
from specbatch.cluster.manifests.names import RETRY_OF, SHARDS
from specbatch.errors import ClusterError
from tests.cluster.submitting import end, only_job, rendered, submitted


def again(api, name="nightly"):
    cluster = api.cluster()
    return retry(cluster, find_job(cluster, name))


def failed(api, *overrides, **status):
    job = submitted(api, *overrides).job
    end(api, job["metadata"]["name"], "Failed", **status)
    return job


def test_what_failed_or_was_not_finished_is_run_by_a_new_job(api):
    old = failed(api, "job.completions=6", completed="0,2-3", failed="1")
    retried = again(api)
    job = retried.job
    assert retried.shards == [1, 4, 5]
    assert job["metadata"]["name"] == f"{old['metadata']['name']}-r2"
    assert (job["spec"]["completions"], job["spec"]["suspend"]) == (3, False)
    assert job["metadata"]["annotations"][SHARDS] == "1,4,5"
    assert job["metadata"]["annotations"][RETRY_OF] == old["metadata"]["name"]
    env = {one["name"]: one.get("value") for one in job["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert env["SPECBATCH_SHARDS"] == "1,4,5"
    assert "shards 1,4-5 of 6" in retried.done


def test_the_spec_and_its_files_come_from_the_config_map(api):
    old = failed(api, completed="0")
    again(api)
    first, second = api.objects(CONFIG_MAPS)
    assert second["metadata"]["name"] == f"{old['metadata']['name']}-r2"
    assert second["data"] == first["data"] == rendered().config_map["data"]
    assert json.loads(second["data"]["spec.json"])["spec"]["job"]["completions"] == 3


def test_a_retry_that_fails_is_retried_for_what_is_left(api):
    failed(api, "job.completions=6", completed="0,2-3", failed="1")
    second = again(api).job["metadata"]["name"]
    end(api, second, "Failed", completed="0,2", failed="1")  # its indexes: shards 1, 4, 5
    third = again(api)
    assert third.shards == [4]
    assert third.job["metadata"]["name"].endswith("-r3")
    end(api, third.job["metadata"]["name"], "Complete", completed="0")
    assert again(api).done.startswith("nothing to retry")
    [run] = group_into_runs(api.objects(JOBS))
    assert (run.state, len(run.done), run.total) == ("complete", 6, 6)


def test_of_a_run_whose_first_job_is_gone_the_known_shards_are_retried(api):
    first = failed(api, "job.completions=6", completed="0,2-3", failed="1")["metadata"]["name"]
    second = again(api).job["metadata"]["name"]
    end(api, second, "Failed", completed="0", failed="1")
    api.remove(JOBS, first)
    assert again(api).shards == [4, 5]


@pytest.mark.parametrize("condition", [None, "FailureTarget"])
def test_a_job_that_has_not_ended_is_not_retried(api, condition):
    job = submitted(api).job
    if condition:
        end(api, job["metadata"]["name"], condition)
    with pytest.raises(ClusterError, match="has not ended"):
        again(api)
    assert only_job(api)["metadata"]["name"] == job["metadata"]["name"]


def test_a_complete_job_has_nothing_to_retry(api):
    end(api, submitted(api).job["metadata"]["name"], "Complete", completed="0-2")
    retried = again(api)
    assert (retried.shards, retried.done.split(":")[0]) == ((), "nothing to retry")
    assert len(api.objects(JOBS)) == 1


@pytest.mark.parametrize(
    ("code", "warned"), [(64, "bad spec"), (65, "bad dataset"), (66, "model missing"), (70, "out of memory"), (69, "")]
)
def test_what_no_other_attempt_mends_is_tried_with_a_warning(api, code, warned):
    message = f"Container runner for pod default/x failed with exit code {code} matching FailJob rule at index 2"
    failed(api, reason="PodFailurePolicy", message=message)
    retried = again(api)
    assert retried.job["spec"]["suspend"] is False
    assert (warned in retried.warning) if warned else not retried.warning


def test_without_its_config_map_the_file_is_needed(api):
    job = failed(api)
    api.remove(CONFIG_MAPS, job["metadata"]["name"])
    with pytest.raises(ClusterError, match="is gone") as refused:
        again(api)
    assert "submit FILE --force" in refused.value.remedy
    assert len(api.objects(JOBS)) == 1


def test_a_submit_meets_the_retry_of_its_spec(api):
    failed(api, completed="0")
    made = again(api).job
    assert submitted(api).job["metadata"]["uid"] == made["metadata"]["uid"]


def test_two_retries_at_once_meet_in_one_job(api):
    failed(api, completed="0")
    cluster = api.cluster()
    newest = find_job(cluster, "nightly")
    stale = [api.cluster().get(JOBS, newest["metadata"]["name"])]

    class Earlier:
        """Sees the Jobs as they were before the other retry."""

        def __getattr__(self, name):
            return getattr(cluster, name)

        def list(self, kind, **chosen):
            return stale if kind is JOBS else cluster.list(kind, **chosen)

    first, second = retry(cluster, newest), retry(Earlier(), newest)
    assert first.job["metadata"]["uid"] == second.job["metadata"]["uid"]
    assert len(api.objects(JOBS)) == 2
