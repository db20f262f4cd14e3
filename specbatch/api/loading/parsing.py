"""Text -> SpecBatchJob, or one SpecError with everything that is wrong."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from specbatch.api.job import API_VERSION, KIND, SpecBatchJob
from specbatch.api.loading.overrides import apply_overrides
from specbatch.api.loading.problems import FieldProblem, example_of, field_problems
from specbatch.api.loading.yaml_text import MAX_BYTES, read_yaml
from specbatch.api.paths import Path, overlaps, parse_path, type_at
from specbatch.api.rules import RULES
from specbatch.api.words import Branch, fields_by_name, value_in_words
from specbatch.errors import Problem, SpecError


def parse_spec(text: str, source: str = "spec", overrides: Sequence[str] = ()) -> SpecBatchJob:
    """The job that a YAML text describes, with `path=value` overrides applied.

    Args:
        text: one YAML document.
        source: what the text came from, for messages.
        overrides: see `specbatch.api.loading.overrides.apply_overrides`.

    Raises:
        SpecError: with every problem of the text, in one.
    """
    if len(text) > MAX_BYTES:
        raise SpecError([Problem("file", f"is larger than {MAX_BYTES >> 20} MiB", "is this a spec?")], source=source)
    try:
        data, lines = read_yaml(text)
    except SpecError as error:
        raise SpecError(error.problems, source=source) from None
    if not isinstance(data, dict):
        message = f"expected a mapping with apiVersion, kind, metadata and spec, found {value_in_words(data)}"
        message = "is empty" if data is None else message
        raise SpecError([Problem("file", message, "specbatch init writes a starter")], source=source)
    return job_from(data, source, overrides, lines)


def job_from(
    data: dict[str, Any], source: str, overrides: Sequence[str] = (), lines: Mapping[Path, int] = MappingProxyType({})
) -> SpecBatchJob:
    """The job that plain data describes, with `path=value` overrides applied to it in place.

    Args:
        data: as in a file, camelCase.
        source: what the data came from, for messages.
        overrides: see `specbatch.api.loading.overrides.apply_overrides`.
        lines: the line in the file of every path.

    Raises:
        SpecError: with every problem of the data, in one.
    """
    try:
        overridden = apply_overrides(data, overrides, SpecBatchJob)
    except SpecError as error:
        raise SpecError(error.problems, source=source) from None
    job, problems = _check(data)
    if job is None or problems:
        raise SpecError([_with_line(problem, lines, overridden) for problem in problems], source=source)
    return job


def _check(data: dict[str, Any]) -> tuple[SpecBatchJob | None, list[Problem]]:
    """The job, and everything wrong with it. The job is only to be used where nothing is.

    The fields' own checks come first. Then what is wrong is taken out, and the rules between fields are applied to the rest.
    """
    data = _without_nulls(data, (Branch(SpecBatchJob),))
    wrong_kind = _of_another_kind(data)
    if wrong_kind:
        return None, wrong_kind
    job, found = _validated(data)
    if found:
        mended = copy.deepcopy(data)
        for field_problem in found:
            _mend(mended, field_problem.path)
        job, _ = _validated(mended)  # valid: every field has an example that is (a test proves it)
    doubtful = [path for field_problem in found for path in field_problem.doubtful]
    problems = [field_problem.problem for field_problem in found if field_problem.problem is not None]
    if job is not None:
        rules = (rule for rule in RULES if rule.applies(doubtful))
        problems += [problem for rule in rules for problem in rule.check(job)]
    return job, problems


def _validated(data: Any) -> tuple[SpecBatchJob | None, list[FieldProblem]]:
    try:
        return SpecBatchJob.model_validate(data, by_alias=True, by_name=False), []
    except ValidationError as error:
        return None, field_problems(error, SpecBatchJob, data)


def _of_another_kind(data: dict[str, Any]) -> list[Problem]:
    """A Deployment has no wrong fields, it is no SpecBatchJob: that alone is said."""
    problems = []
    for name, wanted in (("apiVersion", API_VERSION), ("kind", KIND)):
        if name in data and data[name] != wanted:
            message = f"expected {wanted}, found {value_in_words(data[name])}"
            problems.append(Problem(name, message, f"write {name}: {wanted}"))
    return problems


def _without_nulls(value: Any, branches: tuple[Branch, ...]) -> Any:
    """null means "left out", as in Kubernetes and Helm: for fields of ours, not inside free-form parts such as podTemplate."""
    model = branches[0].model if len(branches) == 1 else None
    if isinstance(value, dict) and model is not None:
        return {
            name: _without_nulls(item, type_at(model, (name,)) or ())
            for name, item in value.items()
            if item is not None
        }
    if isinstance(value, list) and len(branches) == 1 and branches[0].is_list:
        return [_without_nulls(item, branches[0].items) for item in value]
    if isinstance(value, dict) and len(branches) == 1 and branches[0].items:
        return {name: _without_nulls(item, branches[0].items) for name, item in value.items()}
    return value


def _mend(data: dict[str, Any], path: Path) -> None:
    """Takes the wrong thing at `path` out; where it is required, the field's example takes its place."""
    inner = next((index for index, piece in enumerate(path) if isinstance(piece, int)), len(path))
    path = path[:inner]  # a list goes as a whole
    owner: Any = data
    for piece in path[:-1]:
        owner = owner.get(piece) if isinstance(owner, dict) else None
    if not isinstance(owner, dict):
        return  # gone already, with something around it
    name = str(path[-1])
    owner.pop(name, None)
    branches = type_at(SpecBatchJob, path[:-1])
    model = branches[0].model if branches else None
    field = fields_by_name(model).get(name) if model else None
    if field is not None and field.is_required():
        owner[name] = copy.deepcopy(example_of(field))


def _with_line(problem: Problem, lines: Mapping[Path, int], overridden: Iterable[Path]) -> Problem:
    """The problem with the line of its path, or of the nearest mapping or list around it that the file has."""
    try:
        path = parse_path(problem.path)
    except ValueError:
        return problem
    if any(overlaps(changed, path) for changed in overridden):
        return problem
    while path and path not in lines:
        path = path[:-1]
    return Problem(problem.path, problem.message, problem.remedy, lines[path]) if path else problem
