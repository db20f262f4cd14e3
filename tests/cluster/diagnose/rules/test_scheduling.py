"""Pods without a node: told from the nodes, and where those may not be read, from the scheduler's sentence alone."""

import pytest

from specbatch.cluster.diagnose.nodes import Node
from tests.cluster.diagnose.objects import (
    GPU,
    at,
    cause_of,
    event,
    holder,
    node,
    pod,
    pod_spec,
    unschedulable,
    verdict_on,
)

H100 = {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3", "nvidia.com/gpu.present": "true"}
SAYS_GPUS = "0/2 nodes are available: 2 Insufficient nvidia.com/gpu. preemption: 0/2 nodes are available: 2 No preemption victims found for incoming pod."
SAYS_CPU, SAYS_PODS = (
    SAYS_GPUS.replace("Insufficient nvidia.com/gpu", said) for said in ("Insufficient cpu", "Too many pods")
)
DEDICATED = {"key": "dedicated", "value": "inference", "effect": "NoSchedule"}


def waits(message=SAYS_GPUS, *, gpus=4, **spec):
    return unschedulable(message, spec=pod_spec(gpus=gpus, **spec))


def test_more_gpus_than_any_node_has_says_how_many_each_has():
    nodes = [node("a", gpus=8, labels=H100), node("b", gpus=4)]
    verdict = verdict_on(waits(gpus=16), nodes=nodes)
    assert verdict.finding.cause == "not-enough-gpus"
    assert verdict.finding.sentence == "each pod asks for 16 nvidia.com/gpu, and no node has more than 8"
    assert verdict.finding.evidence[:2] == (
        "node a: 8 nvidia.com/gpu (NVIDIA-H100-80GB-HBM3)",
        "node b: 4 nvidia.com/gpu",
    )
    assert "spec.placement.gpus to 8 or less" in verdict.finding.remedy


def test_gpus_that_are_all_taken_now_start_by_themselves_and_say_what_is_free():
    nodes = [node("a", gpus=8), node("b", gpus=4)]
    taken = [holder("training", "a", 6), holder("notebook", "b", 1)]
    verdict = verdict_on(waits(gpus=4), nodes=nodes, others=taken)
    assert (verdict.finding.cause, verdict.finding.severity) == ("gpus-taken", "warning")
    assert verdict.finding.evidence[:2] == ("node a: 8 nvidia.com/gpu, 2 free", "node b: 4 nvidia.com/gpu, 3 free")
    assert "start by themselves" in verdict.finding.remedy


@pytest.mark.parametrize(
    ("labels", "says"),
    [(H100, "the device plugin does not run"), ({}, "no node offers nvidia.com/gpu")],
)
def test_a_gpu_resource_that_no_node_knows_is_the_device_plugin(labels, says):
    verdict = verdict_on(waits(), nodes=[node("a", labels=labels)])
    assert verdict.finding.cause == "gpu-resource-unknown"
    assert says in verdict.finding.sentence


def test_another_name_of_the_gpu_resource_is_offered():
    verdict = verdict_on(waits(), nodes=[node("a", **{"nvidia.com/mig-3g.40gb": "2"})])
    assert "nvidia.com/mig-3g.40gb" in verdict.finding.remedy


@pytest.mark.parametrize(
    ("asked", "cause"),
    [
        ({"cpu": "100"}, "not-enough-cpu"),
        ({"memory": "1Ti"}, "not-enough-memory"),
        ({"ephemeral-storage": "1Ti"}, "not-enough-ephemeral-storage"),
        ({"hugepages-2Mi": "1Gi"}, "not-enough-resource"),
    ],
)
def test_other_resources_than_gpus_are_named(asked, cause):
    nodes = [node("a", gpus=8, **{"ephemeral-storage": "500Gi"})]
    assert cause_of(waits(resources={"requests": {GPU: "4", **asked}}), nodes=nodes) == cause


def test_cpu_that_is_taken_now_only_takes_time():
    busy = holder("web", "a", 0)
    busy["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "60"}}
    verdict = verdict_on(waits(SAYS_CPU, resources={"requests": {"cpu": "8"}}), nodes=[node("a")], others=[busy])
    assert (verdict.finding.cause, verdict.finding.severity) == ("cpu-taken", "warning")


def test_a_node_that_is_full_of_pods():
    assert (
        cause_of(waits(SAYS_PODS, gpus=0), nodes=[node("a", pods="1")], others=[holder("web", "a", 0)]) == "pods-taken"
    )


def test_the_taint_of_the_nodes_that_would_do_is_named_with_its_toleration():
    nodes = [node("cpu-1"), node("gpu-1", gpus=8, taints=[DEDICATED])]
    verdict = verdict_on(waits(), nodes=nodes)
    assert verdict.finding.cause == "taint-not-tolerated"
    assert "dedicated=inference:NoSchedule" in verdict.finding.sentence
    assert '{key: dedicated, operator: Equal, value: "inference", effect: NoSchedule}' in verdict.finding.remedy


def test_a_label_that_no_node_has_is_named_with_the_nearest_value_there_is():
    nodes = [node("a", gpus=8, labels=H100)]
    verdict = verdict_on(waits(nodeSelector={"nvidia.com/gpu.product": "NVIDIA-H100-80GB"}), nodes=nodes)
    assert verdict.finding.cause == "node-selector"
    assert "nvidia.com/gpu.product=NVIDIA-H100-80GB" in verdict.finding.sentence
    assert "nvidia.com/gpu.product: NVIDIA-H100-80GB-HBM3" in verdict.finding.remedy


def test_a_selector_that_leaves_only_smaller_nodes_is_not_called_too_few_gpus_everywhere():
    nodes = [node("a", gpus=8, labels={"pool": "a"}), node("b", gpus=2, labels={"pool": "b"})]
    verdict = verdict_on(waits(gpus=4, nodeSelector={"pool": "b"}), nodes=nodes)
    assert verdict.finding.cause == "not-enough-gpus"
    assert "no node that matches the spec's selector has more than 2" in verdict.finding.sentence


@pytest.mark.parametrize(
    ("state", "cause"), [({"cordoned": True}, "nodes-cordoned"), ({"ready": False}, "nodes-not-ready")]
)
def test_nodes_out_of_service(state, cause):
    assert cause_of(waits(), nodes=[node("a", gpus=8, **state), node("b")]) == cause


def test_a_node_that_is_lost_needs_no_toleration():
    taint = {"key": "node.kubernetes.io/unreachable", "effect": "NoSchedule"}
    assert cause_of(waits(), nodes=[node("a", gpus=8, ready=False, taints=[taint])]) == "nodes-not-ready"


# Without nodes: the messages of kube-scheduler 1.30 to 1.37.
@pytest.mark.parametrize(
    ("message", "cause"),
    [
        (
            "0/3 nodes are available: 3 Insufficient nvidia.com/gpu. preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling.",
            "not-enough-gpus",
        ),
        (SAYS_GPUS, "gpus-taken"),
        ("0/2 nodes are available: 2 Insufficient nvidia.com/gpu. preemption: not eligible due to preemptionPolicy=Never.", "gpus-taken"),
        (
            ("0/3 nodes are available: 1 node(s) had untolerated taint {node-role.kubernetes.io/control-plane: }, 2 Insufficient memory. "
            "preemption: 0/3 nodes are available: 1 Preemption is not helpful for scheduling, 2 No preemption victims found for incoming pod."),
            "memory-taken",
        ),
        (
            "0/2 nodes are available: 2 Insufficient ephemeral-storage. preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling.",
            "not-enough-ephemeral-storage",
        ),
        ("0/2 nodes are available: 2 Too many pods. preemption: 0/2 nodes are available: 2 No preemption victims found for incoming pod.", "pods-taken"),
        (
            ("0/3 nodes are available: 1 node(s) had untolerated taint {node-role.kubernetes.io/control-plane: }, 2 node(s) had untolerated "
            "taint {dedicated: inference}. preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."),
            "taint-not-tolerated",
        ),
        (
            ("0/1 nodes are available: 1 node(s) had untolerated taint(s). no new claims to deallocate, preemption: 0/1 nodes are available: "
            "1 Preemption is not helpful for scheduling."),
            "taint-not-tolerated",
        ),
        (
            ("0/3 nodes are available: 1 node(s) had untolerated taint {node-role.kubernetes.io/control-plane: }, 2 node(s) didn't match Pod's "
            "node affinity/selector. preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."),
            "node-selector",
        ),
        ("0/1 nodes are available: 1 node(s) had untolerated taint {node.kubernetes.io/not-ready: }. preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.", "nodes-not-ready"),
        ("0/2 nodes are available: 2 node(s) were unschedulable. preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling.", "nodes-cordoned"),
        ("0/2 nodes are available: 2 node(s) didn't match pod anti-affinity rules. preemption: 0/2 nodes are available: 2 No preemption victims found for incoming pod.", "unschedulable"),
        ("0/2 nodes are available: 2 node(s) didn't match pod affinity rules. preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling.", "unschedulable"),
        ("0/2 nodes are available: 2 node(s) didn't match pod topology spread constraints. preemption: 0/2 nodes are available: 2 No preemption victims found for incoming pod.", "unschedulable"),
        ("0/2 nodes are available: 2 cannot allocate all claims. preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling.", "unschedulable"),
        ("no nodes available to schedule pods", "no-nodes"),
        ("0/2 nodes are available: 2 something that nobody knew in 2026.", "unschedulable"),
    ],
)  # fmt: skip
def test_the_message_alone_tells_the_cause(message, cause):
    verdict = verdict_on(
        waits(message, resources={"requests": {GPU: "4", "memory": "64Gi", "ephemeral-storage": "1Ti"}}), nodes=None
    )
    assert verdict.finding.cause == cause
    assert any(message in line for line in verdict.finding.evidence)


def test_tainted_nodes_that_may_hold_the_gpus_are_mentioned():
    message = (
        "0/5 nodes are available: 2 node(s) had untolerated taint {dedicated: inference}, 3 Insufficient nvidia.com/gpu. preemption: "
        "0/5 nodes are available: 5 Preemption is not helpful for scheduling."
    )
    verdict = verdict_on(waits(message), nodes=None)
    assert verdict.finding.cause == "not-enough-gpus"
    assert "a taint or a selector in the message below" in verdict.finding.remedy


def test_the_event_is_read_where_the_condition_says_nothing():
    waits_silently = pod(spec=pod_spec(gpus=4))
    said = {**event(waits_silently, "FailedScheduling", SAYS_GPUS), "lastTimestamp": None, "eventTime": at(30)}
    assert cause_of(waits_silently, nodes=None, events=[said]) == "gpus-taken"


def test_an_autoscaler_at_work_is_worth_waiting_for_until_it_refuses():
    waiting = waits()
    coming = event(waiting, "TriggeredScaleUp", "pod triggered scale-up: [{gpu-pool 0->1 (max: 4)}]", seconds_ago=60)
    refused = event(
        waiting, "NotTriggerScaleUp", "pod didn't trigger scale-up: 1 max node group size reached", seconds_ago=10
    )
    nodes = [node("a", gpus=2)]
    assert cause_of(waiting, nodes=nodes, events=[coming]) == "node-starting"
    verdict = verdict_on(waiting, nodes=nodes, events=[coming, refused])
    assert verdict.finding.cause == "not-enough-gpus"
    assert any("max node group size" in line for line in verdict.finding.evidence)


def test_gates_and_a_scheduler_that_says_nothing():
    gated = pod(spec=pod_spec(schedulingGates=[{"name": "example.com/quota"}]))
    assert cause_of(gated) == "scheduling-gated"
    assert cause_of(pod(made=10)) == "scheduling"
    assert cause_of(pod(made=300)) == "scheduler-silent"


def test_many_pods_that_ask_for_the_same_are_held_against_the_nodes_once(monkeypatch):
    asked, selected = [], Node.selected
    monkeypatch.setattr(Node, "selected", lambda node, spec: asked.append(node.name) or selected(node, spec))
    pods = [unschedulable(SAYS_GPUS, index=index, spec=pod_spec(gpus=4)) for index in range(50)]
    assert verdict_on(*pods, nodes=[node("a", gpus=8), node("b")]).finding.shards == tuple(range(50))
    assert asked == ["a", "b"]
