"""What is read of a cluster, and what is said where that is not permitted."""

import json
from dataclasses import replace

import pytest

from specbatch.cluster.client.kinds import (
    CLAIMS,
    CLUSTER_QUEUES,
    CONFIG_MAPS,
    EVENTS,
    JOBS,
    LOCAL_QUEUES,
    NAMESPACES,
    NODES,
    PODS,
    STORAGE_CLASSES,
    VOLUMES,
    WORKLOADS,
)
from specbatch.cluster.diagnose.evidence import Evidence
from specbatch.cluster.diagnose.why import verdict_of
from specbatch.cluster.jobs.lookup import job_with_pods
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
    return Evidence(cluster, job_with_pods(cluster, cluster.get(JOBS, JOB)))


def test_what_a_verdict_asks_for_is_read_once(pending):
    found = evidence_of(pending)
    assert verdict_of(found).finding.cause == "not-enough-gpus"
    assert found.spec == {"placement": {"gpus": 16}}
    assert [one.name for one in found.nodes] == ["a"]
    assert found.not_permitted == []
    asked = [path for _, path, _ in pending.requests]
    assert len(asked) == len(set(asked))


def test_what_may_not_be_read_is_said_and_the_verdict_made_of_the_rest(pending):
    for plural in ("nodes", "events", "persistentvolumeclaims"):
        for verb in ("get", "list"):
            pending.deny(verb, plural)
    found = evidence_of(pending)
    assert verdict_of(found).finding.cause == "gpus-taken"
    assert found.not_permitted == ["persistentvolumeclaims", "events", "nodes"]


def test_an_api_that_fails_is_an_error_and_no_verdict(pending):
    pending.fail("GET", "/events", status=500, times=50)
    with pytest.raises(ClusterError, match="failed to list events"):
        verdict_of(evidence_of(pending))


def test_nodes_are_not_read_where_every_pod_has_one(api):
    api.put(JOBS, here(job()))
    api.put(PODS, here(running()))
    api.logs[f"{JOB}-0-abcde"] = '{"event": "step", "message": "loading"}\n'
    assert verdict_of(evidence_of(api)).finding.evidence == (f"pod {JOB}-0-abcde: loading",)
    assert not [path for _, path, _ in api.requests if "nodes" in path]


def test_logs_of_a_few_pods_are_read_and_the_rest_is_told(api):
    api.put(JOBS, here(job(completions=10)))
    for index in range(10):
        api.put(PODS, here(running(index)))
        api.logs[f"{JOB}-{index}-abcde"] = "" if index == 0 else "a line\n"
    found = evidence_of(api)
    lines = [found.newest_line(one) for one in found.view.pods]
    assert [line and line.text for line in lines] == ["", *["a line"] * 7, None, None]
    assert found.not_permitted == ["pods/log of more than 8 pods"]
    api.deny("get", "pods/log")
    found = evidence_of(api)
    assert {found.newest_line(one) for one in found.view.pods} == {None}
    assert found.not_permitted == ["pods/log", "pods/log of more than 8 pods"]


def test_an_unbound_claim_brings_the_storage_classes(api):
    api.put(JOBS, here(job()))
    api.put(PODS, here(pod()))
    api.put(CLAIMS, here(claim(phase="Pending")))
    api.put(STORAGE_CLASSES, storage_class("fast"))
    finding = verdict_of(evidence_of(api)).finding
    assert finding.cause == "storage-class-missing"
    assert "a class that exists: fast" in finding.remedy


def test_a_volume_out_of_reach_tells_where_it_is(api):
    message = "0/1 nodes are available: 1 node(s) had volume node affinity conflict. preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."
    api.put(JOBS, here(job()))
    api.put(PODS, here(unschedulable(message)))
    bound = here(claim())
    bound["spec"]["volumeName"] = "pv-1"
    api.put(CLAIMS, bound)
    zone = {"key": "topology.kubernetes.io/zone", "operator": "In", "values": ["eu-west-1a"]}
    required = {"nodeSelectorTerms": [{"matchExpressions": [zone]}]}
    api.put(VOLUMES, {"metadata": {"name": "pv-1"}, "spec": {"nodeAffinity": {"required": required}}})
    verdict = verdict_of(evidence_of(api))
    assert (
        "the volume of claim specbatch-results is in topology.kubernetes.io/zone eu-west-1a" in verdict.finding.evidence
    )
    api.deny("get", "persistentvolumes")
    verdict = verdict_of(evidence_of(api))
    assert (verdict.finding.cause, verdict.not_looked_at) == ("volume-elsewhere", ["persistentvolumes"])


