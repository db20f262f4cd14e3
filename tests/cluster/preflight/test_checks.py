"""What is found before a submit: everything at once, errors that stop it, warnings that do not."""

import pytest

from specbatch.api import load_spec
from specbatch.cluster.client.kinds import LOCAL_QUEUES, NAMESPACES, SECRETS, STORAGE_CLASSES
from specbatch.cluster.manifests.offline_checks import offline_problems
from specbatch.cluster.preflight.checks import RefusedError, preflight, stop_at_errors
from specbatch.cluster.preflight.permissions import Uses
from tests.cluster.rendering import ROOT, RUNNABLE, job
from tests.cluster.submitting import put_claim, put_node, rendered

GPUS = ["placement.gpus=8", "placement.strategy=same"]
TAINT = {"key": "dedicated", "value": "ml", "effect": "NoSchedule"}


@pytest.fixture
def cluster_is_fine(api):
    put_claim(api)
    put_node(api, "node-a", nvidia_com__gpu="8")


def found(api, *overrides, uses=None, level=None):
    findings = preflight(api.cluster(), rendered(*overrides), uses or Uses())
    return [str(finding) for finding in findings if level in {None, finding.severity}]


@pytest.mark.usefixtures("cluster_is_fine")
def test_where_all_is_well_nothing_is_said(api):
    assert found(api) == []
    assert found(api, *GPUS) == []


def test_everything_comes_at_once(api):
    api.deny("create", "jobs")
    secret = 'job.secretEnv={"HF_TOKEN": {name: hf, key: token}}'
    findings = preflight(api.cluster(), rendered(secret), Uses())
    with pytest.raises(RefusedError) as refused:
        stop_at_errors(findings, where="namespace default")
    text = str(refused.value)
    assert "3 problems" in text
    for part in (
        "create jobs",
        "the claim specbatch-results",
        "the Secret hf",
        "kubectl -n default create secret generic hf ",
    ):
        assert part in text
    assert text.count("remedy:") == 3


def test_a_namespace_that_is_not_there_is_all_that_is_said(api):
    [problem] = [str(one) for one in preflight(api.cluster("nope"), rendered(), Uses())]
    assert "the namespace nope does not exist" in problem


def test_a_namespace_that_is_being_deleted_is_said(api):
    api.put(NAMESPACES, {"metadata": {"name": "default"}, "status": {"phase": "Terminating"}})
    assert "is being deleted" in found(api)[0]


@pytest.mark.usefixtures("cluster_is_fine")
def test_a_namespace_that_may_not_be_read_is_no_problem(api):
    api.deny("get", "namespaces")
    assert found(api) == []


@pytest.mark.usefixtures("cluster_is_fine")
@pytest.mark.parametrize(
    ("uses", "denied", "told"),
    [
        (Uses(), ("patch", "jobs"), "patch jobs"),
        (Uses(), ("create", "configmaps"), "create configmaps"),
        (Uses(wait=True), ("watch", "jobs"), "watch jobs"),
        (Uses(follow=True), ("get", "pods/log"), "get pods/log"),
        (Uses(force=True), ("delete", "jobs"), "delete jobs"),
    ],
)
def test_a_permission_counts_where_it_is_needed(api, uses, denied, told):
    api.deny(*denied)
    [problem] = found(api, uses=uses, level="error")
    assert f"not permitted: {told}" in problem
    assert "Role of k8s/" in problem
    if uses != Uses():
        assert found(api, level="error") == []


@pytest.mark.usefixtures("cluster_is_fine")
def test_permissions_that_cannot_be_asked_for_are_no_problem(api):
    api.deny("create", "selfsubjectaccessreviews")
    assert found(api) == []


@pytest.mark.parametrize(
    ("claim", "level", "told"),
    [
        ({"phase": "Lost"}, "error", "the volume of claim specbatch-results is gone"),
        ({"phase": "Pending"}, "warning", "storage class standard, which does not exist"),
        ({"modes": ["ReadWriteOnce"]}, "warning", "of 3 pods at once all must run on one node"),
        ({"modes": ["ReadWriteOncePod"]}, "warning", "of 3 pods at once one will run at a time"),
        ({"deletionTimestamp": "2026-01-01T00:00:00Z"}, "error", "is being deleted"),
    ],
)
def test_claims(api, claim, level, told):
    put_node(api, "node-a")
    put_claim(api, **claim)
    [problem] = found(api, level=level)
    assert told in problem
    assert "specbatch-results" in problem


def test_a_claim_that_waits_for_its_first_pod_is_fine(api):
    put_node(api, "node-a")
    put_claim(api, phase="Pending")
    api.put(STORAGE_CLASSES, {"metadata": {"name": "standard"}, "volumeBindingMode": "WaitForFirstConsumer"})
    assert found(api) == []


def test_one_pod_at_a_time_may_share_a_claim_of_one_node(api):
    put_node(api, "node-a")
    put_claim(api, modes=["ReadWriteOnce"])
    assert found(api, "job.parallelism=1") == []


def test_a_claim_that_only_the_pod_template_names_counts(api):
    volume = {"name": "more", "persistentVolumeClaim": {"claimName": "scratch"}}
    assert any("scratch" in problem for problem in found(api, f"job.podTemplate={{spec: {{volumes: [{volume}]}}}}"))


