"""Rules of the Kubernetes section."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from specbatch.api.job import SpecBatchJob
from specbatch.api.paths import path_text
from specbatch.api.quantity import quantity_value
from specbatch.api.rules.rule import rule
from specbatch.api.secret_env import looks_secret
from specbatch.errors import Problem

_KEPT_FOR_THE_POD = {"JOB_COMPLETION_INDEX": "Kubernetes sets it", "CUDA_VISIBLE_DEVICES": "the device plugin sets it"}


@rule("job.env")
def _env_holds_no_secrets(job: SpecBatchJob) -> Iterator[Problem]:
    for name, value in job.spec.job.env.items():
        if looks_secret(name, value):  # the value is not repeated: it would end in logs
            yield Problem(
                f"spec.job.env.{name}",
                "looks like a secret, and a spec is stored in plain text",
                f"keep it in a Secret, and write secretEnv: {{{name}: {{name: my-secret, key: {name.lower()}}}}}",
            )
        if name in _KEPT_FOR_THE_POD:
            yield Problem(f"spec.job.env.{name}", f"cannot be set: {_KEPT_FOR_THE_POD[name]}", "leave it out")


@rule("job.podTemplate")
def _pod_template_holds_no_secrets(job: SpecBatchJob) -> Iterator[Problem]:
    for name, value in _literal_env(job.spec.job.pod_template):
        if looks_secret(name, value):
            yield Problem(
                "spec.job.podTemplate",
                f"the value of {name} looks like a secret, and a spec is stored in plain text",
                "keep it in a Secret, and use valueFrom.secretKeyRef or job.secretEnv",
            )


def _literal_env(part: Any) -> Iterator[tuple[str, str]]:
    if isinstance(part, dict):
        if isinstance(part.get("name"), str) and isinstance(part.get("value"), str):
            yield part["name"], part["value"]
        for inner in part.values():
            yield from _literal_env(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from _literal_env(inner)


@rule("job.env", "job.secretEnv")
def _a_variable_has_one_source(job: SpecBatchJob) -> Iterator[Problem]:
    for name in job.spec.job.env.keys() & job.spec.job.secret_env.keys():
        yield Problem(f"spec.job.secretEnv.{name}", f"{name} is in job.env as well", "keep one of them")


@rule("job.completions", "job.parallelism")
def _no_more_pods_than_shards(job: SpecBatchJob) -> Iterator[Problem]:
    parallelism, completions = job.spec.job.parallelism, job.spec.job.completions
    if parallelism is not None and parallelism > completions:
        yield Problem(
            "spec.job.parallelism",
            f"{parallelism} pods at once, but there are only {completions} (job.completions)",
            "raise job.completions, or leave parallelism out",
        )


@rule("job.resources", "job.gpuResourceName")
def _gpus_are_asked_for_once(job: SpecBatchJob) -> Iterator[Problem]:
    resources, gpu = job.spec.job.resources, job.spec.job.gpu_resource_name
    for part, amounts in (("requests", resources.requests), ("limits", resources.limits)):
        if gpu in amounts:
            yield Problem(
                path_text(("spec", "job", "resources", part, gpu)),
                "GPUs are asked for by placement.gpus",
                f"set placement.gpus to {amounts[gpu]}, and leave this out",
            )


@rule("job.resources")
def _requests_stay_within_limits(job: SpecBatchJob) -> Iterator[Problem]:
    requests, limits = job.spec.job.resources.requests, job.spec.job.resources.limits
    for name in requests.keys() & limits.keys():
        if quantity_value(requests[name]) > quantity_value(limits[name]):
            yield Problem(
                path_text(("spec", "job", "resources", "requests", name)),
                f"{requests[name]} is more than the limit, which is {limits[name]}",
                "lower the request, or raise the limit",
            )


@rule("job.terminationGracePeriodSeconds", "results.fsyncSeconds")
def _grace_period_covers_the_last_write(job: SpecBatchJob) -> Iterator[Problem]:
    grace, fsync = job.spec.job.termination_grace_period_seconds, job.spec.results.fsync_seconds
    if grace <= fsync:
        yield Problem(
            "spec.job.terminationGracePeriodSeconds",
            f"{grace} is not longer than results.fsyncSeconds, which is {fsync:g}",
            "raise it, or lower results.fsyncSeconds",
        )


@rule("job.tolerations")
def _tolerations_can_match(job: SpecBatchJob) -> Iterator[Problem]:
    for index, toleration in enumerate(job.spec.job.tolerations):
        path = f"spec.job.tolerations[{index}]"
        if toleration.operator == "Exists" and toleration.value is not None:
            yield Problem(f"{path}.value", "operator Exists takes no value", "leave value out, or use operator Equal")
        if toleration.operator == "Equal" and toleration.key is None:
            yield Problem(f"{path}.key", "is required with operator Equal", "add key, or use operator Exists")
        if toleration.toleration_seconds is not None and toleration.effect != "NoExecute":
            yield Problem(
                f"{path}.tolerationSeconds", "needs effect NoExecute", "set effect to NoExecute, or leave it out"
            )


def _volumes(job: SpecBatchJob) -> Iterator[tuple[str, tuple[str, ...], str]]:
    """The path, the given sources and the mount path of every volume."""
    volumes = job.spec.job.volumes
    for name, volume in (("results", volumes.results), ("modelCache", volumes.model_cache), ("data", volumes.data)):
        if volume is not None:
            yield f"spec.job.volumes.{name}", volume.sources, volume.mount_path
    for index, extra in enumerate(volumes.extra):
        yield f"spec.job.volumes.extra[{index}]", extra.sources, extra.mount_path


@rule("job.volumes")
def _a_volume_has_one_source_and_its_own_place(job: SpecBatchJob) -> Iterator[Problem]:
    taken: dict[str, str] = {}
    for path, sources, mount_path in _volumes(job):
        if len(sources) != 1:
            found = "none is given" if not sources else f"{' and '.join(sources)} are given"
            remedy = "claimName: NAME is the usual one" if not sources else "keep one of them"
            yield Problem(path, f"takes exactly one of claimName, hostPath, emptyDir and csi, but {found}", remedy)
        place = str(PurePosixPath(mount_path))
        if place in taken:
            yield Problem(f"{path}.mountPath", f"{place} is taken by {taken[place]}", "mount one of them elsewhere")
        taken[place] = path
    names = [extra.name for extra in job.spec.job.volumes.extra]
    for index, name in enumerate(names):
        if name in names[:index]:
            yield Problem(f"spec.job.volumes.extra[{index}].name", f"{name} is there twice", "rename one of them")


@rule("job.volumes.results", "results.publish")
def _results_outlive_the_pod(job: SpecBatchJob) -> Iterator[Problem]:
    volume = job.spec.job.volumes.results
    if volume is not None and volume.sources == ("emptyDir",) and job.spec.results.publish is None:
        yield Problem(
            "spec.job.volumes.results",
            "an emptyDir is deleted with the pod, and the results with it",
            "use claimName, or set results.publish",
        )
