"""Specs for tests: a valid minimum, and what a change of it is answered with."""

from __future__ import annotations

import yaml

from specbatch.api import SpecBatchJob, parse_spec
from specbatch.errors import Problem, SpecError

MINIMUM = """\
apiVersion: specbatch.dev/v1alpha1
kind: SpecBatchJob
metadata: {name: nightly}
spec:
  target: {model: Qwen/Qwen3-8B}
  dataset: {uri: prompts.jsonl}
"""


def job(spec: str = "{}", *, metadata: str = "{}") -> SpecBatchJob:
    """The minimum with sections replaced by those of `spec` (YAML)."""
    return parse_spec(text(spec, metadata=metadata))


def text(spec: str = "{}", *, metadata: str = "{}") -> str:
    data = yaml.safe_load(MINIMUM)
    data["spec"] |= yaml.safe_load(spec)
    data["metadata"] |= yaml.safe_load(metadata)
    return yaml.safe_dump(data, sort_keys=False)


def problems(text: str, overrides: tuple[str, ...] = ()) -> tuple[Problem, ...]:
    """What is wrong with a text; empty where nothing is."""
    try:
        parse_spec(text, "test.yaml", overrides)
    except SpecError as error:
        return error.problems
    return ()
