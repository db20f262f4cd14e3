"""The Job that fills the claim of the models: `specbatch fetch` in the spec's own image and pod template, without GPUs.

It may run where the run itself may: same nodes, tolerations, user, Secrets and proxies. What the run alone needs is left out: the spec's
ConfigMap, results, data, further containers, the RuntimeClass of GPUs.
"""

from __future__ import annotations

from specbatch.api.job import SpecBatchJob
from specbatch.cluster.client.kinds import Object
from specbatch.cluster.manifests.canonical import sha256_of
from specbatch.cluster.manifests.failure_policy import pod_failure_policy
from specbatch.cluster.manifests.names import COMPONENT, CONFIG, CONTAINER, FETCH, RUN, object_name, pod_labels
from specbatch.cluster.manifests.pod import pod_template
from specbatch.errors import Problem, SpecError
from specbatch.plan.shapes.hub_model import hub_models

_NOT_MOUNTED = {"spec", "shm", "results", "data"}
_OF_THE_RUN = ("initContainers", "runtimeClassName", "topologySpreadConstraints", "resourceClaims", "resources", "schedulingGates")  # fmt: skip
_OFFLINE = {"HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"}
_RESOURCES = {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"memory": "4Gi"}}
_TRIES = 6
_KEPT_SECONDS = 24 * 3600


def fetch_run_name(run: str) -> str:
    """The name by which why, logs, wait and delete know the Job: nightly-fetch, of the run nightly."""
    return f"{run}-{FETCH}"  # a label's value: metadata.name has at most 52 characters


def fetch_job(job: SpecBatchJob) -> Object:
    """The Job, named by a hash of what it does; the spec has models of the hub.

    Raises:
        SpecError: the spec has no volume for them that outlives a pod.
    """
    cache = job.spec.job.volumes.model_cache
    if cache is None or cache.empty_dir is not None:
        what = "is not given" if cache is None else "is an emptyDir, which goes with its pod"
        remedy = "set job.volumes.modelCache: {claimName: specbatch-models} (a PersistentVolumeClaim of the namespace)"
        problem = Problem("spec.job.volumes.modelCache", f"{what}: there is no place to fetch the models to", remedy)
        raise SpecError([problem], source=job.metadata.name)
    run = fetch_run_name(job.metadata.name)
    labels = {**pod_labels(job), "app.kubernetes.io/instance": run, COMPONENT: FETCH, RUN: run}
    template = {"metadata": {"labels": labels}, "spec": _pod_spec(job)}
    digest = sha256_of(template)
    namespace = {} if job.metadata.namespace is None else {"namespace": job.metadata.namespace}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": object_name(run, digest),
            **namespace,
            "labels": {**labels, "app.kubernetes.io/managed-by": "specbatch"},
            "annotations": {CONFIG: digest},
        },
        "spec": {
            "completionMode": "Indexed",  # as the Jobs of runs: one kind of Job for why, logs and wait
            "completions": 1,
            "parallelism": 1,
            "backoffLimitPerIndex": _TRIES,  # each goes on where the last one was
            "ttlSecondsAfterFinished": _KEPT_SECONDS,
            "podFailurePolicy": pod_failure_policy(),
            "podReplacementPolicy": "Failed",
            "template": template,
        },
    }


def _pod_spec(job: SpecBatchJob) -> Object:
    spec = {name: value for name, value in pod_template(job, "").get("spec", {}).items() if name not in _OF_THE_RUN}
    runner = next(one for one in spec["containers"] if one["name"] == CONTAINER)
    mounts = [_writable(mount) for mount in runner["volumeMounts"] if mount["name"] not in _NOT_MOUNTED]
    mounted = {mount["name"] for mount in mounts}
    models = hub_models(job)
    code = ["--code"] if any(model.code for model in models.values()) else []
    container = {
        **runner,
        "command": ["python", "-m", "specbatch", "fetch", *dict.fromkeys(map(str, models.values())), *code],
        "env": _env(runner["env"]),
        "resources": _RESOURCES,
        "volumeMounts": mounts,
    }
    container.pop("args", None)
    return {
        **spec,
        "terminationGracePeriodSeconds": 30,
        "containers": [container],
        "volumes": [volume for volume in spec["volumes"] if volume["name"] in mounted],
    }


def _writable(mount: Object) -> Object:
    """The models' volume is read-only for runs, and is filled here."""
    if mount["name"] != "model-cache":
        return mount
    return {name: value for name, value in mount.items() if name != "readOnly"}


def _env(given: list[Object]) -> list[Object]:
    """The run's variables; it may ask the hub, and sees no GPU, which some runtimes would show it all the same."""
    kept = [one for one in given if one["name"] not in {*_OFFLINE, "NVIDIA_VISIBLE_DEVICES"}]
    return sorted([*kept, {"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"}], key=lambda one: str(one["name"]))
