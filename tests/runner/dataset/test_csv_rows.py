"""CSV as people's programs write it: a bad record is that row's error, and the others are read."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specbatch.errors import DatasetError
from specbatch.results.rows import ErrorCode
from specbatch.runner.dataset.chunks import ReadPosition
from specbatch.runner.dataset.csv_rows import delimiter_of, looks_like_csv, read_csv
from tests.runner.tiny import dataset_at


def read(data, delimiter=",", size=5):
    chunks = (data[at : at + size] for at in range(0, len(data), size))
    return list(read_csv(chunks, delimiter, "rows.csv", ReadPosition()))


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)


@pytest.mark.slow
@given(
    st.lists(st.tuples(texts, texts, texts), max_size=5), st.sampled_from(",;|\t"), st.integers(1, 30), st.booleans()
)
def test_records_are_those_of_the_writer_however_the_file_was_cut_into_chunks(records, delimiter, size, every):
    file = io.StringIO(newline="")
    quoting = csv.QUOTE_ALL if every else csv.QUOTE_MINIMAL
    csv.writer(file, delimiter=delimiter, quoting=quoting).writerows([("a", "b", "c"), *records])
    rows = read(file.getvalue().encode(), delimiter, size)
    assert [row.fields for row in rows] == [
        {name: value or None for name, value in zip("abc", record, strict=True)} for record in records
    ]


def test_a_ragged_or_damaged_record_is_that_rows_error_with_its_line():
    rows = read(b'prompt,n\n"a\nb",1\nshort\nlong,1,2\n"x"y,1\n\xff,1\nlast,2\n"open,3\n')
    assert [row.line_number for row in rows] == [2, 4, 5, 6, 7, 8, 9]
    assert rows[0].fields == {"prompt": "a\nb", "n": "1"}
    assert rows[5].fields == {"prompt": "last", "n": "2"}
    errors = [row.error for row in rows if row.error]
    assert [error.code for error in errors] == [ErrorCode.INVALID_ROW] * 3 + [
        ErrorCode.INVALID_ENCODING,
        ErrorCode.INVALID_ROW,
    ]
    assert errors[0].message == "it has 1 fields, and the header names 2"
    assert "within a quoted field a quote is written twice" in errors[2].message


def test_a_column_without_a_name_is_passed_over_and_blank_lines_are_no_rows():
    rows = read(b",prompt , n\n\n0,x,\n\n1,y,2\n")
    assert [row.fields for row in rows] == [{"prompt": "x", "n": None}, {"prompt": "y", "n": "2"}]


def test_very_long_fields_are_read_and_what_never_ends_is_an_error(monkeypatch):
    long = b"x" * 1_000_000
    assert read(b'prompt\n"%s"\n' % long, size=1 << 16)[0].fields == {"prompt": long.decode()}
    monkeypatch.setattr("specbatch.runner.dataset.csv_rows.MAX_LINE_BYTES", 1000)
    rows = read(b"prompt\n%s\nshort\n" % long, size=1 << 16)
    assert (rows[0].error.code, rows[1].fields) == (ErrorCode.LINE_TOO_LONG, {"prompt": "short"})
    with pytest.raises(DatasetError, match="a quoted field begins at line 2, and does not end"):
        read(b'prompt\n"open\n' + b"more\n" * 1000)
    monkeypatch.undo()
    read(b"prompt\n")  # which sets the limit of this process again


@pytest.mark.parametrize(
    ("data", "name", "options", "rows"),
    [
        (b"prompt\nWrite a poem.\n", "one.csv", {}, [{"prompt": "Write a poem."}]),
        (b"prompt\nWrite a poem.\n", "one", {"format": "csv"}, [{"prompt": "Write a poem."}]),
        (b"prompt\nwords, and words\n", "ragged.csv", {}, [None]),
        (b"prompt\tn\nx, y\t1\n", "rows.tsv", {}, [{"prompt": "x, y", "n": "1"}]),
        (b"a;b\n1;x, y\n2;z\n", "rows", {}, [{"a": "1", "b": "x, y"}, {"a": "2", "b": "z"}]),
        (b"prompt,n\n" + b"x" * 40_000 + b",1\n" + b"y" * 40_000 + b",2\n", "cut", {}, [{"prompt": "x" * 40_000, "n": "1"}, {"prompt": "y" * 40_000, "n": "2"}]),
        (b"\xef\xbb\xbfprompt,n\nx,1\n", "mark", {}, [{"prompt": "x", "n": "1"}]),
        (b"prompt,n\rx,1\ry,2\r", "cr", {}, [{"prompt": "x", "n": "1"}, {"prompt": "y", "n": "2"}]),
    ],
)  # fmt: skip
def test_a_file_is_csv_by_its_records_its_name_or_the_spec(tmp_path, data, name, options, rows):
    (tmp_path / name).write_bytes(data)
    assert [row.fields for row in dataset_at(tmp_path / name, **options).rows()] == rows


def test_a_json_file_named_csv_is_json(tmp_path):
    (tmp_path / "rows.csv").write_bytes(b'{"prompt": "x"}\n')
    assert next(dataset_at(tmp_path / "rows.csv").rows()).fields is None


@pytest.mark.parametrize(
    ("header", "says"), [(b"a,a\n1,2\n", "two columns are named 'a'"), (b'"a\n', "its header, line 1")]
)
def test_a_header_that_cannot_be_meant_is_refused(tmp_path, header, says):
    (tmp_path / "rows.csv").write_bytes(header)
    with pytest.raises(DatasetError, match=says):
        dataset_at(tmp_path / "rows.csv").check_readable()


def test_prose_is_no_csv():
    assert not looks_like_csv("Write a poem, please.\nCount to three.\n")
    assert not looks_like_csv("one\ntwo\n")
    assert not looks_like_csv(
        "A very long sentence that goes on and on for more than sixty characters, and then ends\nx, y\n"
    )
    assert delimiter_of("prompt\n") in ",;|\t"
