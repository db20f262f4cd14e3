"""Every check of doctor: what is well, what is not, and what may not be looked at."""

import time

import pytest

from specbatch import __version__
from specbatch.api.loading import load_spec
from specbatch.cluster.client.kinds import CLAIMS, JOBS, LOCAL_QUEUES, NAMESPACES, NODES, QUOTAS, STORAGE_CLASSES
from specbatch.cluster.doctor.api import check_clock
from specbatch.cluster.doctor.checkup import Result, Visit
from specbatch.cluster.doctor.examine import examine
from specbatch.cluster.doctor.text import render_results
from specbatch.cluster.preflight.permissions import HELPFUL
from tests.cluster.diagnose.objects import GPU, claim, condition, node, storage_class

H100 = {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3", "nvidia.com/gpu.present": "true"}


@pytest.fixture
def ready(api):
    """A cluster that is ready for everything."""
    api.put(NODES, node("a", gpus=8, labels=H100))
    api.put(STORAGE_CLASSES, storage_class("standard", default=True))
    for name in ("specbatch-results", "specbatch-models"):
        api.put(CLAIMS, claim(name))
    return api


def results_of(api, *settings):
    job = load_spec("job/quickstart.yaml", list(settings)) if settings else None
    return examine(Visit(api.cluster(), job))


def one(results, check):
    return next(result for result in results if result.check == check)


def outcomes(results):
    return {result.check: result.outcome for result in results if result.outcome != "ok"}


def test_a_cluster_that_is_ready_has_no_complaint(ready):
    results = results_of(ready)
    assert outcomes(results) == {}
    assert (
        one(results, "gpus").message
        == "8 nvidia.com/gpu, 8 free; at most 8 in one pod (1 node with NVIDIA-H100-80GB-HBM3 x8)"
    )
    assert __version__ in one(results, "versions").message


def test_with_the_submitters_role_alone_nothing_fails(ready):
    for permission in HELPFUL:
        if permission.kind.plural != "pods":
            ready.deny(permission.verb, permission.kind.plural)
    results = results_of(ready)
    assert set(outcomes(results).values()) == {"not checked"}
    assert "not permitted, and not needed" in one(results, "cluster-wide").message


def test_a_permission_that_is_missing_names_the_commands_that_need_it(ready):
    ready.deny("create", "pods/exec")
    ready.deny("patch", "jobs")
    result = one(results_of(ready), "permissions")
    assert result.outcome == "failed"
    assert "patch jobs; create pods/exec" in result.message
    assert "suspend" in result.message
    assert "collect" in result.message
    assert "kubectl apply -n default -f k8s/submitter.yaml" in result.remedy


def test_an_api_server_that_does_not_answer_ends_it(ready):
    cluster = ready.cluster()
    ready.stop()
    results = examine(Visit(cluster))
    assert one(results, "api").outcome == "failed"
    assert {result.outcome for result in results[2:]} == {"not checked"}


@pytest.mark.parametrize(
    ("version", "outcome"),
    [("v1.29.0", "warning"), ("v1.30.1-gke.100", "ok"), ("v1.37.0+k3s1", "ok"), ("v1.41.0", "ok"), ("what", "warning")],
)
def test_versions_outside_of_what_is_tested_are_told(ready, monkeypatch, version, outcome):
    cluster = ready.cluster()
    monkeypatch.setattr(cluster, "version", lambda: version)
    assert one(examine(Visit(cluster)), "kubernetes").outcome == outcome


@pytest.mark.parametrize(("status", "outcome"), [(None, "warning"), (422, "failed"), (403, "failed")])
def test_an_old_version_is_judged_by_whether_it_takes_the_job(ready, monkeypatch, status, outcome):
    if status:
        ready.fail("POST", "/jobs", status=status)
    cluster = ready.cluster()
    monkeypatch.setattr(cluster, "version", lambda: "v1.28.3")
    assert one(examine(Visit(cluster)), "kubernetes").outcome == outcome
    assert ready.objects(JOBS) == []


@pytest.mark.parametrize(("off", "outcome"), [(0, "ok"), (3600, "warning"), (-3600, "warning")])
def test_a_clock_that_is_wrong_is_seen(ready, monkeypatch, off, outcome):
    real = time.time
    monkeypatch.setattr("specbatch.cluster.doctor.api.time.time", lambda: real() + off)
    results = list(check_clock(Visit(ready.cluster())))
    assert [result.outcome for result in results] == [outcome]


def test_the_clock_needs_permission_to_try(ready):
    ready.deny("create", "configmaps")
    assert one(results_of(ready), "clock").outcome == "not checked"


def test_nodes_without_a_device_plugin_and_gpus_that_are_held_back(ready):
    ready.put(NODES, node("b", labels=H100))
    ill = node("c", gpus=7)
    ill["status"]["capacity"] = {GPU: "8"}
    ready.put(NODES, ill)
    said = [result.message for result in results_of(ready) if result.check == "device plugin"]
    assert said == [
        "labels say that b have GPUs, and none are offered",
        "node c holds back 1 nvidia.com/gpu: ill, most likely",
    ]


def test_a_cluster_without_gpus_is_a_warning_until_a_spec_asks_for_one(api):
    api.put(NODES, node("a"))
    assert one(results_of(api), "gpus").outcome == "warning"
    assert one(results_of(api, "placement.gpus=2", "placement.replicas=2"), "gpus").outcome == "failed"


def test_another_gpu_resource_is_offered_by_name(api):
    api.put(NODES, node("a", **{"nvidia.com/mig-3g.40gb": "2"}))
    results = [result for result in results_of(api) if result.check == "gpus"]
    assert [result.outcome for result in results] == ["ok", "warning"]
    assert "nvidia.com/mig-3g.40gb" in results[1].remedy


def test_nodes_out_of_service_and_none(api):
    assert one(results_of(api), "nodes").outcome == "failed"
    api.put(NODES, node("a", ready=False))
    assert one(results_of(api), "nodes").message == "none of 1 nodes is ready"
    api.put(NODES, node("b"))
    assert one(results_of(api), "nodes").message == "1 ready, 1 cordoned or not ready"


def test_storage_without_a_default_class_and_without_claims(ready):
    ready.put(STORAGE_CLASSES, storage_class("standard"))
    ready.remove(CLAIMS, "specbatch-models")
    ready.put(CLAIMS, claim(phase="Lost"))
    results = results_of(ready)
    assert one(results, "storage classes").outcome == "warning"
    assert one(results, "claims").message == "there is no specbatch-models"
    assert one(results, "claim specbatch-results").outcome == "failed"


def test_other_names_of_claims_are_fine(api):
    api.put(CLAIMS, claim("data"))
    assert one(results_of(api), "claims").outcome == "ok"


def test_the_namespaces_pod_security_level_is_held_against_the_spec(ready):
    ready.put(
        NAMESPACES, {"metadata": {"name": "default", "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    )
    assert one(results_of(ready), "namespace").message == "default, Pod Security level restricted: runs pass it"
    hostile = one(results_of(ready, "job.volumes.results={hostPath: /mnt}"), "namespace")
    assert (hostile.outcome, hostile.remedy) == ("failed", "take a claim instead of hostPath in spec.job.volumes")


def test_a_namespace_that_is_not_there_or_going(ready):
    assert one(examine(Visit(ready.cluster("elsewhere"))), "namespace").outcome == "failed"
    ready.put(NAMESPACES, {"metadata": {"name": "default"}, "status": {"phase": "Terminating"}})
    assert one(results_of(ready), "namespace").message == "default is being deleted"


@pytest.mark.parametrize(
    ("used", "settings", "outcome"),
    [("0", (), "ok"), ("4", (), "warning"), ("0", ("placement.gpus=8", "placement.replicas=8"), "failed")],
)
def test_quotas_are_told_and_held_against_the_spec(ready, used, settings, outcome):
    hard = {"requests.nvidia.com/gpu": "4"}
    ready.put(
        QUOTAS, {"metadata": {"name": "team"}, "status": {"hard": hard, "used": {"requests.nvidia.com/gpu": used}}}
    )
    result = one(results_of(ready, *settings), "quota team")
    assert result.outcome == outcome
    assert f"requests.nvidia.com/gpu {used} of 4" in result.message


@pytest.mark.slow
def test_queues_are_told(ready):
    assert "not installed" in one(results_of(ready), "queues").message
    ready.put(
        LOCAL_QUEUES,
        {"metadata": {"name": "a"}, "status": {"conditions": [condition("Active", "Ready")], "pendingWorkloads": 3}},
    )
    ready.put(LOCAL_QUEUES, {"metadata": {"name": "b"}, "spec": {"stopPolicy": "Hold"}})
    results = results_of(ready)
    assert one(results, "queue a").message == "active, 3 waiting"
    assert one(results, "queue b").outcome == "warning"
    ready.deny("list", "workloads")
    assert one(results_of(ready), "permissions").outcome == "failed"


@pytest.mark.parametrize(
    ("image", "policy", "check", "outcome"),
    [
        (f"ghcr.io/specbatch/runner:{__version__}", "Never", "image", "ok"),
        ("registry.example.com/runner:latest", "Never", "image", "failed"),
        ("registry.example.com/runner:latest", "IfNotPresent", "image", "ok"),
        ("busybox", "Never", "image", "ok"),
        ("ghcr.io/specbatch/runner:0.0.9", "IfNotPresent", "image version", "warning"),
    ],
)
def test_the_image_is_looked_for_on_the_nodes(ready, image, policy, check, outcome):
    there = node("a", gpus=8, labels=H100)
    there["status"]["images"] = [
        {"names": [f"ghcr.io/specbatch/runner:{__version__}", "docker.io/library/busybox:latest"]}
    ]
    ready.put(NODES, there)
    assert one(results_of(ready, f"job.image={image}", f"job.imagePullPolicy={policy}"), check).outcome == outcome


def test_a_spec_is_checked_as_submit_does(ready):
    assert one(results_of(ready, "metadata.name=x"), "spec").message == "x: everything that its pods name is there"
    results = results_of(
        ready, "job.volumes.results.claimName=no-such-claim", "job.secretEnv={HF_TOKEN: {name: hf, key: token}}"
    )
    said = [result.message for result in results if result.outcome == "failed"]
    assert len(said) == 2
    assert any("does not exist" in message for message in said)


def test_the_text_has_the_remedy_below_and_fits(ready):
    results = [*results_of(ready), Result("nodes", "failed", "none " * 40, "ask " * 40)]
    lines = render_results(results).splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[-1].endswith("1 failed")
    assert any(line.strip().startswith("remedy: ask") for line in lines)


def test_a_cluster_that_does_not_say_what_is_permitted(ready, monkeypatch):
    cluster = ready.cluster()
    monkeypatch.setattr(cluster, "can", lambda *_, **__: None)
    results = examine(Visit(cluster))
    assert one(results, "permissions").outcome == "not checked"
    assert not [result for result in results if result.check == "cluster-wide"]


def test_claims_that_wait_or_go(ready):
    ready.put(CLAIMS, claim(phase="Pending"))
    ready.put(CLAIMS, claim("specbatch-models", deletionTimestamp="2026-11-23T06:00:00Z"))
    results = results_of(ready)
    assert one(results, "claim specbatch-results").outcome == "ok"
    assert one(results, "claim specbatch-models").message == "is being deleted"
