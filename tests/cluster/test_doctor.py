"""Every check of doctor: what is well, what is not, and what may not be looked at."""

import time

import pytest

from specbatch import __version__
from specbatch.api.loading.load import load_spec
from specbatch.cluster.client.kinds import CLAIMS, LOCAL_QUEUES, NAMESPACES, NODES, QUOTAS, STORAGE_CLASSES
from specbatch.cluster.diagnose.evidence import Evidence
from specbatch.cluster.diagnose.finding import Finding
from specbatch.cluster.diagnose.text import render_findings
from specbatch.cluster.doctor.examine import examine
from specbatch.cluster.doctor.inventory import clock
from specbatch.cluster.jobs.job_view import JobView
from specbatch.cluster.preflight.permissions import HELPFUL
from tests.cluster.diagnose.objects import GPU, claim, condition, node, storage_class

SEVERITIES = ["error", "warning", "unchecked", "ok"]
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
    return examine(api.cluster(), job)


def one(results, check):
    """The worst of what a check found."""
    return min(
        (result for result in results if result.subject == check), key=lambda result: SEVERITIES.index(result.severity)
    )


def of_cause(results, cause):
    return next(result for result in results if result.cause == cause)


def outcomes(results):
    return {result.subject: result.severity for result in results if result.severity != "ok"}


def test_a_cluster_that_is_ready_has_no_complaint(ready):
    results = results_of(ready)
    assert outcomes(results) == {}
    assert (
        one(results, "gpus").sentence
        == "8 nvidia.com/gpu, 8 free; at most 8 in one pod (1 node with NVIDIA-H100-80GB-HBM3 x8)"
    )
    assert __version__ in one(results, "versions").sentence


def test_with_the_submitters_role_alone_nothing_fails(ready):
    for permission in HELPFUL:
        if permission.resource != "pods":
            ready.deny(permission.verb, permission.resource)
    results = results_of(ready)
    assert set(outcomes(results).values()) == {"unchecked"}
    assert "not permitted, and not needed" in one(results, "cluster-wide").sentence


def test_a_permission_that_is_missing_names_the_commands_that_need_it(ready):
    ready.deny("create", "pods/exec")
    ready.deny("patch", "jobs")
    result = one(results_of(ready), "permissions")
    assert result.severity == "error"
    assert "patch jobs; create pods/exec" in result.sentence
    assert "suspend" in result.sentence
    assert "collect" in result.sentence
    assert "apply -f k8s/submitter.yaml" in result.remedy


def test_an_api_server_that_does_not_answer_ends_it(ready):
    cluster = ready.cluster()
    ready.stop()
    results = examine(cluster)
    assert one(results, "api").severity == "error"
    assert {result.severity for result in results[2:]} == {"unchecked"}


@pytest.mark.parametrize(
    ("version", "outcome"),
    [
        ("v1.28.3", "error"),
        ("v1.29.0", "warning"),
        ("v1.30.1-gke.100", "ok"),
        ("v1.37.0+k3s1", "ok"),
        ("v1.41.0", "ok"),
        ("what", "warning"),
    ],
)
def test_versions_outside_of_what_is_tested_are_told(ready, monkeypatch, version, outcome):
    cluster = ready.cluster()
    monkeypatch.setattr(cluster, "version", lambda: version)
    assert one(examine(cluster), "kubernetes").severity == outcome


@pytest.mark.parametrize(("off", "outcome"), [(0, "ok"), (3600, "warning"), (-3600, "warning")])
def test_a_clock_that_is_wrong_is_seen(ready, monkeypatch, off, outcome):
    real = time.time
    monkeypatch.setattr("specbatch.cluster.doctor.inventory.time.time", lambda: real() + off)
    results = list(clock(Evidence(ready.cluster(), JobView({})), {}))
    assert [result.severity for result in results] == [outcome]


def test_the_clock_needs_permission_to_try(ready):
    ready.deny("create", "configmaps")
    assert one(results_of(ready), "clock").severity == "unchecked"


def test_nodes_without_a_device_plugin_and_gpus_that_are_held_back(ready):
    ready.put(NODES, node("b", labels=H100))
    ill = node("c", gpus=7)
    ill["status"]["capacity"] = {GPU: "8"}
    ready.put(NODES, ill)
    said = [result.sentence for result in results_of(ready) if result.subject == "device plugin"]
    assert sorted(said) == [
        "labels say that b have GPUs, and none are offered",
        "node c holds back 1 nvidia.com/gpu: ill, most likely",
    ]


def test_a_cluster_without_gpus_is_a_warning_until_a_spec_asks_for_one(api):
    api.put(NODES, node("a"))
    assert of_cause(results_of(api), "gpu-resource-unknown").severity == "warning"
    asking = results_of(api, "placement.gpus=2", "placement.replicas=2")
    assert of_cause(asking, "gpu-resource-unknown").severity == "error"


def test_another_gpu_resource_is_offered_by_name(api):
    api.put(NODES, node("a", **{"nvidia.com/mig-3g.40gb": "2"}))
    results = results_of(api)
    assert one(results, "gpus").sentence.startswith("2 nvidia.com/mig-3g.40gb, 2 free")
    assert "nvidia.com/mig-3g.40gb" in of_cause(results, "gpu-resource-unknown").remedy


@pytest.mark.slow
def test_nodes_out_of_service_and_none(api):
    assert one(results_of(api), "nodes").severity == "error"
    api.put(NODES, node("a", ready=False))
    assert one(results_of(api), "nodes").sentence == "0 ready, 1 cordoned or not ready"
    api.put(NODES, node("b"))
    assert "1 ready, 1 cordoned or not ready" in [result.sentence for result in results_of(api)]


