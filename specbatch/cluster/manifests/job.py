"""A spec as Kubernetes manifests: pure functions from the resolved spec to a ConfigMap and an Indexed Job.

The Helm chart makes the same objects, with labels of its own (tests/helm/test_parity.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from specbatch.api.job import SpecBatchJob
from specbatch.cluster.client.kinds import Object
from specbatch.cluster.manifests.bundled_files import check_config_size, config_data
from specbatch.cluster.manifests.canonical import go_json, sha256_of
from specbatch.cluster.manifests.failure_policy import pod_failure_policy
from specbatch.cluster.manifests.mounts import SPEC_KEY
from specbatch.cluster.manifests.names import CONFIG, CONTAINER, QUEUE, RETRY_OF, SHARDS, object_labels, object_name
from specbatch.cluster.manifests.pod import pod_template
from specbatch.cluster.manifests.pod_checks import check

SHARDS_VARIABLE = "SPECBATCH_SHARDS"  # read by runner.job


@dataclass(frozen=True, slots=True)
class Manifests:
    """The objects of a spec."""

    config_map: Object
    job: Object

    @property
    def objects(self) -> list[Object]:
        """In the order in which they are created."""
        return [self.config_map, self.job]

    @property
    def name(self) -> str:
        """Name of both."""
        name: str = self.job["metadata"]["name"]
        return name

    @property
    def config_sha256(self) -> str:
        """sha256 of the ConfigMap's content."""
        digest: str = self.job["metadata"]["annotations"][CONFIG]
        return digest


@dataclass(frozen=True, slots=True)
class Retry:
    """A Job for some shards of a run.

    Args:
        number: of the attempt, from 2.
        of: name of the Job before.
        shards: completion index i runs shards[i].
    """

    number: int
    of: str
    shards: Sequence[int]


def render(job: SpecBatchJob, files: Mapping[str, bytes], retry: Retry | None = None) -> Manifests:
    """The manifests of a spec.

    Args:
        job: the spec.
        files: the content of its bundled files (`bundled_files.read_files`).
        retry: for a Job of some shards only.

    Raises:
        SpecError: with every reason why the spec cannot run in a pod.
    """
    check(job)
    data = config_data(job, files)
    data["data"] = {SPEC_KEY: go_json(resolved(job), pretty=True) + "\n", **data["data"]}
    check_config_size(job, data)
    digest = sha256_of(data)
    name = object_name(job.metadata.name, digest, retry.number if retry else 1)
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, **_namespace(job), "labels": object_labels(job)},
        "immutable": True,  # another spec has another name
        **data,
    }
    return Manifests(config_map, _job(job, name, digest, retry))


def resolved(job: SpecBatchJob) -> Object:
    """The whole spec with every default filled in; without the namespace: the same run in another namespace has the same name."""
    return job.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"metadata": {"namespace"}})


def _job(job: SpecBatchJob, name: str, digest: str, retry: Retry | None) -> Object:
    section = job.spec.job
    labels = object_labels(job)
    if section.queue_name is not None:
        labels[QUEUE] = section.queue_name  # Kueue suspends and resumes it
    annotations = {**job.metadata.annotations, CONFIG: digest}
    template = pod_template(job, name)
    completions = section.completions
    if retry is not None:
        shards = ",".join(map(str, retry.shards))
        annotations |= {SHARDS: shards, RETRY_OF: retry.of}
        completions = len(retry.shards)
        _add_variable(template, SHARDS_VARIABLE, shards)
    optional = {
        "maxFailedIndexes": section.max_failed_indexes,
        "activeDeadlineSeconds": section.active_deadline_seconds,
        "ttlSecondsAfterFinished": section.ttl_seconds_after_finished,
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, **_namespace(job), "labels": labels, "annotations": annotations},
        "spec": {
            "completionMode": "Indexed",
            "completions": completions,
            "parallelism": min(section.parallelism or completions, completions),
            "backoffLimitPerIndex": section.backoff_limit_per_index,
            **{field: value for field, value in optional.items() if value is not None},
            "podFailurePolicy": pod_failure_policy(),
            "podReplacementPolicy": "Failed",  # never two writers of one shard
            "template": template,
        },
    }


def _namespace(job: SpecBatchJob) -> Object:
    return {} if job.metadata.namespace is None else {"namespace": job.metadata.namespace}


def _add_variable(template: Object, name: str, value: str) -> None:
    for container in template["spec"]["containers"]:
        if container["name"] == CONTAINER:
            env = [one for one in container.get("env", []) if one["name"] != name]
            container["env"] = [*env, {"name": name, "value": value}]
