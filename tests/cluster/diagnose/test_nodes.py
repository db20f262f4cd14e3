from decimal import Decimal

import pytest

from specbatch.cluster.client.kinds import NODES, PODS
from specbatch.cluster.diagnose.evidence import Evidence
from specbatch.cluster.diagnose.nodes import Node, device_resources, with_pods
from specbatch.cluster.jobs.job_view import JobView
from specbatch.cluster.manifests.pod_requests import requests


def node(name="a", gpus="8", **more):
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": more.get("labels", {})},
        "spec": {},
        "status": {"allocatable": {"cpu": "64", "memory": "512Gi", "pods": "110", "nvidia.com/gpu": gpus}},
    }


def pod(name, on, gpus, phase="Running", namespace="default"):
    resources = {"limits": {"nvidia.com/gpu": str(gpus)}, "requests": {"cpu": "500m", "nvidia.com/gpu": str(gpus)}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"nodeName": on, "containers": [{"name": "c", "resources": resources}]},
        "status": {"phase": phase},
    }


def test_free_is_what_bound_pods_that_have_not_ended_leave():
    pods = [
        pod("runs", "a", 3),
        pod("done", "a", 4, "Succeeded"),
        pod("failed", "a", 4, "Failed"),
        pod("other", "b", 8),
    ]
    a, b = with_pods([node("a"), node("b")], [*pods, pod("pending", None, 8, "Pending")])
    assert (a.free("nvidia.com/gpu"), b.free("nvidia.com/gpu")) == (5, 0)
    assert a.free("cpu") == Decimal("63.5")
    assert a.free("pods") == 109
    assert Node(node()).free("nvidia.com/gpu") is None


def test_a_pod_asks_for_its_containers_together_or_its_largest_init_container_and_its_overhead():
    spec = {
        "containers": [
            {"resources": {"requests": {"cpu": "1"}}},
            {"resources": {"limits": {"cpu": "500m", "nvidia.com/gpu": "2"}}},
        ],
        "initContainers": [
            {"resources": {"requests": {"memory": "1Gi"}}},
            {"restartPolicy": "Always", "resources": {"requests": {"cpu": "1"}}},
            {"resources": {"requests": {"cpu": "4"}}},
        ],
        "overhead": {"cpu": "250m"},
    }
    assert requests(spec) == {"cpu": Decimal("5.25"), "nvidia.com/gpu": 2, "memory": 2**30}


def test_requests_of_the_whole_pod_go_over_those_of_its_containers():
    spec = {
        "resources": {"requests": {"cpu": "2"}},
        "containers": [{"resources": {"requests": {"cpu": "1", "memory": "1Ki"}}}],
    }
    assert requests(spec) == {"cpu": 2, "memory": 1024}


def test_what_may_not_be_read_is_said_and_no_error(api):
    api.put(NODES, node("a"))
    api.put(PODS, pod("p", "a", 2))
    found = Evidence(api.cluster(), JobView({"metadata": {"name": "x"}}))
    assert ([one.free("nvidia.com/gpu") for one in found.nodes_with_pods], found.not_permitted) == ([6], [])
    assert device_resources(found.nodes) == ["nvidia.com/gpu"]
    api.deny("list", "pods")
    found = Evidence(api.cluster(), found.view)
    assert [one.free("nvidia.com/gpu") for one in found.nodes_with_pods] == [None]
    assert found.not_permitted == ["pods of all namespaces"]
    api.deny("list", "nodes")
    found = Evidence(api.cluster(), found.view)
    assert (found.nodes, found.nodes_with_pods, found.not_permitted) == (None, (), ["nodes"])


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ({}, False),
        ({"nvidia.com/gpu.present": "true"}, True),
        ({"nvidia.com/gpu.present": "false"}, False),
        ({"nvidia.com/gpu.product": "L4"}, True),
    ],
)
def test_labels_tell_a_node_with_gpus(labels, says):
    assert Node(node(labels=labels)).labelled_gpu is says
