"""Jobs that Kueue holds back, in the words of its conditions (0.12 to 0.19)."""

import pytest

from specbatch.cluster.client.kinds import CLUSTER_QUEUES, LOCAL_QUEUES, WORKLOADS
from specbatch.cluster.client.kueue import KueueKinds
from tests.cluster.diagnose.objects import at, cause_of, condition, job, running, verdict_on

QUEUED = job(suspend=True, labels={"kueue.x-k8s.io/queue-name": "team-a"})
LOCAL = {
    "metadata": {"name": "team-a"},
    "spec": {"clusterQueue": "gpus"},
    "status": {"conditions": [condition("Active", "Ready")]},
}
CLUSTER = {
    "metadata": {"name": "gpus"},
    "spec": {},
    "status": {"conditions": [condition("Active", "Ready")], "pendingWorkloads": 5},
}
WAITING = "couldn't assign flavors to pod set main: insufficient unused quota for nvidia.com/gpu in flavor h100, 8 more needed"


def workload(name="job-nightly", *conditions, priority=0, made=100, uid="job-uid", **more):
    return {
        "metadata": {"name": name, "creationTimestamp": at(made), "labels": {"kueue.x-k8s.io/job-uid": uid}},
        "spec": {"queueName": "team-a", "priority": priority, **more.pop("spec", {})},
        "status": {"conditions": list(conditions), **more},
    }


def reserved(message, reason="Pending"):
    return condition("QuotaReserved", reason, message, status="False")


def verdict_of(*workloads, local=LOCAL, cluster=CLUSTER, **more):
    """On the queued Job; Kueue's kinds are only looked at, not asked."""
    kueue = more.pop("kueue", KueueKinds(LOCAL_QUEUES, CLUSTER_QUEUES, WORKLOADS))
    queues = {
        "localqueues": [local] if local else [],
        "clusterqueues": [cluster] if cluster else [],
        "workloads": workloads,
    }
    return verdict_on(the_job=QUEUED, objects=queues, spec={"job": {}}, kueue=kueue, **more).finding


def held(message="", reason="Pending", **more):
    return verdict_of(workload("job-nightly", *([reserved(message, reason)] if message else [])), **more)


@pytest.mark.parametrize(
    ("message", "reason", "cause"),
    [
        ("LocalQueue team-a doesn't exist", "Inadmissible", "queue-missing"),
        ("LocalQueue team-a is terminating or missing", "Inadmissible", "queue-missing"),
        ("ClusterQueue gpus doesn't exist", "Inadmissible", "cluster-queue-missing"),
        ("ClusterQueue gpus is terminating or missing", "Inadmissible", "cluster-queue-missing"),
        ("ClusterQueue gpus is inactive", "Inadmissible", "queue-inactive"),
        ("LocalQueue team-a is stopped", "Inadmissible", "queue-stopped"),
        ("ClusterQueue gpus is stopped", "Inadmissible", "queue-stopped"),
        ("Workload namespace doesn't match ClusterQueue selector", "Inadmissible", "queue-unsuitable"),
        (
            ("couldn't assign flavors to pod set main: insufficient quota for nvidia.com/gpu in flavor h100, previously considered podsets "
            "requests (0) + current podset request (16) > maximum capacity (8)"),
            "Pending",
            "queue-too-small",
        ),
        ("couldn't assign flavors to pod set main: resource nvidia.com/gpu unavailable in ClusterQueue", "NoMatchingFlavor", "queue-unsuitable"),
        ("couldn't assign flavors to pod set main: untolerated taint {gpu true NoSchedule <nil>} in flavor h100", "NoMatchingFlavor", "queue-unsuitable"),
        ("couldn't assign flavors to pod set main: flavor h100 doesn't match node affinity", "Pending", "queue-unsuitable"),
        (WAITING, "Pending", "queue-waiting"),
        (
            ("couldn't assign flavors to pod set main: insufficient quota for nvidia.com/gpu in flavor spot, previously considered podsets requests "
            "(0) + current podset request (16) > maximum capacity (8), insufficient unused quota for nvidia.com/gpu in flavor h100, 4 more needed"),
            "WaitingForQuota",
            "queue-waiting",
        ),
    ],
)  # fmt: skip
def test_what_kueue_says_of_a_workload_is_told_apart(message, reason, cause):
    finding = held(message, reason)
    assert finding.cause == cause
    assert any(message in line for line in finding.evidence)


