"""Loading a spec file for the cluster, with the overrides of the command line and its bundled files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from specbatch.api.job import SpecBatchJob
from specbatch.api.loading.local_paths import load_spec_here
from specbatch.cluster.manifests.bundled_files import read_files


def load_for_cluster(
    file: str, overrides: Sequence[str], *, name: str | None, namespace: str | None, folder: Path
) -> tuple[SpecBatchJob, dict[str, bytes]]:
    """The spec, and the content of its bundled files by path.

    Args:
        file: a YAML file, or - for standard input.
        overrides: `path=value` changes.
        name: overrides metadata.name.
        namespace: overrides metadata.namespace.
        folder: the spec's relative paths are relative to it.

    Raises:
        SpecError: with every problem.
    """
    given = {"metadata.name": name, "metadata.namespace": namespace}
    changes = [f"{path}={json.dumps(value)}" for path, value in given.items() if value is not None]
    job = load_spec_here(file, [*overrides, *changes])
    return job, read_files(job, folder)
