"""The chart itself: lint, package, notes, and what it makes besides a run."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import yaml

from specbatch import __version__
from tests.cluster.egress import METADATA, allows
from tests.cluster.kubernetes_schemas import VERSIONS, problems
from tests.cluster.pod_security import violations
from tests.helm.charts import CHART, HELMS, ROOT, WITH_SPEC, Refused, helm, is_test, of_kind, template

EVERYTHING = (
    *("--set", "persistence.results.create=true,persistence.modelCache.create=true"),
    *("--set", "rbac.create=true,rbac.subjects[0].kind=Group,rbac.subjects[0].name=ml"),
    *("--set", "rbac.subjects[1].kind=ServiceAccount,rbac.subjects[1].name=ci"),
    *("--set", "networkPolicy.create=true,localQueue.create=true,localQueue.name=team,localQueue.clusterQueue=all"),
)
every_helm = pytest.mark.parametrize("name", HELMS)


def plain(file: str, kind: str, of: str | None = None) -> dict:
    """An object of the plain manifests."""
    documents = yaml.safe_load_all((ROOT / "k8s" / file).read_text(encoding="utf-8"))
    return next(one for one in documents if one["kind"] == kind and of in {None, one["metadata"]["name"]})


def test_the_chart_is_of_this_version():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    assert chart["appVersion"] == chart["version"] == __version__


@every_helm
@pytest.mark.parametrize("values", [(), WITH_SPEC, (*WITH_SPEC, *EVERYTHING)], ids=["bare", "spec", "everything"])
def test_lint_has_nothing_to_say(name, values):
    said, _ = helm(name, "lint", "--strict", str(CHART), *values)
    assert "0 chart(s) failed" in said
    assert "[WARNING]" not in said
    assert "[ERROR]" not in said


@every_helm
def test_a_package_runs_the_sample_files_and_has_nothing_that_is_not_the_charts(name, tmp_path):
    _, noise = helm(name, "package", str(CHART), "-d", str(tmp_path))
    (package,) = tmp_path.iterdir()
    with tarfile.open(package) as archive:
        members = {path.removeprefix("specbatch/") for path in archive.getnames()}
    assert members >= {
        "values.schema.json",
        "generated/specbatch.json",
        "files/job/prompts/quickstart.jsonl",
        "templates/NOTES.txt",
    }
    assert members <= {str(path.relative_to(CHART)) for path in CHART.rglob("*")}
    text, _ = helm(name, "template", "rel", str(package), *WITH_SPEC)
    assert "kind: Job" in text
    assert noise == ""


@every_helm
def test_a_run_is_a_config_map_and_a_job_and_nothing_else(name):
    objects = template(name, *WITH_SPEC)
    assert sorted(one["kind"] for one in objects if not is_test(one)) == ["ConfigMap", "Job"]
    assert [one["kind"] for one in objects if is_test(one)] == ["Pod"]
    assert {one["kind"] for one in template(name, *WITH_SPEC, "--set", "tests.enabled=false")} == {"ConfigMap", "Job"}


@every_helm
def test_a_forgotten_file_is_what_an_empty_release_means(name):
    with pytest.raises(Refused, match=r"add -f FILE with a SpecBatchJob, such as -f job/quickstart\.yaml"):
        template(name)


@every_helm
def test_a_release_without_a_spec_prepares_a_namespace(name):
    objects = template(name, *EVERYTHING, "-n", "ml")
    kinds = sorted(one["kind"] for one in objects if not is_test(one))
    assert kinds == [
        "LocalQueue",
        "NetworkPolicy",
        "NetworkPolicy",
        "PersistentVolumeClaim",
        "PersistentVolumeClaim",
        "Role",
        "RoleBinding",
    ]


@pytest.mark.slow
@every_helm
def test_everything_that_the_chart_can_make_is_what_every_kubernetes_takes(name):
    objects = [one for one in template(name, *WITH_SPEC, *EVERYTHING) if one["kind"] != "LocalQueue"]  # Kueue's
    assert len(objects) == 9
    assert [said for version in VERSIONS for one in objects for said in problems(one, version)] == []


def test_everything_that_the_chart_can_make_is_labelled():
    for one in template("helm4", *WITH_SPEC, *EVERYTHING):
        labels = one["metadata"]["labels"]
        assert labels["app.kubernetes.io/name"] == labels["app.kubernetes.io/part-of"] == "specbatch"
        assert labels["app.kubernetes.io/managed-by"] == "Helm"
        assert labels["app.kubernetes.io/version"] == __version__
        assert labels["helm.sh/chart"] == f"specbatch-{__version__}"


def test_everything_goes_where_the_run_goes():
    objects = template("helm4", *WITH_SPEC, *EVERYTHING, "--set", "metadata.namespace=ml", "-n", "other")
    assert {one["metadata"]["namespace"] for one in objects} == {"ml"}


def test_claims_outlive_the_release_and_are_those_that_the_spec_names():
    own = (
        "--set",
        "spec.job.volumes.results.claimName=mine,persistence.results.create=true,persistence.results.storageClassName=fast",
    )
    claim = of_kind(template("helm4", *WITH_SPEC, *own), "PersistentVolumeClaim")
    assert claim["metadata"]["name"] == "mine"
    assert claim["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert claim["spec"] == {
        "accessModes": ["ReadWriteMany"],
        "resources": {"requests": {"storage": "100Gi"}},
        "storageClassName": "fast",
    }


def test_submitters_have_the_role_of_the_plain_manifests():
    objects = template("helm4", *EVERYTHING)
    assert of_kind(objects, "Role")["rules"] == plain("submitter.yaml", "Role")["rules"]
    assert of_kind(objects, "RoleBinding")["subjects"] == [
        {"kind": "Group", "name": "ml", "apiGroup": "rbac.authorization.k8s.io"},
        {"kind": "ServiceAccount", "name": "ci", "namespace": "default"},
    ]


def policies(*arguments):
    return {one["metadata"]["name"]: one for one in template("helm4", *arguments) if one["kind"] == "NetworkPolicy"}


def test_the_network_policies_are_those_of_the_plain_manifests():
    made = policies(*EVERYTHING)
    plain_ones = {one["metadata"]["name"]: one for one in yaml.safe_load_all((ROOT / "k8s/network-policy.yaml").read_text())}  # fmt: skip
    assert {name: one["spec"] for name, one in made.items()} == {name: one["spec"] for name, one in plain_ones.items()}


def test_ports_of_network_policies_are_parameters_and_the_metadata_of_the_cloud_is_none():
    values = ("--set", "networkPolicy.create=true,networkPolicy.ports={9000,80},networkPolicy.fetchPorts={3128}", "--set", "networkPolicy.egress[0].to[0].ipBlock.cidr=10.0.0.0/8")  # fmt: skip
    made = policies(*WITH_SPEC, *values)
    for address in METADATA:
        assert not any(allows(policy, address, port) for policy in made.values() for port in (53, 80, 3128, 9000))
    assert allows(made["specbatch-runs"], "192.0.2.1", 9000)
    assert not allows(made["specbatch-runs"], "192.0.2.1", 443)
    assert allows(made["specbatch-fetch"], "192.0.2.1", 3128)
    assert allows(made["specbatch-fetch"], "10.1.2.3", 5000)


@pytest.mark.parametrize(
    ("block", "refused"),
    [
        ("0.0.0.0/0", True),
        ("160.0.0.0/4", True),
        ("169.0.0.0/8", True),
        ("169.254.0.0/16", True),
        ("169.254.169.254/32", True),
        ("169.254.169.254", True),
        ("169.254.169.0/24", True),
        ("::/0", True),
        ("fd00:ec2::254/128", True),
        ("fd00::/8", True),
        ("10.0.0.0/8", False),
        ("169.46.0.0/16", False),
        ("169.254.20.10/32", False),
        ("169.254.169.252/32", False),
        ("2001:db8::/32", False),
    ],
)
def test_a_further_rule_that_reaches_the_metadata_of_the_cloud_is_refused(block, refused):
    values = ("--set", f"networkPolicy.create=true,networkPolicy.egress[0].to[0].ipBlock.cidr={block}")
    if refused:
        with pytest.raises(Refused, match=r"add except: \["):
            policies(*values)
        left = "fd00:ec2::254/128" if ":" in block else "169.254.169.254/32"
        values = (values[0], f"{values[1]},networkPolicy.egress[0].to[0].ipBlock.except={{{left}}}")
    assert policies(*values)


def test_a_further_rule_to_everywhere_is_refused():
    with pytest.raises(Refused, match="has no `to`"):
        policies("--set", "networkPolicy.create=true,networkPolicy.egress[0].ports[0].port=80")


@pytest.mark.slow
def test_a_queue_is_that_of_the_spec_and_needs_a_cluster_queue():
    own = ("--set", "spec.job.queueName=team,localQueue.create=true,localQueue.clusterQueue=all")
    assert of_kind(template("helm4", *WITH_SPEC, *own), "LocalQueue")["metadata"]["name"] == "team"
    with pytest.raises(Refused, match=r"set localQueue\.clusterQueue"):
        template("helm4", *WITH_SPEC, "--set", "localQueue.create=true")


@pytest.mark.slow
def test_notes_are_the_next_commands_with_the_real_names():
    said, _ = helm("helm4", "install", "rel", str(CHART), *WITH_SPEC, "-n", "ml", "--dry-run=client")
    job = of_kind(template("helm4", *WITH_SPEC), "Job")["metadata"]["name"]
    notes = said.partition("NOTES:")[2]
    assert f"is the Job {job} in namespace ml" in notes
    for command in ("status", "logs", "why", "wait", "collect"):
        assert f"specbatch {command} quickstart -n ml" in notes
    assert f"kubectl get job {job} -n ml" in notes
    assert "helm test rel -n ml" in notes


def the_test_pod() -> dict:
    (pod,) = [one for one in template("helm4", *WITH_SPEC) if is_test(one)]
    return pod


def test_the_test_needs_no_gpu_no_rights_and_passes_the_restricted_level():
    pod = the_test_pod()
    assert violations(pod) == []
    assert pod["spec"]["automountServiceAccountToken"] is False
    (container,) = pod["spec"]["containers"]  # helm test --logs reads pods of one container only
    assert container["resources"]["limits"].keys() == {"memory"}


@pytest.mark.slow
def test_the_test_runs_two_rows_and_collects_them(tmp_path):
    (script,) = the_test_pod()["spec"]["containers"]
    environment = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [*script["command"], *script["args"]],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if '"text"' in line]
    assert len(rows) == 2
