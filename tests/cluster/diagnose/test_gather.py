"""What is read of a cluster, and what is said where that is not permitted."""

import json

import pytest

from specbatch.cluster.client.kinds import (
    CLAIMS,
    CLUSTER_QUEUES,
    CONFIG_MAPS,
    EVENTS,
    JOBS,
    LOCAL_QUEUES,
    NODES,
    PODS,
    STORAGE_CLASSES,
    VOLUMES,
    WORKLOADS,
)
from specbatch.cluster.diagnose.gather import gather
from specbatch.cluster.diagnose.judge import judge
from specbatch.errors import ClusterError
from tests.cluster.diagnose.objects import (
    JOB,
    claim,
    event,
    job,
    node,
    pod,
    pod_spec,
    running,
    storage_class,
    unschedulable,
)

FULL = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."


def here(thing, **metadata):
    thing["metadata"] |= {"namespace": "default", **metadata}
    return thing


@pytest.fixture
def pending(api):
    """A Job with one pod that no node takes."""
    api.put(JOBS, here(job(gpus=16)))
    waits = api.put(PODS, here(unschedulable(FULL, spec=pod_spec(gpus=16))))
    api.put(CLAIMS, here(claim()))
    api.put(NODES, node("a", gpus=8))
    api.put(
        CONFIG_MAPS,
        {"metadata": {"name": JOB}, "data": {"spec.json": json.dumps({"spec": {"placement": {"gpus": 16}}})}},
    )
    api.put(EVENTS, {"metadata": {"name": "e1"}, **event(waits, "FailedScheduling", FULL)})
    return api


def evidence_of(api):
    cluster = api.cluster()
    return gather(cluster, cluster.get(JOBS, JOB))


def test_everything_is_read_once(pending):
    found = evidence_of(pending)
    assert (len(found.view.pods), len(found.events), list(found.claims)) == (1, 1, ["specbatch-results"])
    assert found.spec == {"placement": {"gpus": 16}}
    assert [one.name for one in found.nodes] == ["a"]
    assert found.not_looked_at == []
    asked = [path for _, path, _ in pending.requests]
    assert len(asked) == len(set(asked))
    assert judge(found).finding.cause == "not-enough-gpus"


def test_what_may_not_be_read_is_said_and_the_verdict_made_of_the_rest(pending):
    for plural in ("nodes", "events", "configmaps", "persistentvolumeclaims"):
        for verb in ("get", "list"):
            pending.deny(verb, plural)
    found = evidence_of(pending)
    assert found.not_looked_at == ["claims", "events", "the ConfigMap", "nodes"]
    assert judge(found).finding.cause == "gpus-taken"


def test_an_api_that_fails_is_an_error_and_no_verdict(pending):
    pending.fail("GET", "/events", status=500, times=50)
    with pytest.raises(ClusterError, match="failed to list events"):
        evidence_of(pending)


def test_nodes_and_logs_are_not_read_where_they_do_not_matter(api):
    api.put(JOBS, here(job()))
    api.put(PODS, here(running()))
    api.put(CLAIMS, here(claim()))
    api.logs[f"{JOB}-0-abcde"] = '{"event": "step", "message": "loading"}\n'
    found = evidence_of(api)
    assert found.nodes is None
    assert found.newest_lines[f"{JOB}-0-abcde"].line == '{"event": "step", "message": "loading"}'
    assert not [path for _, path, _ in api.requests if "nodes" in path]


def test_logs_of_a_few_pods_are_read_and_the_rest_is_told(api):
    api.put(JOBS, here(job(completions=10)))
    for index in range(10):
        api.put(PODS, here(running(index)))
        api.logs[f"{JOB}-{index}-abcde"] = "" if index == 0 else "a line\n"
    found = evidence_of(api)
    assert len(found.newest_lines) == 7
    assert found.silent_logs == {f"{JOB}-0-abcde"}
    assert found.not_looked_at == ["the logs of 2 more pods"]
    api.deny("get", "pods/log")
    found = evidence_of(api)
    assert (found.newest_lines, found.silent_logs) == ({}, frozenset())
    assert found.not_looked_at == ["logs", "the logs of 2 more pods"]


def test_a_missing_claim_is_none_and_an_unbound_one_brings_the_classes(api):
    api.put(JOBS, here(job()))
    api.put(PODS, here(pod()))
    assert evidence_of(api).claims == {"specbatch-results": None}
    api.put(CLAIMS, here(claim(phase="Pending")))
    api.put(STORAGE_CLASSES, storage_class("standard"))
    assert [one["metadata"]["name"] for one in evidence_of(api).classes] == ["standard"]


