"""The manifest of a reader: a short-lived pod that mounts the volume of a run's results and sleeps, so that files can be read through exec.

It takes image, volume, node selection and user from the run's own pod template, mounts read-only, requests no GPU and little else, is owned by
the Job, and ends by its deadline where nobody deletes it.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping

from specbatch.cluster.client.kinds import Object
from specbatch.cluster.manifests.canonical import sha256_of
from specbatch.cluster.manifests.names import COMPONENT, CONTAINER, READER, RUN
from specbatch.cluster.manifests.pod import container_security_context, security_context
from specbatch.errors import ResultsError

SECONDS = 4 * 3600
MADE = "specbatch.dev/reader-sha256"  # annotation: the hash of its spec; a pod with another one is replaced

_KEPT = ("nodeSelector", "tolerations", "imagePullSecrets", "serviceAccountName")
_KEPT_LABELS = ("name", "instance", "version", "part-of")
_RESOURCES = {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "256Mi"}}


def results_volume(template: Object, folder: str) -> tuple[Object, Object]:
    """The volume of a pod template that holds a folder, and its mount.

    Raises:
        ResultsError: there is none, or it is deleted with its pod.
    """
    spec = template["spec"]
    container = _runner(spec)
    within = [one for one in container.get("volumeMounts") or () if _holds(one["mountPath"], folder)]
    mount = max(within, key=lambda one: len(posixpath.normpath(one["mountPath"])), default=None)
    volume = next((one for one in spec.get("volumes") or () if mount and one["name"] == mount["name"]), None)
    if mount is None or volume is None or "emptyDir" in volume:
        kind = "an emptyDir" if volume else "no volume"
        raise ResultsError(
            f"the results of this run are on {kind}: they go with its pods",
            where=folder,
            remedy="for the next run set job.volumes.results to a claim, or results.publish",
        )
    return volume, mount


def place_of(volume: Object) -> str:
    """A volume for people: claim specbatch-results."""
    if "persistentVolumeClaim" in volume:
        return f"claim {volume['persistentVolumeClaim']['claimName']}"
    if "hostPath" in volume:
        return f"hostPath {volume['hostPath']['path']}"
    source = next((name for name in volume if name != "name"), "volume")
    return f"{source} volume {volume['name']}"


def reader_pod(
    template: Object,
    folder: str,
    *,
    name: str,
    labels: Mapping[str, str],
    owner: Object | None = None,
    node: str = "",
    writable: bool = False,
) -> Object:
    """The pod.

    Args:
        template: of the run's pods.
        folder: where they write the results.
        name: of the reader.
        labels: of the run's Job.
        owner: the Job that owns the pod.
        node: where it must run, bypassing the scheduler.
        writable: whether it may write to the volume.

    Raises:
        ResultsError: the results are on no volume that outlives the run's pods.
    """
    volume, mount = results_volume(template, folder)
    given = template["spec"]
    runner = _runner(given)
    spec: Object = {
        "restartPolicy": "Never",
        "activeDeadlineSeconds": SECONDS,
        "terminationGracePeriodSeconds": 1,  # it has nothing to save
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": given.get("securityContext") or security_context(),
        "containers": [
            {
                "name": READER,
                "image": runner["image"],
                **({"imagePullPolicy": runner["imagePullPolicy"]} if "imagePullPolicy" in runner else {}),
                "command": ["python", "-c", f"import time; time.sleep({SECONDS})"],
                "workingDir": "/",
                "env": [{"name": "PYTHONDONTWRITEBYTECODE", "value": "1"}],
                "resources": _RESOURCES,
                "securityContext": runner.get("securityContext") or container_security_context(),
                "volumeMounts": [mount if writable else {**mount, "readOnly": True}],
            }
        ],
        "volumes": [volume],
        **{field: given[field] for field in _KEPT if given.get(field)},
        **({"nodeName": node} if node else {}),
    }
    metadata: Object = {"name": name, "labels": _labels(labels), "annotations": {MADE: sha256_of(spec)}}
    if owner is not None:
        reference = {"apiVersion": "batch/v1", "kind": "Job", "name": owner["metadata"]["name"]}
        metadata["ownerReferences"] = [{**reference, "uid": owner["metadata"]["uid"]}]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _labels(labels: Mapping[str, str]) -> dict[str, str]:
    """The recommended labels and the run's; none by which a controller would adopt the pod."""
    known = {name: labels[name] for part in _KEPT_LABELS if (name := f"app.kubernetes.io/{part}") in labels}
    return {**known, COMPONENT: READER, **({RUN: labels[RUN]} if RUN in labels else {})}


def _runner(spec: Object) -> Object:
    containers: list[Object] = spec["containers"]
    return next((one for one in containers if one["name"] == CONTAINER), containers[0])


def _holds(mount: str, folder: str) -> bool:
    mount = posixpath.normpath(mount)
    return posixpath.commonpath([mount, folder]) == mount
