"""A submit or a retry that dies after any of its requests, and is repeated: one Job, nothing orphaned."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from specbatch.cluster.client.kinds import CONFIG_MAPS, JOBS, LOCAL_QUEUES
from specbatch.cluster.jobs.lookup import find_job
from specbatch.cluster.jobs.retry import retry
from specbatch.cluster.manifests.names import SHARDS, SUBMITTED
from specbatch.cluster.preflight.permissions import Uses
from specbatch.cluster.submit.checks import SubmitChecks
from specbatch.cluster.submit.submit import submit
from tests.cluster.submitting import (
    FILES,
    SPEC,
    KilledError,
    MortalCluster,
    assert_started_once,
    end,
    parsed,
    put_claim,
    rendered,
    submitted,
)
from tests.documents import ROOT


def whole_submit(cluster, *overrides, force=False):
    """With everything that the command does."""
    checks = SubmitChecks(cluster, parsed(*overrides), rendered(*overrides), Uses(force=force))
    return submit(cluster, checks.manifests, checks.look(), force=force, check=checks.run)


def lives(action, most=80):
    """Calls `action` with a cluster of one call, of two, and so on, until it survives; counts them."""
    for calls in range(most):
        try:
            action(calls)
        except KilledError:
            continue
        return calls
    raise AssertionError("it never ends")


@pytest.mark.slow
@pytest.mark.parametrize("overrides", [(), ("job.queueName=team-a",)])
def test_a_submit_killed_after_any_request_and_repeated_starts_one_job(api, overrides):
    put_claim(api)
    if overrides:
        put_queue(api)

    def one(calls):
        clean(api)
        try:
            whole_submit(MortalCluster(api.cluster(), calls), *overrides)
        finally:
            whole_submit(api.cluster(), *overrides)
            assert_started_once(api)

    assert lives(one) > 15


@pytest.mark.slow
def test_a_submit_killed_again_and_again_gets_there_in_the_end(api):
    put_claim(api)
    for calls in range(60):
        try:
            whole_submit(MortalCluster(api.cluster(), calls))
        except KilledError:
            continue
        break
    assert_started_once(api)


@pytest.mark.slow
def test_a_replacement_killed_after_any_request_and_repeated_leaves_the_new_job_alone(api):
    put_claim(api)

    def one(calls):
        clean(api)
        submitted(api)
        try:
            whole_submit(MortalCluster(api.cluster(), calls), "job.completions=6", force=True)
        finally:
            whole_submit(api.cluster(), "job.completions=6", force=True)
            assert assert_started_once(api)["spec"]["completions"] == 6

    assert lives(one) > 20


@pytest.mark.slow
def test_a_retry_killed_after_any_request_and_repeated_starts_one_job(api):
    def one(calls):
        clean(api)
        first = submitted(api).job
        end(api, first["metadata"]["name"], "Failed", completed="0,2", failed="1")
        try:
            mortal = MortalCluster(api.cluster(), calls)
            retry(mortal, find_job(mortal, "nightly"))
        finally:
            cluster = api.cluster()
            newest = find_job(cluster, "nightly")
            if SUBMITTED not in newest["metadata"]["annotations"] or SHARDS not in newest["metadata"]["annotations"]:
                retry(cluster, newest)
            made = assert_retried_once(api)
            assert made["metadata"]["annotations"]["specbatch.dev/shards"] == "1"

    assert lives(one) >= 7


@pytest.mark.slow
def test_a_submit_completes_a_retry_that_was_left_half_way(api):
    first = submitted(api).job
    end(api, first["metadata"]["name"], "Failed", completed="0,2", failed="1")
    mortal = MortalCluster(api.cluster(), 4)
    with pytest.raises(KilledError):
        retry(mortal, find_job(mortal, "nightly"))
    assert len(api.objects(JOBS)) == 2
    assert submitted(api).action == "completed"
    assert_retried_once(api)


@pytest.mark.slow
def test_processes_killed_at_random_moments_leave_one_job(api, tmp_path):
    put_claim(api)
    (tmp_path / "nightly.yaml").write_text(SPEC)
    (tmp_path / "prompts.jsonl").write_bytes(FILES["prompts.jsonl"])
    command = [sys.executable, "-m", "specbatch", "submit", "nightly.yaml", "--kubeconfig", api.kubeconfig]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for _ in range(4):
        process = subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        before = len(api.requests)
        while len(api.requests) == before and process.poll() is None:
            time.sleep(0.005)
        time.sleep(random.uniform(0.0, 0.25))
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert_started_once(api)


def put_queue(api):
    api.put(LOCAL_QUEUES, {"metadata": {"name": "team-a"}, "spec": {"clusterQueue": "all"}})


def assert_retried_once(api):
    """The failed Job and one that retries it, each with its ConfigMap."""
    old, new = sorted(api.objects(JOBS), key=lambda job: job["metadata"]["name"])
    assert new["metadata"]["name"] == f"{old['metadata']['name']}-r2"
    assert new["spec"]["suspend"] is False
    assert new["metadata"]["annotations"]["specbatch.dev/submitted"] == "true"
    owners = {one["metadata"]["name"]: one["metadata"]["ownerReferences"][0]["uid"] for one in api.objects(CONFIG_MAPS)}
    assert owners == {job["metadata"]["name"]: job["metadata"]["uid"] for job in (old, new)}
    return new


def clean(api):
    for kind in (JOBS, CONFIG_MAPS):
        for one in api.objects(kind):
            if one in api.objects(kind):
                api.remove(kind, one["metadata"]["name"])


@pytest.mark.slow
@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE"])
@pytest.mark.parametrize("drop", ["before", "after"])
def test_answers_that_are_lost_change_nothing(api, method, drop):
    put_claim(api)
    submitted(api)
    api.fail(method, r"/(jobs|configmaps)(?!.*dryRun)", drop=drop)
    api.fail(method, r"/configmaps\?(?!.*dryRun)", drop=drop)
    whole_submit(api.cluster(), "job.completions=6", force=True)
    assert api.faults[0].times == 0
    assert assert_started_once(api)["spec"]["completions"] == 6
