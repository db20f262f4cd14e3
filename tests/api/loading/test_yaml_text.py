from __future__ import annotations

import pytest

from specbatch.api.loading.yaml_text import read_yaml
from specbatch.errors import SpecError
from tests.api.specs import MINIMUM, job, problems

BAD = [
    ("a: [1, 2", "line 1, column 9", "is not YAML"),
    ("a: 1\n\tb: 2", "line 2, column 1", "indent with spaces"),
    ("a: 1\nb: 2\na: 3\n", "line 3, column 1", "the key 'a' is there twice"),
    ("a: {b: 1, b: 2}", "line 1, column 11", "the key 'b' is there twice"),
    ("a: 1\n---\nb: 2\n", "line 3", "a spec is exactly one"),
    ("a: &x [*x]", "text", "levels deep"),
    ("a: *nowhere", "line 1, column 4", "undefined alias"),
    ("1: a", "line 1, column 1", "keys are text, and 1 is not"),
    ("true: a", "line 1, column 1", "put the key in quotes"),
    ("? [a]\n: b", "line 1, column 3", "keys are text"),
    ("a: !!python/object:os.system b", "line 1, column 4", "the tag"),
    ("a: !!binary aGk=", "line 1, column 4", "the tag"),
    ("a: !!set {b: null}", "line 1, column 4", "is not allowed"),
    ("a: 0644", "line 1, column 4", "octal 0644 is 420"),
    ("a: !!int b", "line 1, column 4", "does not fit"),
    ("a: !!bool b", "line 1, column 4", "does not fit"),
    ("a: 1e999", "line 1, column 4", "does not fit"),
    (f"a: {'9' * 200}", "line 1, column 4", "a number of 200 characters"),
    ("a: \x00", "text", "is not YAML"),
    ('a: "\\ud800"', "line 1, column 4", "half of a surrogate pair"),
    ("a: " + "[" * 60 + "]" * 60, "text", "levels deep"),
    ("a: " + "[" * 3000 + "]" * 3000, "text", "levels deep"),
    ("a: &a 1\nb: {<<: *a}", "line 2, column", "needs a mapping"),
    (
        "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "\n".join(f"{c}: &{c} [{','.join(['*' + p] * 10)}]" for p, c in zip("abcdef", "bcdefg", strict=True)),
        "line 1",
        "more than 20000 values",
    ),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("source", "where", "words"), BAD)
def test_what_is_not_one_document_of_plain_data_is_refused_with_its_place(source, where, words):
    with pytest.raises(SpecError) as caught:
        read_yaml(source)
    (problem,) = caught.value.problems
    assert problem.path.startswith(where)
    assert words in str(problem)


SCALARS = [
    ("1e-3", 0.001),
    ("-2", -2),
    ("+.5", 0.5),
    ("0x1F", 31),
    ("~", None),
    ("", None),
    ("True", True),
    ("yes", "yes"),
    ("off", "off"),
    ("12:30:00", "12:30:00"),
    ("2026-01-01", "2026-01-01"),
    (".nan", ".nan"),
    ("1_000", "1_000"),
    ("'1'", "1"),
    ("!!str 1", "1"),
    ("!!float 1", 1.0),
]


@pytest.mark.parametrize(("written", "meant"), SCALARS)
def test_scalars_follow_the_core_schema(written, meant):
    data, _ = read_yaml(f"a: {written}")
    assert data == {"a": meant}
    assert type(data["a"]) is type(meant)


def test_anchors_and_merge_keys_work_and_own_keys_win():
    data, _ = read_yaml("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: {<<: [{x: 7}, *a]}\n")
    assert data == {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}, "c": {"x": 7, "y": 2}}


def test_every_path_has_its_line():
    _, lines = read_yaml("a:\n  b: 1\n  c:\n    - x\n    - y\n")
    assert lines["a", "b"] == 2
    assert lines["a", "c"] == 3
    assert lines["a", "c", 1] == 5


def test_a_separator_around_one_document_is_fine():
    assert problems(f"# comment\n---\n{MINIMUM}---\n") == ()


@pytest.mark.parametrize("empty", ["", "\n\n", "# only a comment\n", "---\n---\n", "~"])
def test_an_empty_file_is_called_empty(empty):
    assert [problem.message for problem in problems(empty)] == ["is empty"]


@pytest.mark.parametrize("other", ["a", "[1]", "3"])
def test_a_document_that_is_no_mapping_is_refused(other):
    assert "expected a mapping with apiVersion" in problems(other)[0].message


def test_a_revision_of_digits_needs_quotes_and_is_told_so():
    (problem,) = problems(MINIMUM.replace("Qwen3-8B}", "Qwen3-8B, revision: 1234567}"))
    assert problem.remedy == 'put it in quotes: "1234567"'
    assert job("target: {model: a/b, revision: '1234567'}").spec.target.revision == "1234567"
