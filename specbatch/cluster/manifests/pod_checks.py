"""Checks of a spec for pods, before anything is sent to a cluster: what works on this machine and not in a pod."""

from __future__ import annotations

from collections.abc import Iterator

from specbatch.api.job import SpecBatchJob
from specbatch.api.volumes import VolumeSpec
from specbatch.cluster.manifests.bundled_files import bundled_files, local_path_problems
from specbatch.cluster.manifests.mounts import OWN_PLACES, OWN_VOLUMES, SPEC_FOLDER, place, results_folder
from specbatch.cluster.manifests.names import CONTAINER
from specbatch.errors import Problem, SpecError
from specbatch.redact import holds_secret


def pod_problems(job: SpecBatchJob) -> list[Problem]:
    """Every reason why a spec cannot run in a pod."""
    return [
        *_uris_are_for_everyone(job),
        *_results_are_kept(job),
        *_places_are_free(job),
        *_files_have_places(job),
        *local_path_problems(job),
        *_template_is_mergeable(job),
    ]


def check(job: SpecBatchJob) -> None:
    """Checks that a spec can run in a pod.

    Raises:
        SpecError: with every problem.
    """
    problems = pod_problems(job)
    if problems:
        raise SpecError(problems, source=job.metadata.name)


def _uris_are_for_everyone(job: SpecBatchJob) -> Iterator[Problem]:
    if holds_secret(job.spec.dataset.uri):  # the value is not repeated: it would be logged
        yield Problem(
            "spec.dataset.uri",
            "holds a signature or token, which whoever may read ConfigMaps would see",
            "give the URI without it (s3://, gs://, abfs://) and the credentials in job.secretEnvFrom, or put the file on a volume",
        )


def _results_are_kept(job: SpecBatchJob) -> Iterator[Problem]:
    volume, results = job.spec.job.volumes.results, job.spec.results
    if volume is None and results.publish is None:
        yield Problem(
            "spec.job.volumes.results",
            "is not given, and the results would be lost with the pod",
            "set job.volumes.results: {claimName: NAME} (a PersistentVolumeClaim), or results.publish",
        )
    if results.dir.startswith("~"):
        yield Problem("spec.results.dir", f"{results.dir} means nothing in a pod", "give a path such as /results")
    elif volume is not None:
        folder, mount = results_folder(job), place(volume.mount_path)
        if not _lies_on(folder, mount):
            yield Problem(
                "spec.results.dir",
                f"{results.dir} is {folder} in the pod, and job.volumes.results is mounted at {mount}",
                f"set results.dir to {mount}, or volumes.results.mountPath to {folder}",
            )


def _places_are_free(job: SpecBatchJob) -> Iterator[Problem]:
    volumes = job.spec.job.volumes
    for index, extra in enumerate(volumes.extra):
        if extra.name in OWN_VOLUMES | {"results", "model-cache", "data"}:
            yield Problem(
                f"spec.job.volumes.extra[{index}].name", f"{extra.name} is a name of specbatch's own", "choose another"
            )
    for volume in volumes.all().values():
        mount = place(volume.mount_path)
        if mount in OWN_PLACES | {"/"}:
            yield Problem("spec.job.volumes", f"nothing may be mounted at {mount}", "choose another mountPath")


def _files_have_places(job: SpecBatchJob) -> Iterator[Problem]:
    """A bundled file is mounted at its path: no runtime can do that inside a read-only volume."""
    closed = {place(volume.mount_path) for volume in job.spec.job.volumes.all().values() if _is_read_only(volume)}
    taken: set[str] = set()
    for file in bundled_files(job):
        path = place(file.path)
        if path in taken:
            yield Problem(file.field, f"{file.path} is the dataset already", "name another file")
        taken.add(path)
        for mount in sorted(closed | {SPEC_FOLDER}):
            if _lies_on(path, mount):
                yield Problem(
                    file.field,
                    f"{file.path} would be {path} in the pod, and {mount} is a read-only volume there",
                    f"give {path}, if the file lies on that volume; or put it into another folder here",
                )


def _is_read_only(volume: VolumeSpec) -> bool:
    return bool(getattr(volume, "read_only", False))


def _lies_on(path: str, mount: str) -> bool:
    return mount == "/" or f"{path}/".startswith(f"{mount}/")


def _template_is_mergeable(job: SpecBatchJob) -> Iterator[Problem]:
    """The shape that the merge relies on; the API server checks the rest."""
    template = job.spec.job.pod_template
    for name in sorted(template.keys() - {"metadata", "spec"}):
        yield Problem(f"spec.job.podTemplate.{name}", "is no part of a pod template", "it has metadata and spec")
    for name in template.keys() & {"metadata", "spec"}:
        if not isinstance(template[name], dict):
            yield Problem(f"spec.job.podTemplate.{name}", "is not a map", "see kubectl explain pod")
    spec = template.get("spec")
    containers = spec.get("containers", []) if isinstance(spec, dict) else []
    if not isinstance(containers, list) or not all(isinstance(_name(one), str) for one in containers):
        yield Problem(
            "spec.job.podTemplate.spec.containers", "is not a list of containers with names", f"ours is {CONTAINER}"
        )


def _name(container: object) -> object:
    return container.get("name") if isinstance(container, dict) else None