@pytest.mark.usefixtures("cluster_is_fine")
def test_secrets_keys_and_optional_ones(api):
    asked = [
        "job.secretEnv={HF: {name: hf, key: token}, B: {name: gone, key: x, optional: true}}",
        "job.secretEnvFrom=[{name: s3}]",
        "job.imagePullSecrets=[{name: registry}]",
    ]
    api.put(SECRETS, {"metadata": {"name": "hf"}, "data": {"TOKEN": "c2VjcmV0LXZhbHVl"}})
    problems = found(api, *asked)
    assert [problem.partition(" in namespace")[0] for problem in problems[1:]] == [
        "Secrets: the Secret s3, which the spec names, does not exist",
        "Secrets: the Secret registry, which the spec names, does not exist",
    ]
    assert "the Secret hf has no key token" in problems[0]
    assert "it has: TOKEN" in problems[0]
    assert "c2VjcmV0" not in str(problems)


@pytest.mark.usefixtures("cluster_is_fine")
def test_what_may_not_be_read_is_said_to_be_unchecked_and_stops_nothing(api):
    for plural in ("secrets", "nodes", "storageclasses"):
        api.deny("get", plural)
        api.deny("list", plural)
    put_claim(api, phase="Pending")
    asked = "job.secretEnvFrom=[{name: s3}]"
    assert found(api, asked, level="error") == []
    assert len(found(api, asked, level="unchecked")) == 3


@pytest.mark.usefixtures("cluster_is_fine")
def test_queues(api):
    asked = "job.queueName=team-a"
    assert "this cluster has no Kueue" in found(api, asked, level="error")[0]
    api.put(LOCAL_QUEUES, {"metadata": {"name": "team-b"}, "spec": {"clusterQueue": "all"}})
    assert "there is: team-b" in found(api, asked, level="error")[0]
    queue = {"metadata": {"name": "team-a"}, "spec": {"clusterQueue": "all"}}
    api.put(LOCAL_QUEUES, queue)
    assert found(api, asked) == []
    api.put(LOCAL_QUEUES, {**queue, "spec": {"clusterQueue": "all", "stopPolicy": "Hold"}})
    assert "is stopped" in found(api, asked, level="warning")[0]
    api.put(LOCAL_QUEUES, {**queue, "status": {"conditions": [{"type": "Active", "status": "False"}]}})
    assert "is not active" in found(api, asked, level="warning")[0]


def test_results_that_end_with_their_pod_are_a_warning(api):
    put_node(api, "node-a")
    [problem] = found(api, "job.volumes.results={emptyDir: {}}", "results.publish=s3://bucket/runs")
    assert "begins its shard again" in problem


class TestNodes:
    @pytest.fixture(autouse=True)
    def claim(self, api):
        put_claim(api)

    def warned(self, api, *overrides):
        assert found(api, *overrides, level="error") == []
        [problem] = found(api, *overrides, level="warning")
        return problem

    def test_too_many_gpus_for_any_node_names_what_each_has(self, api):
        put_node(api, "node-a", nvidia_com__gpu="4")
        put_node(api, "node-b", nvidia_com__gpu="2")
        problem = self.warned(api, *GPUS)
        assert (
            "asks for 8 nvidia.com/gpu, and no node has more than 4 (node node-a: 4 nvidia.com/gpu; node node-b: 2"
            in problem
        )
        assert "spec.placement.gpus to 4 or less" in problem
        assert "nodes come on demand" in problem

    def test_no_gpus_at_all(self, api):
        put_node(api, "node-a")
        assert "no node offers nvidia.com/gpu" in self.warned(api, *GPUS)

    def test_another_resource_name_counts(self, api):
        put_node(api, "node-a", nvidia_com__gpu="8")
        assert "amd.com/gpu" in self.warned(api, *GPUS, "job.gpuResourceName=amd.com/gpu")

    def test_labels_that_no_node_has_are_named_with_those_that_there_are(self, api):
        label = "nvidia.com/gpu.product"
        put_node(api, "node-a", labels={label: "NVIDIA-L4"})
        problem = self.warned(api, f"job.nodeSelector={{{label}: NVIDIA-H100}}")
        assert "no node has the label nvidia.com/gpu.product=NVIDIA-H100" in problem
        assert "NVIDIA-L4" in problem

    def test_taints_that_are_not_tolerated(self, api):
        put_node(api, "node-a", taints=[TAINT])
        assert "dedicated=ml:NoSchedule" in self.warned(api)
        assert found(api, "job.tolerations=[{key: dedicated, operator: Exists}]") == []

    def test_cordoned_nodes(self, api):
        put_node(api, "node-a", unschedulable=True)
        assert "cordoned" in self.warned(api)

    def test_more_memory_than_any_node_has(self, api):
        put_node(api, "node-a")
        problem = self.warned(api, "job.resources.requests.memory=128Gi")
        assert "128 GiB" in problem
        assert "64 GiB" in problem

    def test_a_node_for_the_memory_and_another_for_the_gpus_is_no_node(self, api):
        put_node(api, "node-a", nvidia_com__gpu="8")
        put_node(api, "node-b", memory="256Gi")
        assert "has all that a pod asks for" in self.warned(api, *GPUS, "job.resources.requests.memory=128Gi")


@pytest.mark.parametrize("path", RUNNABLE, ids=lambda path: path.stem)
def test_the_files_in_job_can_become_jobs(path):
    assert offline_problems(load_spec(str(path)), ROOT) == []


def test_a_missing_file_and_lost_results_are_told_at_once(tmp_path):
    spec = job("volumes: {results: null}", spec="{dataset: {uri: rows.jsonl}}")
    assert [one.path for one in offline_problems(spec, tmp_path)] == ["spec.job.volumes.results", "spec.dataset.uri"]


@pytest.mark.slow
def test_a_spec_that_is_too_large_for_a_config_map_is_found(tmp_path):
    (tmp_path / "rows.jsonl").write_bytes(b"x" * 890_000)
    spec = job(f"env: {{LONG: {'y' * 200_000}}}", spec="{dataset: {uri: rows.jsonl}}")
    [problem] = offline_problems(spec, tmp_path)
    assert "its ConfigMap would hold" in problem.message
