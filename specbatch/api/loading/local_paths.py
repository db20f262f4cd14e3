"""Relative paths of a spec: they are taken against the current directory, and people expect them beside the spec."""

from __future__ import annotations

import glob
import os
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from specbatch.api.job import SpecBatchJob
from specbatch.api.loading.load import load_spec
from specbatch.errors import Problem, SpecError


def load_spec_here(file: str, overrides: Sequence[str] = ()) -> SpecBatchJob:
    """As `load_spec`, for commands that open what the spec names.

    Raises:
        SpecError: as `load_spec`; also where a relative path is not in the current directory, but beside the spec.
    """
    job = load_spec(file, overrides)
    problems = list(_only_beside(job, file))
    if problems:
        raise SpecError(problems, source=file)
    return job


def relative_paths(job: SpecBatchJob) -> Iterator[tuple[str, str]]:
    """(field, path) of what is read from a relative path; a model's may also be an id of the hub."""
    spec = job.spec
    yield from (
        (field, path)
        for field, path in (
            ("spec.target.model", spec.target.model),
            ("spec.target.adapter", spec.target.adapter),
            ("spec.drafter.model", spec.drafter and spec.drafter.model),
            ("spec.dataset.uri", spec.dataset.uri),
            ("spec.dataset.chatTemplate", spec.dataset.chat_template_file),
        )
        if path and ":" not in path and not path.startswith(("/", "~"))
    )


def _only_beside(job: SpecBatchJob, file: str) -> Iterator[Problem]:
    folder = Path(file).parent
    if file == "-" or folder.resolve() == Path.cwd():
        return
    for field, path in relative_paths(job):
        beside = os.path.normpath(folder / path)
        change = shlex.quote(f"{field.removeprefix('spec.')}={beside}")
        if not _is_there(path) and _is_there(beside):
            yield Problem(
                field,
                f"{path} is not in the current directory {Path.cwd()}, where relative paths begin, but it is beside the spec",
                f"cd {shlex.quote(str(folder))}, or --set {change}",
            )


def _is_there(path: str) -> bool:
    return os.path.lexists(path) or next(glob.iglob(path, recursive=True), None) is not None  # noqa: PTH207 - paths may be absolute