def test_storage_without_a_default_class_and_without_claims(ready):
    ready.put(STORAGE_CLASSES, storage_class("standard"))
    ready.remove(CLAIMS, "specbatch-models")
    ready.put(CLAIMS, claim(phase="Lost"))
    results = results_of(ready)
    assert one(results, "storage classes").severity == "warning"
    assert of_cause(results, "claim-missing").severity == "warning"
    assert "k8s/ makes specbatch-results" in of_cause(results, "claim-missing").remedy
    assert of_cause(results, "volume-lost").severity == "error"


def test_other_names_of_claims_are_fine(api):
    api.put(CLAIMS, claim("data"))
    assert not [result for result in results_of(api) if result.cause == "claim-missing"]


def test_the_namespaces_pod_security_level_is_held_against_the_spec(ready):
    ready.put(
        NAMESPACES, {"metadata": {"name": "default", "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    )
    assert one(results_of(ready), "namespace").sentence == "default, Pod Security level restricted"
    message = 'pods "x" is forbidden: violates PodSecurity "restricted:latest": hostPath volumes (volume "results")'
    ready.fail("POST", r"/pods\?.*dryRun=All", status=403, reason="Forbidden", message=message)
    hostile = one(results_of(ready, "job.volumes.results={hostPath: /mnt}"), "the pods")
    assert hostile.severity == "error"
    assert "take a claim instead of hostPath in spec.job.volumes" in hostile.remedy


def test_a_namespace_that_is_not_there_or_going(ready):
    assert one(examine(ready.cluster("elsewhere")), "namespace").severity == "error"
    ready.put(NAMESPACES, {"metadata": {"name": "default"}, "status": {"phase": "Terminating"}})
    assert (
        one(results_of(ready), "namespace").sentence == "the namespace default is being deleted: it takes no new pods"
    )


@pytest.mark.parametrize(
    ("used", "settings", "outcome"),
    [("4", (), "warning"), ("0", ("placement.gpus=8", "placement.replicas=8"), "error")],
)
def test_quotas_are_told_and_held_against_the_spec(ready, used, settings, outcome):
    resource, asked = "requests.nvidia.com/gpu", 8 if settings else 1
    ready.put(QUOTAS, {"metadata": {"name": "team"}, "status": {"hard": {resource: "4"}, "used": {resource: used}}})
    assert one(results_of(ready, *settings), "quota team").sentence == f"{resource} {used} of 4"
    message = f'pods "x" is forbidden: exceeded quota: team, requested: {resource}={asked}, used: {resource}={used}, limited: {resource}=4'
    ready.fail("POST", r"/pods\?.*dryRun=All", status=403, reason="Forbidden", message=message)
    result = one(results_of(ready, *settings), "the pods")
    assert result.severity == outcome
    assert f"used: {resource}={used}, limited: {resource}=4" in result.sentence


@pytest.mark.slow
def test_queues_are_told(ready):
    assert "not installed" in one(results_of(ready), "queues").sentence
    ready.put(
        LOCAL_QUEUES,
        {"metadata": {"name": "a"}, "status": {"conditions": [condition("Active", "Ready")], "pendingWorkloads": 3}},
    )
    ready.put(LOCAL_QUEUES, {"metadata": {"name": "b"}, "spec": {"stopPolicy": "Hold"}})
    results = results_of(ready)
    assert one(results, "queue a").sentence == "active, 3 waiting"
    assert one(results, "queue b").severity == "warning"
    ready.deny("list", "workloads")
    assert one(results_of(ready), "permissions").severity == "error"


@pytest.mark.parametrize(
    ("image", "outcome"),
    [
        (f"ghcr.io/specbatch/runner:{__version__}", "ok"),
        (f"ghcr.io/specbatch/runner:v{__version__}@sha256:0", "ok"),
        ("localhost:5000/runner", "ok"),
        ("busybox:latest", "ok"),
        ("ghcr.io/specbatch/runner:0.0.9", "warning"),
    ],
)
def test_an_image_of_another_version_is_told(ready, image, outcome):
    assert one(results_of(ready, f"job.image={image}"), "image").severity == outcome


def test_a_spec_is_checked_as_submit_does(ready):
    assert one(results_of(ready, "metadata.name=x"), "spec").sentence == "x: everything that its pods name is there"
    results = results_of(
        ready, "job.volumes.results.claimName=no-such-claim", "job.secretEnv={HF_TOKEN: {name: hf, key: token}}"
    )
    said = [result.sentence for result in results if result.severity == "error"]
    assert len(said) == 2
    assert any("does not exist" in message for message in said)


def test_the_text_fits_and_has_the_remedy_below_in_one_line(ready):
    results = [*results_of(ready), Finding(cause="nodes", subject="nodes", sentence="none " * 40, remedy="ask " * 40)]
    lines = render_findings(results).splitlines()
    assert lines[-1].endswith("1 failed")
    assert f"remedy: {'ask ' * 40}" in map(str.lstrip, lines)
    assert max(len(line) for line in lines if "remedy: " not in line) <= 100


def test_a_cluster_that_does_not_say_what_is_permitted(ready, monkeypatch):
    cluster = ready.cluster()
    monkeypatch.setattr(cluster, "can", lambda *_, **__: None)
    results = examine(cluster)
    assert one(results, "permissions").severity == "unchecked"
    assert not [result for result in results if result.subject == "cluster-wide"]


def test_claims_that_wait_or_go(ready):
    ready.put(CLAIMS, claim(phase="Pending"))
    ready.put(CLAIMS, claim("specbatch-models", deletionTimestamp="2026-11-23T06:00:00Z"))
    results = results_of(ready)
    assert of_cause(results, "claim-unbound").severity == "warning"
    assert "specbatch-models is being deleted" in of_cause(results, "claim-deleting").sentence
