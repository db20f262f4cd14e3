"""The generated files of the Helm chart, made from the types of the spec so that chart and code cannot diverge.

helm/specbatch/generated/specbatch.json holds the default of every field and the tables that templates read; values.schema.json is the schema
of the values.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from specbatch import __version__
from specbatch.api.base import SpecModel
from specbatch.api.hash import FIELDS, SECTIONS
from specbatch.api.job import SpecBatchJob
from specbatch.api.job_section import RUNNER_IMAGE, VLLM_IMAGE
from specbatch.api.quantity import Quantity
from specbatch.api.rules.pod_template import FREE_MAPS, PRIVILEGED_FIELDS, PRIVILEGED_VALUES, PRIVILEGES
from specbatch.api.secret_env import HARMLESS_NAME, HARMLESS_VALUE, REFERENCE, SECRET_NAME, SECRET_VALUE
from specbatch.api.words import Branch, field_branches, fields_by_name
from specbatch.cluster.manifests.bundled_files import COMPRESSED, NOT_IN_YAML
from specbatch.cluster.manifests.failure_policy import pod_failure_policy
from specbatch.cluster.manifests.merge import MERGE_KEYS
from specbatch.cluster.manifests.names import RUN_CHARS
from specbatch.cluster.manifests.pod import container_security_context, security_context
from specbatch.redact import SECRET_PARAMETER
from tools.helm_schema import values_schema

ROOT = Path(__file__).parent.parent
CHART = "helm/specbatch"
SUBMITTER = "k8s/submitter.yaml"
SAMPLES = tuple(f"job/prompts/{name}.jsonl" for name in ("quickstart", "spec_bench"))
KNOWLEDGE = f"{CHART}/generated/specbatch.json"
SCHEMA = f"{CHART}/values.schema.json"

_TO_TEXT = Quantity.__metadata__[0]  # makes text of numbers


def knowledge() -> str:
    """The tables that the templates read."""
    return _json(
        {
            "version": __version__,
            "types": _types(),
            "containerSecurityContext": container_security_context(),
            "images": {"runner": RUNNER_IMAGE, "vllm": VLLM_IMAGE},
            "mergeKeys": dict(MERGE_KEYS),
            "binaryEndings": list(COMPRESSED),
            "notInYaml": NOT_IN_YAML.pattern,
            "podFailurePolicy": pod_failure_policy(),
            "podSecurityContext": security_context(),
            "rowFields": {section: list(names) for section, names in FIELDS.items()},
            "rowSections": list(SECTIONS),
            "runChars": RUN_CHARS,
            "privileges": {kind: "; ".join(words) for kind, words in PRIVILEGES.items()},
            "privilegedFields": dict(PRIVILEGED_FIELDS),
            "privilegedValues": list(PRIVILEGED_VALUES),
            "freeMaps": list(FREE_MAPS),
            "harmlessNames": HARMLESS_NAME.pattern,
            "harmlessValues": HARMLESS_VALUE.pattern,
            "references": REFERENCE.pattern,
            "secretNames": SECRET_NAME.pattern,
            "secretValues": SECRET_VALUE.pattern,
            "secretParameters": SECRET_PARAMETER.pattern,
            "submitterRules": _submitter_rules(),
        }
    )


def schema() -> str:
    """values.schema.json."""
    return _json(values_schema())


def sample(path: str) -> str:
    """The text of a sample file; the chart has copies, for it cannot read outside of itself."""
    return (ROOT / path).read_text(encoding="utf-8")


def _submitter_rules() -> Any:
    """What whoever submits may do: the rules of the Role of the plain manifests."""
    documents = yaml.safe_load_all((ROOT / SUBMITTER).read_text(encoding="utf-8"))
    return next(one["rules"] for one in documents if one["kind"] == "Role")


def _types() -> dict[str, Any]:
    """Every type of the spec: of each field the default, and what it is made of, as far as filling in defaults must know."""
    found: dict[str, Any] = {}
    _add(SpecBatchJob, found)
    return found


def _add(model: type[SpecModel], found: dict[str, Any]) -> None:
    if model.__name__ in found:
        return
    found[model.__name__] = fields = {}
    for name, field in fields_by_name(model).items():
        fields[name] = about = {}
        if not field.is_required():
            default = field.get_default(call_default_factory=True, validated_data={})
            if default is not None:
                about["default"] = {} if isinstance(default, SpecModel) else default
        for branch in field_branches(field):
            _describe(branch, about, found)


def _describe(branch: Branch, about: dict[str, Any], found: dict[str, Any]) -> None:
    if branch.model is not None:
        about["type"] = branch.model.__name__
        _add(branch.model, found)
    if _TO_TEXT in branch.constraints:
        about["text"] = True
    for item in branch.items:
        if item.model is not None:
            about["items"] = item.model.__name__
            _add(item.model, found)
        if _TO_TEXT in item.constraints:
            about["texts"] = True


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
