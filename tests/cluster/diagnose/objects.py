"""Objects as a cluster of Kubernetes 1.30 to 1.37 has them, for the rules of why."""

import datetime as dt
import json

from specbatch.cluster.client.flags import Flags
from specbatch.cluster.diagnose.evidence import Evidence
from specbatch.cluster.diagnose.why import verdict_of
from specbatch.cluster.jobs.job_view import JobView
from specbatch.errors import ClusterError

NOW = dt.datetime(2026, 11, 23, 6, 0, tzinfo=dt.UTC)
CLOCK = NOW.timestamp()
JOB = "nightly-0123456789"
GPU = "nvidia.com/gpu"


def at(seconds_ago=0):
    return (NOW - dt.timedelta(seconds=seconds_ago)).strftime("%Y-%m-%dT%H:%M:%SZ")


def job(*, completions=1, suspend=False, conditions=(), status=None, labels=None, annotations=None, gpus=0, **spec):
    """`spec` goes over the Job's; of the pod template only what the rules look at is there."""
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": JOB,
            "namespace": "ml",
            "uid": "job-uid",
            "creationTimestamp": at(600),
            "labels": {
                "specbatch.dev/run": "nightly",
                "app.kubernetes.io/name": "specbatch",
                "app.kubernetes.io/component": "runner",
                **(labels or {}),
            },
            "annotations": {"specbatch.dev/submitted": "true"} if annotations is None else annotations,
        },
        "spec": {
            "completions": completions,
            "parallelism": completions,
            "suspend": suspend,
            "template": {"spec": pod_spec(gpus=gpus)},
            **spec,
        },
        "status": {"conditions": list(conditions), **(status or {})},
    }


def pod_spec(*, gpus=0, claims=("specbatch-results",), resources=None, **more):
    limits = {GPU: str(gpus)} if gpus else {}
    return {
        "containers": [
            {"name": "runner", "image": "ghcr.io/specbatch/runner:0.1.0", "resources": resources or {"limits": limits}}
        ],
        "volumes": [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in claims],
        "tolerations": [{"key": GPU, "operator": "Exists", "effect": "NoSchedule"}] if gpus else [],
        **more,
    }


def pod(index=0, *, node=None, phase="Pending", spec=None, name=None, made=300, deleted=None, **status):
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name or f"{JOB}-{index}-abcde",
            "namespace": "ml",
            "uid": f"uid-{name or index}",
            "creationTimestamp": at(made),
            "labels": {
                "batch.kubernetes.io/job-name": JOB,
                "batch.kubernetes.io/job-completion-index": str(index),
            },
            **({"deletionTimestamp": deleted} if deleted else {}),
        },
        "spec": {**(spec or pod_spec()), **({"nodeName": node} if node else {})},
        "status": {"phase": phase, **status},
    }


def unschedulable(message, *, index=0, **more):
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": message,
        "lastTransitionTime": at(240),
    }
    return pod(index, conditions=[condition], **more)


def waiting(reason, message="", *, index=0, **more):
    status = {
        "name": "runner",
        "image": "ghcr.io/specbatch/runner:0.1.0",
        "state": {"waiting": {"reason": reason, "message": message}},
    }
    return pod(index, node="node-a", containerStatuses=[status], startTime=at(200), **more)


def failed(code, message="", *, index=0, reason="Error", **more):
    ended = {"exitCode": code, "reason": reason, "message": message, "finishedAt": at(60)}
    status = {"name": "runner", "image": "ghcr.io/specbatch/runner:0.1.0", "state": {"terminated": ended}}
    return pod(index, node="node-a", phase="Failed", containerStatuses=[status], **more)


def running(index=0, *, started=300, **more):
    status = {"name": "runner", "state": {"running": {"startedAt": at(started)}}}
    return pod(index, node="node-a", phase="Running", containerStatuses=[status], **more)


def termination_message(code, error, remedy="", **more):
    return json.dumps(
        {"exitCode": code, "meaning": "", "error": error, **({"remedy": remedy} if remedy else {}), **more}
    )


def condition(kind, reason, message="", status="True"):
    return {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": at(50)}


def event(thing, reason, message, *, seconds_ago=100):
    about = {"kind": thing.get("kind", "PersistentVolumeClaim"), "name": thing["metadata"]["name"]}
    if "uid" in thing["metadata"]:
        about["uid"] = thing["metadata"]["uid"]
    return {
        "involvedObject": about,
        "reason": reason,
        "message": message,
        "type": "Warning",
        "lastTimestamp": at(seconds_ago),
        "firstTimestamp": at(200),
    }


def claim(name="specbatch-results", *, phase="Bound", storage_class="standard", **metadata):
    spec = {"storageClassName": storage_class} if storage_class else {}
    return {
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, **metadata},
        "spec": spec,
        "status": {"phase": phase},
    }


def storage_class(name, *, default=False):
    annotations = {"storageclass.kubernetes.io/is-default-class": "true"} if default else {}
    return {"metadata": {"name": name, "annotations": annotations}}


def node(name, *, gpus=0, labels=None, taints=(), cordoned=False, ready=True, **allocatable):
    return {
        "metadata": {"name": name, "labels": labels or {}},
        "spec": {"taints": list(taints), "unschedulable": cordoned},
        "status": {
            "allocatable": {
                "cpu": "64",
                "memory": "512Gi",
                "pods": "110",
                **({GPU: str(gpus)} if gpus else {}),
                **allocatable,
            },
            "conditions": [{"type": "Ready", "status": "True" if ready else "Unknown"}],
        },
    }


def holder(name, on, gpus, namespace="other"):
    """A pod of somebody else's."""
    owner = {"kind": "StatefulSet", "name": name}
    return {
        "metadata": {"name": f"{name}-0", "namespace": namespace, "ownerReferences": [owner]},
        "spec": {"nodeName": on, "containers": [{"name": "c", "resources": {"requests": {GPU: str(gpus)}}}]},
        "status": {"phase": "Running"},
    }


class Closed:
    """A cluster where nothing may be read."""

    namespace = "ml"
    flags = Flags(namespace="ml")

    def kubectl(self):
        return self.flags.kubectl()

    def list(self, kind, **_):
        raise ClusterError(f"not permitted to list {kind.plural}", status=403)

    def find(self, kind, name):
        raise ClusterError(f"not permitted to get {kind.plural} {name}", status=403)

    def log(self, pod, **_):
        raise ClusterError(f"not permitted to get pods/log {pod}", status=403)


BOUND = {"specbatch-results": claim()}


def verdict_on(
    *pods, the_job=None, nodes=None, others=(), claims=BOUND, events=(), classes=None, objects=None, logs=None, **more
):
    """The verdict, from these parts of the evidence; `nodes` None means that they may not be read."""
    there = {
        "persistentvolumeclaims": None if claims is None else claims.values(),
        "storageclasses": classes,
        "nodes": nodes,
        "pods of all namespaces": others,
        "events": events,
        **(objects or {}),
    }
    view = JobView(the_job or job(completions=max(1, len(pods))), list(pods))
    there = {plural: list(ones) for plural, ones in there.items() if ones is not None}
    there |= {f"pods/log/{name}": line for name, line in (logs or {}).items()}
    return verdict_of(Evidence(Closed(), view, objects=there, **{"clock": CLOCK, **more}))


def cause_of(*pods, **more):
    return verdict_on(*pods, **more).finding.cause
