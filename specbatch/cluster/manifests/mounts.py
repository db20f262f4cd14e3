"""The volumes of a runner's pod, and where they are mounted."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from specbatch.api.job import SpecBatchJob
from specbatch.api.volumes import VolumeSpec
from specbatch.cluster.client.kinds import Object
from specbatch.cluster.manifests.bundled_files import bundled_files

SPEC_FOLDER = "/etc/specbatch"
SPEC_KEY = "spec.json"
TMP, CACHE, SHM = "/tmp", "/cache", "/dev/shm"  # noqa: S108 - an emptyDir of the pod's own

OWN_VOLUMES = {"spec", "tmp", "cache", "shm"}
OWN_PLACES = {SPEC_FOLDER, TMP, CACHE, SHM}


def results_folder(job: SpecBatchJob) -> str:
    """results.dir as an absolute path of the pod."""
    return place(job.spec.results.dir)


def place(path: str) -> str:
    """A path of the pod, absolute and normalised; relative ones are relative to /."""
    return posixpath.normpath("/" + path.lstrip("/"))


def volumes(job: SpecBatchJob, config_map: str) -> list[Object]:
    """The pod's volumes: the ConfigMap, scratch space on the node, /dev/shm in memory, and those of the spec."""
    section = job.spec.job
    return [
        {"name": "spec", "configMap": {"name": config_map}},
        {"name": "tmp", "emptyDir": {}},
        {"name": "cache", "emptyDir": {}},
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": section.shared_memory}},
        *([{"name": "results", "emptyDir": {}}] if section.volumes.results is None else []),
        *({"name": name, **_source(volume)} for name, volume in section.volumes.all().items()),
    ]


def mounts(job: SpecBatchJob) -> list[Object]:
    """The container's volumeMounts. The root filesystem is read-only: everything is written to one of these."""
    return [
        {"name": "spec", "mountPath": SPEC_FOLDER, "readOnly": True},
        *(
            {"name": "spec", "mountPath": f"/{file.path}", "subPath": file.key, "readOnly": True}
            for file in bundled_files(job)
        ),
        {"name": "tmp", "mountPath": TMP},
        {"name": "cache", "mountPath": CACHE},
        {"name": "shm", "mountPath": SHM},
        *_mounts_of_the_spec(job),
    ]


def _mounts_of_the_spec(job: SpecBatchJob) -> Iterator[Object]:
    given = job.spec.job.volumes
    if given.results is None:  # published from there: pod_checks asks for results.publish
        yield {"name": "results", "mountPath": results_folder(job)}
    for name, volume in given.all().items():
        yield {
            "name": name,
            "mountPath": place(volume.mount_path),
            **({"subPath": volume.sub_path} if volume.sub_path is not None else {}),
            **({"readOnly": True} if getattr(volume, "read_only", False) else {}),
        }


def _source(volume: VolumeSpec) -> Object:
    """The volume's source as Kubernetes has it."""
    if volume.claim_name is not None:
        return {"persistentVolumeClaim": {"claimName": volume.claim_name}}
    if volume.host_path is not None:
        return {"hostPath": {"path": volume.host_path}}
    if volume.empty_dir is not None:
        return {"emptyDir": volume.empty_dir.model_dump(by_alias=True, exclude_none=True)}
    assert volume.csi is not None, "api.rules.job lets no volume through without a source"
    source = volume.csi.model_dump(by_alias=True, exclude_none=True, exclude={"secret_name"})
    if volume.csi.secret_name is not None:
        source["nodePublishSecretRef"] = {"name": volume.csi.secret_name}
    return {"csi": source}
