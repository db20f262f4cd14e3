"""Rows of tables: fields that are parsed already, and strings that stand for numbers."""

import re

import pytest

from specbatch.results.rows import ErrorCode
from specbatch.runner.dataset.bad_rows import RowError
from specbatch.runner.dataset.lines import RawRow
from specbatch.runner.rows.row import BadRow, Row
from specbatch.runner.rows.row_reader import RowReader
from tests.runner.tiny import row_rules


def read(fields, *, untyped=False, **raw):
    return RowReader(row_rules()).read(RawRow(0, 1, b"", fields=fields, untyped=untyped, **raw))


def test_fields_of_a_table_are_read_like_those_of_a_line():
    row = read({"prompt": "x", "max_tokens": 7, "temperature": None})
    assert isinstance(row, Row)
    assert (row.prompt, row.decoding.max_new_tokens) == ("x", 7)
    assert row.id == read({"prompt": "x", "max_tokens": 7, "temperature": None}).id
    assert row.id != read({"prompt": "y", "max_tokens": 7, "temperature": None}).id


def test_strings_of_csv_are_numbers_where_the_option_is_one():
    row = read(
        {"prompt": "5", "max_tokens": "7", "temperature": "0.50", "ignore_eos": "True", "stop": "5", "seed": None},
        untyped=True,
    )
    assert isinstance(row, Row)
    assert row.prompt == "5"
    decoding = row.decoding
    found = decoding.max_new_tokens, decoding.temperature, decoding.ignore_eos, decoding.stop
    assert found == (7, 0.5, True, ["5"])
    assert read({"prompt": "x", "stop": '["a", "b"]'}, untyped=True).decoding.stop[-1] == "b"


def test_a_conversation_in_a_cell_is_json():
    row = read({"messages": '[{"role": "user", "content": "x"}]'}, untyped=True)
    assert row.messages == [{"role": "user", "content": "x"}]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"prompt": "x", "max_tokens": "many"}, "max_tokens: .* found 'many'"),
        ({"messages": "[{'role': 'user'}]"}, "must be a list of messages"),
    ],
)
def test_a_cell_that_is_not_what_its_column_must_be_is_that_rows_error(fields, says):
    row = read(fields, untyped=True)
    assert isinstance(row, BadRow)
    assert row.code == ErrorCode.INVALID_FIELD
    assert re.search(says, row.message)


def test_what_the_files_reader_found_wrong_is_the_rows_error_and_an_unread_column_is_named():
    bad = read(None, error=RowError(ErrorCode.INVALID_ROW, "3 fields of 2"))
    assert (bad.code, bad.message) == (ErrorCode.INVALID_ROW, "3 fields of 2")
    bad = read({"label": 1}, unread="prompt (binary data)")
    assert bad.code == ErrorCode.MISSING_PROMPT
    assert "columns that are not read: prompt (binary data)" in bad.message