@pytest.mark.parametrize("version", ["kueue.x-k8s.io/v1beta1", "kueue.x-k8s.io/v1beta2"])
def test_kueue_is_asked_in_the_version_that_the_cluster_serves(api, version):
    local, cluster, workloads = (
        replace(kind, api_version=version) for kind in (LOCAL_QUEUES, CLUSTER_QUEUES, WORKLOADS)
    )
    uid = api.put(JOBS, here(job(suspend=True, labels={"kueue.x-k8s.io/queue-name": "team-a"})))["metadata"]["uid"]
    api.put(CONFIG_MAPS, {"metadata": {"name": JOB}, "data": {"spec.json": '{"spec": {"job": {}}}'}})
    api.put(local, {"metadata": {"name": "team-a"}, "spec": {"clusterQueue": "gpus"}})
    api.put(cluster, {"metadata": {"name": "gpus"}, "spec": {}, "status": {"pendingWorkloads": 7}})
    mine = {"name": "mine", "labels": {"kueue.x-k8s.io/job-uid": uid}}
    api.put(workloads, {"metadata": mine, "spec": {"queueName": "team-a"}, "status": {}})
    api.put(workloads, {"metadata": {"name": "elsewhere"}, "spec": {"queueName": "team-b"}, "status": {}})
    sentence = verdict_of(evidence_of(api)).finding.sentence
    assert sentence == "the Job waits in Kueue's queue team-a (7 wait in its ClusterQueue)"


def test_a_cluster_without_kueue_and_one_where_it_may_not_be_read(api):
    api.put(JOBS, here(job(suspend=True, labels={"kueue.x-k8s.io/queue-name": "team-a"})))
    found = evidence_of(api)
    assert (found.kueue, found.kueue_readable) == (None, True)
    api.put(LOCAL_QUEUES, {"metadata": {"name": "team-a"}, "spec": {}})
    api.deny("list", "localqueues")
    found = evidence_of(api)
    assert (found.kueue, found.kueue_readable, found.not_permitted) == (None, False, ["localqueues"])


def test_where_nothing_is_known_the_events_of_the_job_and_its_pods_are_shown_and_no_others(api):
    api.put(JOBS, here(job()))
    for number, name in enumerate((JOB, f"{JOB}-0-gone1", "other-0", "specbatch-results")):
        about = {"kind": "Job" if name == JOB else "Pod", "name": name}
        api.put(EVENTS, {"metadata": {"name": f"e{number}"}, "involvedObject": about, "reason": "x", "message": ""})
    shown = verdict_of(evidence_of(api)).finding.evidence
    assert {line.split()[1] for line in shown} == {f"{JOB}:", f"{JOB}-0-gone1:"}


def test_a_namespace_on_its_way_out_is_looked_at_only_with_its_job(api):
    api.put(JOBS, here(job(), deletionTimestamp="2026-11-23T06:00:00Z"))
    api.put(NAMESPACES, {"metadata": {"name": "default"}, "status": {"phase": "Terminating"}})
    assert verdict_of(evidence_of(api)).finding.cause == "namespace-deleting"
    api.deny("get", "namespaces")
    assert verdict_of(evidence_of(api)).finding.cause == "deleting"


def test_a_spec_that_is_gone_or_no_json_is_empty(api):
    api.put(JOBS, here(job()))
    assert evidence_of(api).spec == {}
    api.put(CONFIG_MAPS, {"metadata": {"name": JOB}, "data": {"spec.json": "{"}})
    assert evidence_of(api).spec == {}
