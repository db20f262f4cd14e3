"""The Job that fetches models."""

from __future__ import annotations

from typing import Any

import pytest

from specbatch.api import load_spec
from specbatch.cluster.manifests.fetch_job import fetch_job
from specbatch.errors import SpecError
from tests.cluster.kubernetes_schemas import VERSIONS, problems
from tests.cluster.pod_security import violations
from tests.cluster.rendering import ROOT, job

CACHE = "volumes: {results: {claimName: r}, modelCache: {claimName: m, readOnly: true}, data: {claimName: d}}"
PAIR = "{target: {model: Qwen/Qwen3-8B, revision: abc}, drafter: {model: Qwen/Qwen3-1.7B}, placement: {gpus: 8}}"


def fetching(section: str = "", spec: str = PAIR) -> dict[str, Any]:
    return fetch_job(job(f"{{{', '.join(filter(None, [CACHE, section]))}}}", spec=spec))


def pod(body: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = body["spec"]["template"]["spec"]
    return found


def variables(body: dict[str, Any]) -> dict[str, Any]:
    return {one["name"]: one.get("value", one.get("valueFrom")) for one in pod(body)["containers"][0]["env"]}


def test_it_is_a_job_that_restricted_namespaces_take():
    body = fetching()
    assert violations(body["spec"]["template"]) == []
    assert [said for version in VERSIONS for said in problems(body, version)] == []


def test_it_fetches_both_models_at_their_revisions_into_a_writable_claim():
    [container] = pod(fetching())["containers"]
    assert container["command"] == ["python", "-m", "specbatch", "fetch", "Qwen/Qwen3-8B@abc", "Qwen/Qwen3-1.7B"]
    assert {"name": "model-cache", "mountPath": "/models"} in container["volumeMounts"]
    assert variables(fetching())["HF_HOME"] == "/models"
    assert "HF_HUB_OFFLINE" not in variables(fetching("env: {HF_HUB_OFFLINE: '1'}"))


def test_it_takes_no_gpu_and_mounts_nothing_of_the_run_alone():
    spec = pod(fetching("runtimeClassName: nvidia"))
    [container] = spec["containers"]
    assert "nvidia.com/gpu" not in str(container["resources"])
    assert "runtimeClassName" not in spec
    assert variables(fetching())["NVIDIA_VISIBLE_DEVICES"] == "void"
    assert {volume["name"] for volume in spec["volumes"]} == {"tmp", "cache", "model-cache"}
    assert {mount["name"] for mount in container["volumeMounts"]} == {"tmp", "cache", "model-cache"}


def test_it_runs_where_the_run_may_as_the_run_does():
    section = "nodeSelector: {gpu: a}, imagePullSecrets: [{name: login}], serviceAccountName: runner, secretEnv: {HF_TOKEN: {name: hf, key: token}}, env: {HF_ENDPOINT: 'https://hf-mirror.com'}"
    body = fetching(section)
    spec = pod(body)
    assert spec["nodeSelector"] == {"gpu": "a"}
    assert spec["tolerations"][0]["key"] == "nvidia.com/gpu"
    assert (spec["imagePullSecrets"], spec["serviceAccountName"]) == ([{"name": "login"}], "runner")
    assert variables(body)["HF_TOKEN"] == {"secretKeyRef": {"name": "hf", "key": "token"}}
    assert variables(body)["HF_ENDPOINT"] == "https://hf-mirror.com"


def test_certificates_that_a_pod_template_mounts_stay_and_sidecars_go():
    mount = "{name: runner, volumeMounts: [{name: ca, mountPath: /ca}]}"
    template = f"podTemplate: {{spec: {{containers: [{mount}, {{name: side, image: x}}], volumes: [{{name: ca, configMap: {{name: ca}}}}, {{name: z, emptyDir: {{}}}}]}}}}"
    spec = pod(fetching(template))
    assert [one["name"] for one in spec["containers"]] == ["runner"]
    assert {volume["name"] for volume in spec["volumes"]} == {"tmp", "cache", "model-cache", "ca"}


def test_the_same_models_have_the_same_job_and_others_another():
    assert fetching()["metadata"]["name"] == fetching()["metadata"]["name"]
    other = fetching(spec=PAIR.replace("abc", "abd"))
    assert other["metadata"]["name"] != fetching()["metadata"]["name"]
    labels = fetching()["metadata"]["labels"]
    assert labels["app.kubernetes.io/component"] == "fetch"
    assert fetching()["metadata"]["name"].startswith(labels["specbatch.dev/run"])


@pytest.mark.parametrize("cache", ["", ", modelCache: {emptyDir: {}}"])
def test_without_a_volume_that_stays_the_field_is_named(cache):
    with pytest.raises(SpecError) as caught:
        fetch_job(job(f"{{volumes: {{results: {{claimName: r}}{cache}}}}}", spec=PAIR))
    assert [one.path for one in caught.value.problems] == ["spec.job.volumes.modelCache"]


def test_a_long_name_fits_into_a_label():
    given = load_spec(str(ROOT / "job/qwen3-8b.yaml"), [f"metadata.name={'a' * 52}"])
    body = fetch_job(given)
    assert len(body["metadata"]["labels"]["specbatch.dev/run"]) <= 63
    assert len(f"{body['metadata']['name']}-0") <= 63
