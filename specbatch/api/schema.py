"""The JSON schema (draft 2020-12) of the file, for editors and for Helm's values.schema.json."""

from __future__ import annotations

from typing import Any

from specbatch.api.job import SpecBatchJob

SCHEMA_ID = "https://specbatch.dev/schemas/v1alpha1/specbatchjob.schema.json"


def json_schema() -> dict[str, Any]:
    """The schema of a SpecBatchJob. It says what each field may be; the rules between fields are `specbatch validate`'s."""
    schema = _without_titles(SpecBatchJob.model_json_schema(by_alias=True))
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        "title": "SpecBatchJob",
        **schema,
    }


def _without_titles(part: Any) -> Any:
    """Drops the titles that pydantic makes of names ("Max New Tokens"): editors show them in place of the names."""
    if isinstance(part, dict):
        return {
            name: _without_titles(inner)
            for name, inner in part.items()
            if not (name == "title" and isinstance(inner, str))
        }
    return [_without_titles(inner) for inner in part] if isinstance(part, list) else part
