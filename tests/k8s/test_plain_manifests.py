"""k8s/: what an admin without Helm applies, and the example of a rendered Job."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from specbatch.api.job_section import JobSpec
from specbatch.cluster.manifests.pod import USER
from specbatch.cluster.preflight.permissions import HELPFUL, OF_KUEUE, Permission, all_needed
from tests.cluster.egress import METADATA, allows
from tests.cluster.kubernetes_schemas import VERSIONS, problems
from tests.cluster.pod_security import violations
from tests.cluster.rendering import ROOT, RUNNABLE
from tools.kube_tools import tool

K8S = ROOT / "k8s"
READ = {"get", "list"}


@cache
def kustomized(folder: Path = K8S) -> list[dict[str, Any]]:
    try:
        kubectl = tool("kubectl")
    except RuntimeError as error:
        pytest.skip(f"no kubectl: {error}")
    command = [str(kubectl), "kustomize", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return list(yaml.safe_load_all(done.stdout))


def of_kind(kind: str) -> list[dict[str, Any]]:
    return [one for one in kustomized() if one["kind"] == kind]


def granted(role: dict[str, Any]) -> set[tuple[str, str, str]]:
    """(API group, resource, verb) of every rule."""
    return {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def asked(permissions: Iterable[Permission]) -> set[tuple[str, str, str]]:
    return {(one.kind.group, one.resource, one.verb) for one in permissions}


def rights(role: dict[str, Any]) -> dict[str, set[str]]:
    return {name: set(rule["verbs"]) for rule in role["rules"] for name in rule["resources"]}


def test_kustomize_builds_a_namespace_with_everything_in_it():
    assert sorted(one["kind"] for one in kustomized()) == [
        "Namespace",
        "NetworkPolicy",
        "NetworkPolicy",
        "PersistentVolumeClaim",
        "PersistentVolumeClaim",
        "Role",
        "RoleBinding",
        "ServiceAccount",
    ]
    assert {one["metadata"].get("namespace") for one in kustomized() if one["kind"] != "Namespace"} == {"specbatch"}


def test_everything_is_labelled_and_what_every_kubernetes_takes():
    for one in kustomized():
        assert one["metadata"]["labels"]["app.kubernetes.io/name"] == "specbatch"
        for version in VERSIONS:
            assert problems(one, version) == []


def test_the_namespace_enforces_the_restricted_level():
    (namespace,) = of_kind("Namespace")
    levels = {name: value for name, value in namespace["metadata"]["labels"].items() if "pod-security" in name}
    assert levels == {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "audit", "warn")}


def test_submitters_may_do_what_the_commands_need_and_no_more():
    (role,) = of_kind("Role")
    assert rights(role) == {
        "jobs": {"get", "list", "watch", "create", "patch", "delete"},
        "configmaps": {"get", "list", "create", "patch", "delete"},
        "pods": {"get", "list", "watch", "create", "delete"},
        "pods/log": {"get"},
        "pods/exec": {"create", "get"},
        "events": READ,
        "persistentvolumeclaims": READ,
        "resourcequotas": READ,
        "localqueues": READ,
        "workloads": READ,
    }
    (binding,) = of_kind("RoleBinding")
    assert binding["roleRef"]["name"] == role["metadata"]["name"] == "specbatch-submitter"


def test_the_role_allows_what_every_command_says_it_needs():
    (role,) = of_kind("Role")
    assert asked([*all_needed(), *OF_KUEUE]) - granted(role) == set()


def test_runs_have_no_token_and_no_rights():
    (account,) = of_kind("ServiceAccount")
    assert account["automountServiceAccountToken"] is False
    assert all(
        subject["name"] != account["metadata"]["name"] for one in of_kind("RoleBinding") for subject in one["subjects"]
    )


@pytest.mark.parametrize("path", RUNNABLE, ids=lambda path: path.stem)
def test_the_claims_that_files_in_job_name_are_there(path):
    volumes = yaml.safe_load(path.read_text(encoding="utf-8"))["spec"]["job"]["volumes"]
    named = {volume["claimName"] for volume in volumes.values()}
    assert named <= {one["metadata"]["name"] for one in of_kind("PersistentVolumeClaim")}


def test_the_network_policies_let_nobody_in_and_https_out():
    for policy in of_kind("NetworkPolicy"):
        assert "ingress" not in policy["spec"]
        assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
        assert allows(policy, "192.0.2.1", 443)
        assert not any(allows(policy, address, 443) for address in METADATA)


def test_the_pod_for_uploads_is_one_that_restricted_namespaces_take():
    claim, pod = yaml.safe_load_all((K8S / "upload.yaml").read_text(encoding="utf-8"))
    assert violations(pod) == []
    for version in VERSIONS:
        assert [*problems(claim, version), *problems(pod, version)] == []
    assert pod["spec"]["containers"][0]["image"] == JobSpec().image
    assert pod["spec"]["securityContext"]["runAsUser"] == USER


def test_another_port_is_one_patch_in_an_overlay(tmp_path):
    """The patch that the manifest itself shows."""
    shown = (K8S / "network-policy.yaml").read_text(encoding="utf-8")
    lines = [line[2:] for line in shown.splitlines() if line.startswith("#   ")]
    overlay = {"resources": [_relative(tmp_path, K8S)], **yaml.safe_load("\n".join(lines))}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    allowed = {one["metadata"]["name"]: allows(one, "192.0.2.1", 9000) for one in kustomized(tmp_path) if one["kind"] == "NetworkPolicy"}  # fmt: skip
    assert allowed == {"specbatch-runs": True, "specbatch-fetch": False}


def test_reading_the_whole_cluster_is_an_option_that_only_reads(tmp_path):
    overlay = tmp_path / "overlay"
    overlay.mkdir()
    (overlay / "kustomization.yaml").write_text(
        yaml.safe_dump(
            {
                "resources": [_relative(overlay, K8S)],
                "components": [_relative(overlay, K8S / "components/cluster-reader")],
            }
        )
    )
    added = [one for one in kustomized(overlay) if one["kind"].startswith("ClusterRole")]
    role, binding = sorted(added, key=lambda one: one["kind"])
    assert all(verbs == READ for verbs in rights(role).values())
    assert {"nodes", "pods", "storageclasses"} <= rights(role).keys()
    assert asked(HELPFUL) - granted(role) == set()
    assert "secrets" not in rights(role)
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert [said for version in VERSIONS for one in added for said in problems(one, version)] == []


def _relative(folder: Path, target: Path) -> str:
    return str(Path(*[".."] * len(folder.resolve().parts[1:]), *target.parts[1:]))


def test_the_golden_job_is_a_job_that_restricted_namespaces_take():
    (golden,) = (K8S / "golden").glob("*.yaml")
    config_map, job = yaml.safe_load_all(golden.read_text(encoding="utf-8"))
    assert violations(job["spec"]["template"]) == []
    assert config_map["metadata"]["name"] == job["metadata"]["name"]
    for version in VERSIONS:
        assert [*problems(config_map, version), *problems(job, version)] == []
