"""Results on a volume: read through a pod that is there for as long as that takes."""

import signal

import kubernetes_validate
import pytest

from specbatch.cluster.client.kinds import CLAIMS, CONFIG_MAPS, EVENTS, JOBS, PODS
from specbatch.cluster.fetch import reader_pod
from specbatch.cluster.fetch.reader_manifest import reader_pod as manifest
from specbatch.cluster.fetch.receive import Receiver
from specbatch.cluster.fetch.results_of_run import results_of, spec_of
from specbatch.cluster.manifests.job import render
from specbatch.errors import ClusterError, ResultsError
from specbatch.results.collect.collect import collect
from tests.cluster.job_objects import pod_of, spec, submitted
from tests.cluster.readers import RUNNING, Node
from tests.results.collect_runs import write_run

THERE = "/results/nightly"


@pytest.fixture(autouse=True)
def quickly(monkeypatch):
    monkeypatch.setattr(reader_pod, "_POLL_SECONDS", 0.01)


@pytest.fixture
def run_dir(tmp_path):
    write_run(tmp_path / "volume" / "nightly", 50, shards=2)
    return tmp_path / "volume" / "nightly"


@pytest.fixture
def place(tmp_path):
    (tmp_path / "here").mkdir()
    return tmp_path / "here"


def fetched(api, job, place, out, *, partial=False):
    """collect of a Job: what was said, and what came of it."""
    said, cluster = [], api.cluster()
    with results_of(cluster, spec_of(cluster, job), job, place, said.append) as source:
        done = collect(source, out, partial=partial)
    assert list(place.iterdir()) == []
    return said, done


def readers(api):
    return [pod for pod in api.objects(PODS) if pod["metadata"]["name"].endswith("-reader")]


def template_of(**job):
    return render(spec(**job), {}).job["spec"]["template"]


def test_files_come_from_the_volume_and_the_pod_and_the_files_are_gone_afterwards(api, node, place, tmp_path):
    job = submitted(api)
    said, done = fetched(api, job, place, tmp_path / "out.jsonl")
    assert done.complete
    assert done.results == 50
    assert said[0] == f"reading claim specbatch-results through pod {job['metadata']['name']}-reader"
    assert readers(api) == []


def test_the_pod_may_only_read_and_is_the_runs_own_in_what_counts():
    chosen = {
        "node_selector": {"disk": "ssd"},
        "tolerations": [{"key": "dedicated", "operator": "Exists"}],
        "image_pull_secrets": [{"name": "login"}],
        "image": "registry/runner:2",
        "queue_name": "team",
        "volumes": {"results": {"claimName": "c", "subPath": "a/b"}, "data": {"claimName": "d"}},
    }
    job = render(spec(**chosen), {}).job
    job["metadata"]["uid"] = "uid"
    stored = {
        **job["spec"]["template"]["metadata"]["labels"],
        "batch.kubernetes.io/controller-uid": "uid",
        "kueue.x-k8s.io/queue-name": "team",
    }
    pod = manifest(job["spec"]["template"], "/results", name="x-reader", labels=stored, owner=job, node="n1")
    container, body = pod["spec"]["containers"][0], pod["spec"]
    assert container["image"] == "registry/runner:2"
    assert container["volumeMounts"] == [
        {"name": "results", "mountPath": "/results", "subPath": "a/b", "readOnly": True}
    ]
    assert [one["name"] for one in body["volumes"]] == ["results"]
    assert (body["nodeSelector"], body["imagePullSecrets"], body["nodeName"]) == (
        {"disk": "ssd"},
        [{"name": "login"}],
        "n1",
    )
    assert body["tolerations"][0]["key"] == "dedicated"
    assert container["resources"]["limits"].keys() == {"cpu", "memory"}
    assert pod["metadata"]["labels"]["app.kubernetes.io/component"] == "reader"
    assert not [name for name in pod["metadata"]["labels"] if name.startswith(("batch.", "kueue."))]
    assert pod["metadata"]["ownerReferences"] == [
        {"apiVersion": "batch/v1", "kind": "Job", "name": job["metadata"]["name"], "uid": "uid"}
    ]
    for version in ("1.30", "1.37"):
        kubernetes_validate.validate(pod, version, strict=True)


def test_the_pod_passes_the_restricted_level():
    pod = manifest(template_of(), "/results", name="x-reader", labels={})["spec"]
    container = pod["containers"][0]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert pod["automountServiceAccountToken"] is False
    assert 0 < pod["activeDeadlineSeconds"] <= 6 * 3600


