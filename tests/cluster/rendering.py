"""Manifests of small specs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from specbatch.api import SpecBatchJob
from specbatch.cluster.manifests.job import Manifests, render
from specbatch.errors import Problem, SpecError
from tests.api import specs

ROOT = Path(__file__).parents[2]
JOBS = sorted((ROOT / "job").glob("*.yaml"))
RUNNABLE = [
    path for path in JOBS if path.stem != "smollm2"
]  # which is for a machine of one's own: its model is a folder there
ON_A_VOLUME = "volumes: {results: {claimName: results}}"


def job(section: str = "{}", *, spec: str = "{}", metadata: str = "{}") -> SpecBatchJob:
    """A spec whose dataset lies in a store and whose results lie on a volume, with `section` (YAML) in its job section."""
    changes = {"dataset": {"uri": "s3://bucket/rows.jsonl"}} | yaml.safe_load(spec)
    changes["job"] = yaml.safe_load(f"{{{ON_A_VOLUME}}}") | yaml.safe_load(section)
    return specs.job(yaml.safe_dump(changes), metadata=metadata)


def rendered(
    section: str = "{}", *, spec: str = "{}", metadata: str = "{}", files: dict[str, bytes] | None = None
) -> Manifests:
    return render(job(section, spec=spec, metadata=metadata), files or {})


def pod(manifests: Manifests) -> dict[str, Any]:
    """The pod's spec."""
    found: dict[str, Any] = manifests.job["spec"]["template"]["spec"]
    return found


def container(manifests: Manifests, name: str = "runner") -> dict[str, Any]:
    return next(one for one in pod(manifests)["containers"] if one["name"] == name)


def env(manifests: Manifests) -> dict[str, Any]:
    return {one["name"]: one.get("value", one.get("valueFrom")) for one in container(manifests)["env"]}


def problems(section: str = "{}", *, spec: str = "{}", files: dict[str, bytes] | None = None) -> tuple[Problem, ...]:
    """What rendering a spec is answered with."""
    with pytest.raises(SpecError) as caught:
        rendered(section, spec=spec, files=files)
    return caught.value.problems
