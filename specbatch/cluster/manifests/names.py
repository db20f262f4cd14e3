"""Names, labels and annotations of a run's objects."""

from __future__ import annotations

from collections.abc import Mapping

from specbatch import __version__
from specbatch.api.job import SpecBatchJob

RUN = "specbatch.dev/run"  # label: metadata.name of the spec
CONFIG = "specbatch.dev/config-sha256"  # annotation of a Job: sha256 of its ConfigMap's content
SUBMITTED = (
    "specbatch.dev/submitted"  # annotation of a Job that `submit` has started: later, a user or Kueue sets `suspend`
)
CANCELLED = "specbatch.dev/cancelled"  # annotation of a Job that `cancel` has stopped; `resume` removes it
SHARDS = "specbatch.dev/shards"  # annotation of a retry: the shard of each of its indexes
RETRY_OF = "specbatch.dev/retry-of"  # annotation of a retry: the Job before it
ROW_COUNTS = "specbatch.dev/rows-seen"  # annotation of a Job that `suspend` or `cancel` has stopped: rows of each shard
QUEUE = "kueue.x-k8s.io/queue-name"  # label by which Kueue manages a Job
COMPONENT = "app.kubernetes.io/component"  # label: what a Job or pod does: one of the next three

CONTAINER = "runner"
READER = "reader"
FETCH = "fetch"

_HASH_DIGITS = 10
# 63 characters of a pod's host name, less "-" and the hash, "-r99" of a retry, and "-" and five digits of the index.
RUN_CHARS = 63 - 1 - _HASH_DIGITS - 4 - 6


def object_name(run: str, config_sha256: str, retry: int = 1) -> str:
    """The name of the Job and of its ConfigMap: the run and a hash, so that the same spec finds its own Job again.

    Args:
        run: the spec's metadata.name.
        config_sha256: of the ConfigMap's content.
        retry: number of the attempt of the same spec; the first has no suffix.
    """
    suffix = f"-r{retry}" if retry > 1 else ""
    return f"{run[:RUN_CHARS].rstrip('-')}-{config_sha256[:_HASH_DIGITS]}{suffix}"


def pod_labels(job: SpecBatchJob) -> dict[str, str]:
    """The labels of a pod: the spec's own, the recommended ones, and the run."""
    name = job.metadata.name
    return {
        **job.metadata.labels,
        "app.kubernetes.io/name": "specbatch",
        "app.kubernetes.io/instance": name,
        "app.kubernetes.io/version": __version__,
        COMPONENT: CONTAINER,
        "app.kubernetes.io/part-of": "specbatch",
        RUN: name,
    }


def object_labels(job: SpecBatchJob) -> dict[str, str]:
    """The labels of Job and ConfigMap; Helm puts its own name for managed-by."""
    return {**pod_labels(job), "app.kubernetes.io/managed-by": "specbatch"}


def run_selector(run: str) -> Mapping[str, str]:
    """The selector of a run's Jobs, ConfigMaps and pods."""
    return {"app.kubernetes.io/name": "specbatch", RUN: run}
