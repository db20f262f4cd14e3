"""A spec file on its way to the cluster: what the command line says over it, and the files that travel with it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from specbatch.api.job import SpecBatchJob
from specbatch.api.loading import load_spec
from specbatch.cluster.manifests.bundled_files import read_files


def load_for_cluster(
    file: str, overrides: Sequence[str], *, name: str | None, namespace: str | None, folder: Path
) -> tuple[SpecBatchJob, dict[str, bytes]]:
    """The spec, and the content of the files that travel with it, by their paths.

    Args:
        file: a YAML file, or - for standard input.
        overrides: `path=value` changes.
        name: goes over metadata.name, where it is given.
        namespace: goes over metadata.namespace.
        folder: what the spec's relative paths are relative to.

    Raises:
        SpecError: with every problem.
    """
    said = {"metadata.name": name, "metadata.namespace": namespace}
    changes = [f"{path}={json.dumps(value)}" for path, value in said.items() if value is not None]
    job = load_spec(file, [*overrides, *changes])
    return job, read_files(job, folder)
