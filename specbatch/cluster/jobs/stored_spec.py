"""The spec and its bundled files read back from the ConfigMap of a Job, so that the submitted file is not needed again."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from specbatch.api.job import SpecBatchJob
from specbatch.api.loading.parsing import parse_spec
from specbatch.cluster.client.kinds import Object
from specbatch.cluster.manifests.bundled_files import bundled_files
from specbatch.cluster.manifests.mounts import SPEC_KEY
from specbatch.errors import Problem, SpecError


def resolved_spec(config_map: Object) -> Mapping[str, Any]:
    """The JSON of the spec in a ConfigMap, of whatever version; empty where it holds none."""
    try:
        value = json.loads((config_map.get("data") or {}).get(SPEC_KEY, ""))
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def load_stored_spec(config_map: Object) -> SpecBatchJob:
    """The spec in a ConfigMap.

    Raises:
        SpecError: there is none, or one of another version of specbatch.
    """
    text = (config_map.get("data") or {}).get(SPEC_KEY, "")
    return parse_spec(text, source=f"ConfigMap {config_map['metadata']['name']}")


def load_stored_files(config_map: Object, job: SpecBatchJob) -> dict[str, bytes]:
    """The content of the bundled files by path, as `bundled_files.read_files` returned it.

    Raises:
        SpecError: one is missing.
    """
    texts, binaries = config_map.get("data") or {}, config_map.get("binaryData") or {}
    contents: dict[str, bytes] = {}
    for file in bundled_files(job):
        if file.key in binaries:
            contents[file.path] = base64.b64decode(binaries[file.key])
        elif file.key in texts:
            contents[file.path] = texts[file.key].encode()
        else:
            problem = Problem(file.field, f"{file.path} is not in it", "submit the spec's file again, with --force")
            raise SpecError([problem], source=f"ConfigMap {config_map['metadata']['name']}")
    return contents
