"""Fixtures of the fault tests: cases, and what they give undisturbed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.faults.cases import Case, answers, bulky_rows
from tests.faults.proof import check_whole
from tests.faults.scenes import SETTINGS, Scene, stop_in_the_middle


@pytest.fixture(scope="session")
def _references() -> dict[str, Any]:
    return {}


@pytest.fixture
def make_case(tmp_path, zygote) -> Callable[..., Case]:
    """make_case(rows, results__partSize="4Ki", ...) -> a run that nobody has started."""

    def make(rows: list[Any], **changes: Any) -> Case:
        return Case(zygote, tmp_path / "case", rows, changes)

    return make


@pytest.fixture
def reference_of(tmp_path, _references) -> Callable[[Case], dict[int, list[dict[str, Any]]]]:
    """What the same run gives when nobody disturbs it; made once a session."""

    def reference(case: Case) -> dict[int, list[dict[str, Any]]]:
        key = repr(case.rows)
        if key not in _references:
            twin = case.twin(tmp_path / "undisturbed")
            ended = twin.run()
            assert ended.wait() == 0, ended.output
            _references[key] = answers(twin.run_dir)
            check_whole(twin.run_dir, _references[key])
        return _references[key]

    return reference


@pytest.fixture
def make_scene(make_case) -> Callable[[str], Scene]:
    def make(name: str) -> Scene:
        case = make_case(bulky_rows(9), **SETTINGS)
        if name == "with a report":
            case.changes["results__report"] = True
        if name == "publishing":
            case.changes |= {"results__publish": f"file://{case.bucket.parent}/", "results__publishRetrySeconds": 2}
        if name == "goes on":
            stop_in_the_middle(case)
        if name == "afresh":
            other = case.run(decoding__seed=7, results__partSize="256Mi")
            assert other.wait() == 0, other.output
        return Scene(case, fresh=name == "afresh")

    return make