def test_who_the_pods_run_as_is_kept_from_the_template():
    changed = {"spec": {"securityContext": {"runAsUser": 5}, "containers": [{"name": "runner", "image": "other"}]}}
    pod = manifest(template_of(pod_template=changed), "/results", name="x", labels={})["spec"]
    assert pod["securityContext"]["runAsUser"] == 5
    assert pod["containers"][0]["image"] == "other"


@pytest.mark.parametrize("volume", [{"emptyDir": {}}, None])
def test_results_that_went_with_their_pods_are_an_error(volume):
    template = template_of()
    template["spec"]["volumes"] = [{"name": "results", **volume}] if volume else []
    with pytest.raises(ResultsError, match="they go with its pods") as caught:
        manifest(template, "/results", name="x", labels={})
    assert "results.publish" in caught.value.remedy


def test_published_results_are_collected_from_where_they_are(api, place):
    published = spec().spec.results.model_copy(update={"publish": "s3://bucket/runs/"})
    changed = spec().model_copy(update={"spec": spec().spec.model_copy(update={"results": published})})
    said = []
    with results_of(api.cluster(), changed, None, place, said.append) as source:
        assert source == "s3://bucket/runs/nightly"
    assert said == ["the run was published at s3://bucket/runs/nightly"]


@pytest.mark.slow
def test_connections_that_are_lost_are_gone_on_with(api, node, place, tmp_path):
    job = submitted(api)
    api.fail("GET", "/exec", drop="middle", times=3)
    _, done = fetched(api, job, place, tmp_path / "out.jsonl")
    assert done.results == 50
    assert len(node.sent) == 4
    assert node.sent[-1][1].startswith(("part-", "errors-"))


@pytest.mark.slow
def test_a_pod_that_is_lost_on_the_way_is_made_again(api, node, place, tmp_path):
    job = submitted(api)

    def lose(command):
        if len(node.sent) == 1:
            api.remove(PODS, f"{job['metadata']['name']}-reader")

    node.before = lose
    api.fail("GET", "/exec", drop="middle", times=1)
    assert fetched(api, job, place, tmp_path / "out.jsonl")[1].results == 50
    assert len(node.made) == 2
    assert readers(api) == []


@pytest.mark.slow
def test_the_pod_goes_with_its_job(api, node, place, tmp_path):
    job = submitted(api)
    node.before = lambda command: api.remove(JOBS, job["metadata"]["name"]) if len(node.sent) == 1 else None
    api.fail("GET", "/exec", drop="middle", times=1)
    assert fetched(api, job, place, tmp_path / "out.jsonl")[1].results == 50
    assert [bool(pod["metadata"].get("ownerReferences")) for pod in node.made] == [True, False]


def test_what_an_earlier_collect_left_is_used_or_replaced(api, node, place, tmp_path):
    job = submitted(api)
    name = f"{job['metadata']['name']}-reader"
    left = manifest(job["spec"]["template"], "/results", name=name, labels=job["metadata"]["labels"], owner=job)
    api.put(PODS, {**left, "status": RUNNING})
    assert fetched(api, job, place, tmp_path / "out.jsonl")[1].complete
    assert len(node.made) <= 1
    assert readers(api) == []
    api.put(PODS, {**left, "metadata": {**left["metadata"], "annotations": {}}, "status": RUNNING})
    assert fetched(api, job, place, tmp_path / "out.jsonl")[1].complete
    assert readers(api) == []
    api.put(PODS, {**left, "status": {"phase": "Failed", "reason": "DeadlineExceeded"}})
    assert fetched(api, job, place, tmp_path / "out.jsonl")[1].complete


@pytest.mark.parametrize("how", [KeyboardInterrupt(), SystemExit(128 + signal.SIGTERM), ResultsError("full")])
def test_whatever_ends_it_the_pod_and_the_files_are_gone(api, node, place, monkeypatch, tmp_path, how):
    job, there = submitted(api), []

    def stop(receiver, chunk):
        there.extend(readers(api))
        raise how

    monkeypatch.setattr(Receiver, "feed", stop)
    with pytest.raises(type(how)):
        fetched(api, job, place, tmp_path / "out.jsonl")
    assert len(there) == 1
    assert readers(api) == []
    assert list(place.iterdir()) == []


def waiting(reason, message=""):
    return {
        "phase": "Pending",
        "containerStatuses": [{"name": "reader", "state": {"waiting": {"reason": reason, "message": message}}}],
    }


UNSCHEDULABLE = {
    "phase": "Pending",
    "conditions": [
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes are available"}
    ],
}


