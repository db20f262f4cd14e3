"""JSON that is not one object a line, split into rows as a stream."""

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specbatch.errors import DatasetError
from specbatch.results.rows import ErrorCode
from specbatch.runner.dataset.json_values import read_values
from tests.runner.tiny import dataset_at

END = re.compile(rb"\s*\]\s*")
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def split(data, size=7, *, end=None, most=1 << 20):
    chunks = (data[at : at + size] for at in range(0, len(data), size))
    return list(read_values(chunks, "rows.json", most, end=end))


@pytest.mark.slow
@settings(max_examples=60)
@given(
    st.lists(st.dictionaries(st.text(max_size=4), values, max_size=3), max_size=5),
    st.integers(1, 40),
    st.sampled_from([None, 1]),
    st.sampled_from([", ", ",\n\n", "\n,"]),
    st.booleans(),
)
def test_rows_are_those_of_a_parser_however_the_file_was_cut_into_chunks(rows, size, indent, between, escaped):
    data = between.join(json.dumps(row, indent=indent, ensure_ascii=escaped) for row in rows).encode()
    found = split(data + b" ]\n", size, end=END)
    assert [json.loads(line.data) for line in found] == rows
    assert [line.number for line in found] == [1 + data[: line.end - len(line.data)].count(b"\n") for line in found]
    assert [json.loads(line.data) for line in split(data, size)] == rows


def test_what_is_no_object_is_a_row_of_its_own():
    data = b'1, {"a": 1}, null "x, y", [2], {"b": "]}"}, 3'
    expected = [b"1", b'{"a": 1}', b'null "x, y"', b"[2]", b'{"b": "]}"}', b"3"]
    assert [line.data for line in split(data + b"]", end=END)] == expected
    assert [line.data for line in split(data)] == expected


def test_a_row_over_the_limit_is_passed_over_in_bounded_memory():
    data = b'{"a": "%s"}, {"b": 1}]' % (b"x" * 5000)
    long, short = split(data, 100, end=END, most=1000)
    assert (long.too_long, len(long.data), short.data) == (True, 1024, b'{"b": 1}')


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b'[{"prompt": "a"}, {"prompt": "b"}', "ends in the middle"),
        (b'[{"prompt": "a"}, {"prompt": "b', "ends in the middle"),
        (b'[{"prompt": "a"}]\n[{"prompt": "b"}]', "the JSON array ends at line 2, and something else follows"),
        (b'{"data": [{"prompt": "a"}], "more": [1]}', "something else follows"),
        (b'{"data": [{"prompt": "a"}]}\n{"data": []}', "something else follows"),
    ],
)
def test_an_array_that_does_not_end_or_goes_on_is_an_error_after_its_rows(tmp_path, data, says):
    (tmp_path / "rows.json").write_bytes(data.replace(b'{"prompt"', b'{\n"prompt"', 1))
    rows = dataset_at(tmp_path / "rows.json").rows()
    assert json.loads(next(rows).data) == {"prompt": "a"}
    with pytest.raises(DatasetError, match=says):
        list(rows)


def test_the_last_of_several_objects_may_be_cut_and_is_that_rows_error(tmp_path):
    (tmp_path / "rows.json").write_bytes(b'{\n"prompt": "a"\n}\n{\n"prompt": "b')
    assert [row.data for row in dataset_at(tmp_path / "rows.json").rows()][1] == b'{\n"prompt": "b'


def test_a_long_row_of_an_array_is_an_error_row(tmp_path, monkeypatch):
    monkeypatch.setattr("specbatch.runner.dataset.readers.MAX_LINE_BYTES", 100)
    (tmp_path / "rows.json").write_bytes(b'[{"prompt": "%s"},\n{"prompt": "b"}]' % (b"a" * 200))
    first, second = dataset_at(tmp_path / "rows.json").rows()
    assert first.error.code == ErrorCode.LINE_TOO_LONG
    assert (second.error, second.line_number) == (None, 2)


def test_a_row_that_has_data_of_its_own_is_no_wrapper(tmp_path):
    lines = b'{"id": 1, "prompt": "x", "data": [{"y": 1}]}\n'
    (tmp_path / "rows.json").write_bytes(lines)
    assert [row.data for row in dataset_at(tmp_path / "rows.json").rows()] == lines.splitlines()
    (tmp_path / "rows.json").write_bytes(b'{"data": [{"y": 1}], "prompt": "x"}\n{"data": [{"y": 1}], "prompt": "z"}\n')
    assert len(list(dataset_at(tmp_path / "rows.json").rows())) == 2
