"""Whole numbers of the spec: no one can write one that a tensor, a thread pool or the API server does not hold."""

from __future__ import annotations

import pytest

from specbatch.api.loading.parsing import job_from
from specbatch.api.schema import json_schema
from specbatch.errors import SpecError


def numbers(schema, definitions, path="", seen=()):
    """Every number of a JSON schema: (path, its own part of the schema)."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        if name not in seen:
            yield from numbers(definitions[name], definitions, path, (*seen, name))
        return
    if schema.get("type") in {"integer", "number"}:
        yield path, schema
    for part in (*schema.get("anyOf", ()), *schema.get("allOf", ()), *schema.get("oneOf", ())):
        yield from numbers(part, definitions, path, seen)
    for inner in ("items", "additionalProperties"):
        if isinstance(schema.get(inner), dict):
            yield from numbers(schema[inner], definitions, f"{path}[]", seen)
    for name, part in schema.get("properties", {}).items():
        yield from numbers(part, definitions, f"{path}.{name}", seen)


SCHEMA = json_schema()
WHOLE = [(path, part) for path, part in numbers(SCHEMA, SCHEMA.get("$defs", {})) if part["type"] == "integer"]


def test_every_whole_number_of_the_spec_has_both_bounds():
    assert len(WHOLE) > 20
    assert [path for path, part in WHOLE if not {"minimum", "maximum"} <= part.keys()] == []
    assert max(part["maximum"] for _, part in WHOLE) < 2**63


@pytest.mark.parametrize("value", [2**63, 10**400, -(2**63)])
@pytest.mark.parametrize(
    ("section", "field"), [("placement", "cpuThreads"), ("decoding", "topK"), ("dataset", "limit")]
)
def test_a_number_out_of_bounds_is_a_problem_with_its_path(section, field, value):
    data = {
        "apiVersion": "specbatch.dev/v1alpha1",
        "kind": "SpecBatchJob",
        "metadata": {"name": "t"},
        "spec": {"target": {"model": "m"}, "dataset": {"uri": "rows.jsonl"}, "results": {"dir": "results"}},
    }
    data["spec"].setdefault(section, {})[field] = value
    with pytest.raises(SpecError) as refused:
        job_from(data, "test")
    assert f"spec.{section}.{field}" in [problem.path for problem in refused.value.problems]