def test_a_queue_that_is_too_small_says_how_much_is_asked_and_there():
    said = held(
        "couldn't assign flavors to pod set main: insufficient quota for nvidia.com/gpu in flavor h100, previously considered podsets "
        "requests (0) + current podset request (16) > maximum capacity (8)"
    ).sentence
    assert "asks for 16 nvidia.com/gpu at once, and its queue has 8 in all" in said


def test_a_job_that_waits_is_told_what_is_missing_and_how_many_wait():
    finding = held(WAITING)
    assert (finding.cause, finding.severity) == ("queue-waiting", "warning")
    assert "queue team-a (5 wait in its ClusterQueue); missing now: 8 nvidia.com/gpu" in finding.sentence


def test_a_queue_is_judged_by_its_own_object_too():
    assert held(local=None).cause == "queue-missing"
    assert held(local=None, kueue=None, not_permitted=["localqueues"]).cause == "queue-waiting"
    assert held(local={**LOCAL, "spec": {"clusterQueue": "gpus", "stopPolicy": "Hold"}}).cause == "queue-stopped"
    inactive = condition(
        "Active",
        "FlavorNotFound",
        "Can't admit new workloads: references missing ResourceFlavor(s): h100.",
        status="False",
    )
    finding = held(cluster={**CLUSTER, "status": {"conditions": [inactive]}})
    assert finding.cause == "queue-inactive"
    assert any("references missing ResourceFlavor" in line for line in finding.evidence)
    gone = condition("Active", "ClusterQueueDoesNotExist", "Can't submit new workloads to clusterQueue", status="False")
    assert held(local={**LOCAL, "status": {"conditions": [gone]}}, cluster=None).cause == "cluster-queue-missing"


def test_preempted_evicted_and_deactivated():
    by = condition(
        "Preempted",
        "InClusterQueue",
        "Preempted to accommodate a workload (UID: x) due to prioritization in the ClusterQueue",
    )
    finding = verdict_of(workload("w", condition("Evicted", "Preempted", "Preempted"), by, reserved(WAITING)))
    assert finding.cause == "queue-preempted"
    assert any("Preempted to accommodate" in line for line in finding.evidence)
    late = condition("Evicted", "PodsReadyTimeout", "Exceeded the PodsReady timeout ml/nightly")
    assert verdict_of(workload("w", late)).cause == "queue-evicted"
    off = workload("w", condition("Evicted", "Deactivated", "The workload is deactivated"), spec={"active": False})
    assert "spec.active: true" in verdict_of(off).remedy


def test_an_admission_check_that_is_open():
    check = {"name": "dws", "state": "Pending", "message": "Waiting for resources", "lastTransitionTime": at(20)}
    finding = verdict_of(workload("w", condition("QuotaReserved", "QuotaReserved"), admissionChecks=[check]))
    assert finding.cause == "queue-waiting"
    assert "dws: Pending: Waiting for resources" in finding.evidence


def test_a_cluster_without_kueue_never_starts_a_queued_job():
    assert cause_of(the_job=QUEUED, spec={"job": {}}, kueue=None) == "kueue-missing"


def test_a_job_that_kueue_has_not_seen_yet_and_one_that_it_started():
    assert verdict_of().cause == "queue-silent"
    started = job(labels={"kueue.x-k8s.io/queue-name": "team-a"})
    assert cause_of(running(), the_job=started) == "running"
