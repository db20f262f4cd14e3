"""Objects with a field missing: the rules judge what is left, and never fail."""

import copy

import pytest

from specbatch.cluster.client.kinds import CLUSTER_QUEUES, LOCAL_QUEUES, WORKLOADS
from specbatch.cluster.client.kueue import KueueKinds
from specbatch.cluster.diagnose.text import render_verdict, verdict_json
from tests.cluster.diagnose.objects import (
    CLOCK,
    claim,
    condition,
    event,
    failed,
    holder,
    job,
    node,
    pod,
    pod_spec,
    running,
    storage_class,
    termination_message,
    unschedulable,
    verdict_on,
    waiting,
)

FULL = "0/2 nodes are available: 2 Insufficient nvidia.com/gpu. preemption: 0/2 nodes are available: 2 No preemption victims found for incoming pod."
# What the API server gives every object.
_ALWAYS = {
    "metadata",
    "name",
    "namespace",
    "spec",
    "template",
    "involvedObject",
    "type",
    "operator",
    "key",
    "kind",
    "claimName",
}


def scene(name):
    """Job, pods, events, nodes and the rest, each of which loses a field."""
    asks = unschedulable(FULL, spec=pod_spec(gpus=4, nodeSelector={"pool": "a"}))
    creating = waiting("ContainerCreating")
    pulling = waiting("ImagePullBackOff", "Back-off pulling image")
    scenes = {
        "unschedulable": {"pods": [asks], "nodes": [node("a", gpus=8, labels={"pool": "a"})], "others": [holder("x", "a", 8)], "events": [event(asks, "NotTriggerScaleUp", "no")]},
        "tainted": {"pods": [asks], "nodes": [node("a", gpus=8, labels={"pool": "a"}, taints=[{"key": "k", "value": "v", "effect": "NoSchedule"}])]},
        "claim": {"pods": [unschedulable("pod has unbound immediate PersistentVolumeClaims")], "claims": [claim(phase="Pending")], "classes": [storage_class("a", default=True)], "events": [event(claim(), "FailedBinding", "no")]},
        "mount": {"pods": [creating], "events": [event(creating, "FailedMount", 'MountVolume.SetUp failed for volume "x" : secret "y" not found')]},
        "image": {"pods": [pulling], "events": [event(pulling, "Failed", "Failed to pull image: not found"), event(pulling, "FailedToRetrieveImagePullSecret", "no")]},
        "failed": {"pods": [failed(66, termination_message(66, "gated")), failed(137, reason="OOMKilled", index=1), pod(2, phase="Failed", reason="Evicted", conditions=[condition("DisruptionTarget", "TerminationByKubelet", "low on resource: memory")])], "job": job(completions=3, conditions=[condition("Failed", "FailedIndexes", "x")], status={"failedIndexes": "0-2"})},
        "running": {"pods": [running(conditions=[condition("Ready", "x")])]},
        "queue": {
            "pods": [],
            "job": job(suspend=True, labels={"kueue.x-k8s.io/queue-name": "q"}),
            "queue": {"local": {"metadata": {"name": "q"}, "spec": {"clusterQueue": "c"}, "status": {"conditions": [condition("Active", "x")]}}, "workload": {"metadata": {"name": "w"}, "spec": {"priority": 1, "queueName": "q"}, "status": {"conditions": [condition("Evicted", "Preempted", "x"), condition("QuotaReserved", "Pending", "ClusterQueue c is inactive", status="False")], "admissionChecks": [{"name": "x", "state": "Pending"}]}}},
        },
        "refused": {"pods": [], "events": [event(job(), "FailedCreate", "exceeded quota: q, requested: cpu=2, used: cpu=0, limited: cpu=1")]},
    }  # fmt: skip
    return {"job": job(completions=3), **scenes[name]}


def judged(objects):
    queue = objects.get("queue", {})
    return verdict_on(
        *objects["pods"],
        the_job=objects["job"],
        nodes=objects.get("nodes"),
        others=objects.get("others", ()),
        events=objects.get("events", ()),
        claims={one["metadata"]["name"]: one for one in objects.get("claims", [claim()])},
        classes=objects.get("classes"),
        objects={
            "localqueues": [queue["local"]] if "local" in queue else [],
            "workloads": [queue["workload"]] if "workload" in queue else [],
        },
        kueue=KueueKinds(LOCAL_QUEUES, CLUSTER_QUEUES, WORKLOADS),
        spec={"job": {}},
    )


def paths(value, path=()):
    """Every place of a mapping's key, however deep."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in items:
        if isinstance(value, dict) and path and key not in _ALWAYS:
            yield (*path, key)
        yield from paths(part, (*path, key))


def without(objects, path):
    changed = copy.deepcopy(objects)
    place = changed
    for key in path[:-1]:
        place = place[key]
    del place[path[-1]]
    return changed


@pytest.mark.parametrize(
    "name", ["unschedulable", "tainted", "claim", "mount", "image", "failed", "running", "queue", "refused"]
)
def test_no_missing_field_makes_a_rule_fail(name):
    objects = scene(name)
    before = judged(objects).finding.cause
    assert before not in {"unknown", "unschedulable"}
    tried = 0
    for path in paths(objects):
        verdict = judged(without(objects, path))
        assert render_verdict(verdict, CLOCK)
        assert verdict_json(verdict)["cause"]
        tried += 1
    assert tried > 20
