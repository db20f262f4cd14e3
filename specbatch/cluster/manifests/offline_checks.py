"""What `submit` would say of a valid spec before it asks a cluster."""

from __future__ import annotations

from pathlib import Path

from specbatch.api.job import SpecBatchJob
from specbatch.cluster.manifests.bundled_files import read_files
from specbatch.cluster.manifests.job import render
from specbatch.cluster.manifests.pod_checks import pod_problems
from specbatch.errors import Problem, SpecError


def offline_problems(job: SpecBatchJob, folder: Path) -> list[Problem]:
    """All of it, for `validate --for cluster`.

    Args:
        job: the spec.
        folder: its relative paths are relative to it: the current directory of `submit`.
    """
    found = pod_problems(job)
    try:
        files = read_files(job, folder)
        if not found:
            render(job, files)  # what is left: the size of the ConfigMap
    except SpecError as error:
        found += error.problems
    return found