@pytest.mark.parametrize(
    ("status", "event", "says"),
    [
        (waiting("ImagePullBackOff", "Back-off pulling image x"), None, "does not run: the image cannot be pulled"),
        (waiting("CreateContainerConfigError", "no user"), None, "(pod NAME: CreateContainerConfigError: no user)"),
        (UNSCHEDULABLE, None, "(pod NAME: 0/3 nodes are available)"),
        ({"phase": "Failed", "reason": "OutOfcpu", "message": "Node didn't have enough"}, None, "OutOfcpu: Node didn't have enough"),
        (waiting("ContainerCreating"), ("FailedAttachVolume", "Multi-Attach error for volume pv"), "in use by a pod elsewhere"),
        (waiting("ContainerCreating"), ("FailedMount", "no such server"), "(pod NAME: FailedMount: no such server)"),
    ],
)  # fmt: skip
def test_a_pod_that_will_not_run_is_one_error_with_what_kubernetes_says(
    api, run_dir, place, tmp_path, monkeypatch, status, event, says
):
    monkeypatch.setattr(reader_pod, "_LOOK_SECONDS", 0.05)
    monkeypatch.setattr(reader_pod, "_MOUNT_SECONDS", 0.05)
    job = submitted(api)
    with Node(api, {THERE: run_dir}, [status]) as node:
        if event:
            monkeypatch.setattr(node, "made", Warned(api, *event))
        with pytest.raises(ClusterError, match="the reader pod") as caught:
            fetched(api, job, place, tmp_path / "out.jsonl")
    assert says.replace("NAME", f"{job['metadata']['name']}-reader") in caught.value.message
    assert caught.value.remedy
    assert readers(api) == []


class Warned(list):
    """Warns of each pod that is put in."""

    def __init__(self, api, reason, message):
        super().__init__()
        self.api, self.event = (
            api,
            {"type": "Warning", "reason": reason, "message": message, "lastTimestamp": "2026-01-01T00:00:00Z"},
        )

    def append(self, pod):
        about = {"kind": "Pod", "name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]}
        self.api.put(EVENTS, {"metadata": {"name": "warning"}, "involvedObject": about, **self.event})


def test_no_run_on_the_volume_is_told_with_what_is_there(api, node, place, tmp_path):
    node.folders[THERE] = node.folders[THERE].parent / "other"
    with pytest.raises(ResultsError, match="there is no folder") as caught:
        fetched(api, submitted(api), place, tmp_path / "out.jsonl")
    assert (caught.value.where, caught.value.remedy) == ("claim specbatch-results", "there are nightly")


def test_a_volume_of_one_node_that_is_in_use_is_read_there(api, node, place, tmp_path):
    job = submitted(api, completions=2)
    api.put(PODS, pod_of(job, 0, state="succeeded", node="node-a"))
    api.put(PODS, pod_of(job, 1, node="node-b"))
    said, _ = fetched(api, job, place, tmp_path / "out.jsonl")
    assert said[0].endswith("on node node-b")
    assert node.made[0]["spec"]["nodeName"] == "node-b"
    api.put(CLAIMS, {"metadata": {"name": "specbatch-results"}, "spec": {"accessModes": ["ReadWriteMany"]}})
    assert "node node-b" not in fetched(api, job, place, tmp_path / "out.jsonl")[0][0]
    api.deny("get", "persistentvolumeclaims")
    assert fetched(api, job, place, tmp_path / "out.jsonl")[0][0].endswith("on node node-b")


def test_a_folder_of_a_node_is_read_on_that_node(api, node, place, tmp_path):
    job = submitted(api, volumes={"results": {"hostPath": "/mnt/results"}})
    api.put(PODS, pod_of(job, 0, state="succeeded", node="node-a"))
    said, _ = fetched(api, job, place, tmp_path / "out.jsonl")
    assert said[0].startswith("reading hostPath /mnt/results through pod ")
    assert said[0].endswith("on node node-a")


def test_without_its_job_the_spec_says_where_the_results_are(api, node, place, tmp_path):
    said = []
    with results_of(api.cluster(), spec(), None, place, said.append) as source:
        assert collect(source, tmp_path / "out.jsonl").complete
    assert said[0] == "reading claim specbatch-results through pod nightly-reader"


def test_a_job_without_its_config_map_is_an_error(api):
    job = submitted(api)
    api.remove(CONFIG_MAPS, job["metadata"]["name"])
    with pytest.raises(ClusterError, match="it is gone") as caught:
        spec_of(api.cluster(), job)
    assert caught.value.status == 404


def test_no_permission_to_run_commands_is_an_error_at_once(api, node, place, tmp_path):
    api.deny("create", "pods/exec")
    api.deny("get", "pods/exec")
    with pytest.raises(ClusterError) as caught:
        fetched(api, submitted(api), place, tmp_path / "out.jsonl")
    assert caught.value.status == 403
    assert readers(api) == []