def test_the_volumes_of_bound_claims_tell_where_they_are(api):
    api.put(JOBS, here(job()))
    api.put(PODS, here(pod()))
    bound = here(claim())
    bound["spec"]["volumeName"] = "pv-1"
    api.put(CLAIMS, bound)
    api.put(VOLUMES, {"metadata": {"name": "pv-1"}, "spec": {}})
    assert list(evidence_of(api).volumes) == ["specbatch-results"]
    api.deny("get", "persistentvolumes")
    found = evidence_of(api)
    assert (found.volumes, found.not_looked_at) == ({}, ["volumes"])


@pytest.mark.parametrize("version", ["kueue.x-k8s.io/v1beta1", "kueue.x-k8s.io/v1beta2"])
def test_kueue_is_asked_in_the_version_that_the_cluster_serves(api, version):
    from dataclasses import replace

    local, cluster, workloads = (
        replace(kind, api_version=version) for kind in (LOCAL_QUEUES, CLUSTER_QUEUES, WORKLOADS)
    )
    made = api.put(JOBS, here(job(suspend=True, labels={"kueue.x-k8s.io/queue-name": "team-a"})))
    uid = made["metadata"]["uid"]
    api.put(local, {"metadata": {"name": "team-a"}, "spec": {"clusterQueue": "gpus"}})
    api.put(cluster, {"metadata": {"name": "gpus"}, "spec": {}})
    api.put(
        workloads,
        {
            "metadata": {"name": "mine", "labels": {"kueue.x-k8s.io/job-uid": uid}},
            "spec": {"queueName": "team-a"},
            "status": {},
        },
    )
    api.put(workloads, {"metadata": {"name": "elsewhere"}, "spec": {"queueName": "team-b"}, "status": {}})
    queue = evidence_of(api).queue
    assert queue.workload["metadata"]["name"] == "mine"
    assert [one["metadata"]["name"] for one in queue.pending] == ["mine"]
    assert queue.cluster_queue["metadata"]["name"] == "gpus"


def test_a_cluster_without_kueue_and_one_where_it_may_not_be_read(api):
    api.put(JOBS, here(job(suspend=True, labels={"kueue.x-k8s.io/queue-name": "team-a"})))
    assert evidence_of(api).queue.installed is False
    api.put(LOCAL_QUEUES, {"metadata": {"name": "team-a"}, "spec": {}})
    api.deny("list", "localqueues")
    found = evidence_of(api)
    assert (found.queue.installed, found.queue.readable, found.not_looked_at) == (True, False, ["Kueue's queues"])


def test_events_of_claims_workloads_and_pods_that_are_gone_are_kept_and_no_others(api):
    made = api.put(JOBS, here(job(suspend=True, labels={"kueue.x-k8s.io/queue-name": "team-a"})))
    uid = made["metadata"]["uid"]
    api.put(CLAIMS, here(claim()))
    api.put(LOCAL_QUEUES, {"metadata": {"name": "team-a"}, "spec": {}})
    api.put(
        WORKLOADS,
        {"metadata": {"name": "mine", "labels": {"kueue.x-k8s.io/job-uid": uid}}, "spec": {"queueName": "team-a"}},
    )
    told = [
        ("Job", JOB),
        ("Pod", f"{JOB}-0-gone1"),
        ("PersistentVolumeClaim", "specbatch-results"),
        ("Workload", "mine"),
    ]
    others = [
        ("Pod", "other-0"),
        ("Job", "other"),
        ("PersistentVolumeClaim", "other"),
        ("Workload", "other"),
        ("Node", "a"),
    ]
    for number, (kind, name) in enumerate([*told, *others]):
        api.put(
            EVENTS,
            {
                "metadata": {"name": f"e{number}"},
                "involvedObject": {"kind": kind, "name": name},
                "reason": "x",
                "message": "",
            },
        )
    found = {(one["involvedObject"]["kind"], one["involvedObject"]["name"]) for one in evidence_of(api).events}
    assert found == set(told)


def test_a_namespace_on_its_way_out_is_looked_at_only_with_its_job(api):
    going = here(job(), deletionTimestamp="2026-11-23T06:00:00Z")
    api.put(JOBS, going)
    assert evidence_of(api).namespace["metadata"]["name"] == "default"
    api.deny("get", "namespaces")
    found = evidence_of(api)
    assert (found.namespace, found.not_looked_at) == (None, [])


def test_a_spec_that_is_gone_or_no_json_is_empty(api):
    api.put(JOBS, here(job()))
    assert evidence_of(api).spec == {}
    api.put(CONFIG_MAPS, {"metadata": {"name": JOB}, "data": {"spec.json": "{"}})
    assert evidence_of(api).spec == {}
