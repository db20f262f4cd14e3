"""The pod template: what a runner gets, and what it may do."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from specbatch.api import parse_spec
from specbatch.cluster.manifests.job import render
from tests.cluster.any_spec import any_spec
from tests.cluster.kubernetes_schemas import VERSIONS, problems
from tests.cluster.pod_security import violations
from tests.cluster.rendering import container, env, pod, rendered

FEW = settings(max_examples=60)


def template(section: str = "{}", **more: str):
    return rendered(section, **more).job["spec"]["template"]


@pytest.mark.parametrize(
    "section",
    [
        "{}",
        "volumes: {results: {claimName: r}, modelCache: {claimName: m, readOnly: true}, data: {csi: {driver: d}}}",
        "volumes: {results: {claimName: r}, extra: [{name: scratch, mountPath: /scratch, emptyDir: {}}]}",
        "podTemplate: {spec: {dnsPolicy: Default}}",
    ],
)
def test_pods_pass_the_restricted_pod_security_level(section):
    assert violations(template(section)) == []


@pytest.mark.parametrize(
    ("section", "found"),
    [
        ("volumes: {results: {hostPath: /mnt}}", "volume results: hostPath"),
        ("podTemplate: {spec: {hostNetwork: true}}\nallowPrivilegedPodTemplate: true", "hostNetwork"),
        ("podTemplate: {spec: {securityContext: {runAsUser: 0}}}", "pod: runAsUser 0"),
        ("podTemplate: {spec: {securityContext: {seccompProfile: null}}}", "runner: no seccompProfile"),
        ("podTemplate: {spec: {containers: [{name: more, image: x}]}}", "more: allowPrivilegeEscalation is not false"),
        (
            "podTemplate: {spec: {containers: [{name: runner, securityContext: {capabilities: {drop: []}}}]}}",
            "runner: capabilities are not all dropped",
        ),
    ],
)
def test_only_what_the_user_asks_for_breaks_the_restricted_level(section, found):
    assert found in violations(template(section))


def test_nothing_can_be_written_but_the_pods_own_volumes():
    made = rendered()
    assert container(made)["securityContext"]["readOnlyRootFilesystem"] is True
    writable = {one["mountPath"] for one in container(made)["volumeMounts"] if not one.get("readOnly")}
    assert writable == {"/tmp", "/cache", "/dev/shm", "/results"}
    assert {value for name, value in env(made).items() if name in {"HOME", "XDG_CACHE_HOME"}} == {"/cache"}


def test_shared_memory_is_memory_of_the_given_size():
    shm = next(one for one in pod(rendered("sharedMemory: 8Gi"))["volumes"] if one["name"] == "shm")
    assert shm["emptyDir"] == {"medium": "Memory", "sizeLimit": "8Gi"}


def test_gpus_are_a_limit_and_their_taint_is_tolerated():
    made = rendered(spec="{placement: {gpus: 8}}")
    assert container(made)["resources"]["limits"] == {"nvidia.com/gpu": "8"}
    assert pod(made)["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert "NVIDIA_VISIBLE_DEVICES" not in env(made)


def test_another_gpu_resource_is_asked_for_by_its_own_name():
    made = rendered("gpuResourceName: nvidia.com/mig-3g.40gb\nresources: {limits: {memory: 9Gi}}")
    assert container(made)["resources"]["limits"] == {"nvidia.com/mig-3g.40gb": "1", "memory": "9Gi"}
    assert pod(made)["tolerations"][0]["key"] == "nvidia.com/mig-3g.40gb"


def test_a_run_on_the_cpu_sees_no_gpu():
    made = rendered(spec="{placement: {gpus: 0}}")
    assert "resources" not in container(made)
    assert "tolerations" not in pod(made)
    assert env(made)["NVIDIA_VISIBLE_DEVICES"] == "void"


def test_secrets_come_by_reference_only():
    made = rendered("secretEnv: {HF_TOKEN: {name: hf, key: token}}\nsecretEnvFrom: [{name: s3, optional: true}]")
    assert env(made)["HF_TOKEN"] == {"secretKeyRef": {"name": "hf", "key": "token"}}
    assert container(made)["envFrom"] == [{"secretRef": {"name": "s3", "optional": True}}]


def test_variables_of_the_spec_go_over_ours_and_none_is_there_twice():
    made = rendered("env: {HOME: /tmp}\nsecretEnv: {USER: {name: a, key: b}}")
    assert env(made)["HOME"] == "/tmp"
    assert env(made)["USER"] == {"secretKeyRef": {"name": "a", "key": "b"}}
    names = [one["name"] for one in container(made)["env"]]
    assert len(names) == len(set(names))


def test_models_come_from_the_cache_and_a_read_only_one_means_offline():
    assert env(rendered())["HF_HOME"] == "/cache/huggingface"
    cached = "volumes: {results: {claimName: r}, modelCache: {claimName: m, mountPath: /mnt/hub, readOnly: true}}"
    made = rendered(cached)
    assert env(made)["HF_HOME"] == "/mnt/hub"
    assert env(made)["HF_HUB_OFFLINE"] == "1"
    mount = next(one for one in container(made)["volumeMounts"] if one["name"] == "model-cache")
    assert mount == {"name": "model-cache", "mountPath": "/mnt/hub", "readOnly": True}


def test_results_that_are_only_published_are_written_to_the_pod_first():
    made = rendered("volumes: {results: null}", spec="{results: {publish: 's3://b/r/', dir: out}}")
    assert {"name": "results", "emptyDir": {}} in pod(made)["volumes"]
    assert {"name": "results", "mountPath": "/out"} in container(made)["volumeMounts"]


def test_a_csi_volume_names_its_secret_as_kubernetes_does():
    made = rendered(
        "volumes: {results: {claimName: r}, data: {csi: {driver: d.io, secretName: login, volumeAttributes: {a: b}}}}"
    )
    data = next(one for one in pod(made)["volumes"] if one["name"] == "data")
    assert data["csi"] == {
        "driver": "d.io",
        "readOnly": False,
        "volumeAttributes": {"a": "b"},
        "nodePublishSecretRef": {"name": "login"},
    }


def test_strict_validation_sees_a_field_that_kubernetes_does_not_know():
    made = rendered("podTemplate: {spec: {containers: [{name: runner, imagePullPolcy: Never}]}}")
    for version in VERSIONS:
        (problem,) = problems(made.job, version)
        assert "imagePullPolcy" in problem


@pytest.mark.slow
@FEW
@given(any_spec(real=True))
def test_any_spec_becomes_what_every_kubernetes_takes(spec):
    made = render(parse_spec(spec.text), spec.contents)
    for version in VERSIONS:
        assert [*problems(made.config_map, version), *problems(made.job, version)] == []
