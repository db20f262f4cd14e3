import json

import pytest

from specbatch.api import DatasetSpec
from specbatch.results.rows import ErrorCode
from specbatch.runner.dataset.lines import RawRow
from specbatch.runner.rows.row_reader import RowReader
from tests.runner.tiny import row_rules

ODD = {
    "nested": {"a": [1, {"b": None}]},
    "number": 12345678901234567890123,
    "float": 1e-7,
    "none": None,
    "": "{{ x }}",
    "日": "本\n",
}


def read(line, **dataset):
    line = line if isinstance(line, bytes) else json.dumps(line).encode()
    return RowReader(row_rules(**dataset)).read(RawRow(0, 1, line))


def test_every_other_column_is_carried_exactly_as_it_was():
    assert read({"id": "a", "prompt": "hi", **ODD}).columns == ODD


def test_the_rows_own_parts_are_not_repeated():
    row = {"id": 1, "prompt": "hi", "answer": "42", "max_tokens": 5, "top_p": None, "temperature": 0}
    assert read(row, answer_field="answer").columns is None
    assert read({"custom_id": "a", "body": {"prompt": "hi"}, "source": "web"}).columns == {"source": "web"}
    assert read({"messages": [{"role": "user", "content": "hi"}], "source": "web"}).columns == {"source": "web"}


def test_a_column_that_has_an_options_name_and_is_none_is_carried():
    data = {"metadata": {"page": 3}, "user": "ada", "format": "haiku", "tools": "hammer"}
    assert read({"prompt": "hi", **data}, ignore_fields=["tools"]).columns == data


@pytest.mark.parametrize(
    ("carry", "columns"), [("none", None), (["b", "no"], {"b": 2}), (["prompt"], {"prompt": "hi"}), (["no"], None)]
)
def test_carry_chooses_them(carry, columns):
    row = read({"prompt": "hi", "a": 1, "b": 2}, columns={"carry": carry})
    assert row.columns == columns
    usual = read({"prompt": "hi", "a": 1, "b": 2})
    assert (row.id, row.fingerprint) == (usual.id, usual.fingerprint)


def test_a_bad_row_carries_its_columns_where_its_line_could_be_read():
    assert read({"prompt": 7, "a": 1}).columns == {"a": 1}
    assert read(b'{"prompt": 7, "a": 1').columns is None


def test_a_column_nested_too_deeply_to_be_read_again_is_refused_by_name():
    deep = b'{"prompt": "hi", "a": ' + b"[" * 200 + b"]" * 200 + b"}"
    bad = read(deep)
    assert bad.code is ErrorCode.INVALID_ROW
    assert "'a' is nested more than 100 levels deep" in bad.message
    assert read(deep, columns={"carry": "none"}).prompt == "hi"


def test_an_explicit_list_of_no_columns_carries_none():
    assert DatasetSpec(uri="x", columns={"carry": []}).columns.carry == []
    assert read({"prompt": "hi", "a": 1}, columns={"carry": []}).columns is None
