"""The forms that collect hands rows out in."""

import csv
import gzip
import io
import json
import sys
from dataclasses import replace

import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from specbatch.errors import ResultsError
from specbatch.results.attempts import Attempt
from specbatch.results.collect.collect import collect
from specbatch.results.collect.columns import MAX_COLUMNS, ColumnKinds, as_text
from specbatch.results.collect.export import ExportPlan
from specbatch.results.collect.parquet_table import ParquetTable
from specbatch.results.collect.result_table import ResultTable
from specbatch.results.manifest import write_success
from specbatch.results.rows import OpenAIForm
from specbatch.results.summary import RunSummary
from specbatch.results.wire import decode_error, decode_result, encode_error, encode_result
from tests.results.builders import IDENTITY, make_error, make_row
from tests.results.collect_runs import write_run, write_shard
from tests.results.test_wire import results as any_results

CHAT = OpenAIForm(model="Qwen/Qwen3-8B", created=1_700_000_000)
TEXT = OpenAIForm(model="Qwen/Qwen3-8B", created=1_700_000_000, endpoint="/v1/completions")


def attempt(started_at):
    return Attempt(number=1, started_at=started_at, updated_at=started_at, outcome="done", summary=RunSummary())


def finish(run_dir, rows, errors=(), **manifest):
    write_shard(run_dir, [rows], [list(errors)], dataset_rows=len(rows) + len(errors), **manifest)
    write_success(run_dir)


def lines(path):
    return path.read_bytes().splitlines(keepends=True)


def test_plain_rows_become_openai_rows_of_the_runs_model_and_first_attempt(run_dir, tmp_path):
    row, error = make_row(0, prompt=["p"], answer="x", correct=False), make_error(1)
    finish(
        run_dir,
        [row],
        [error],
        identity=replace(IDENTITY, spec={"target": {"model": "Qwen/Qwen3-8B"}}),
        attempts=(attempt(1_700_000_000.9), attempt(1_800_000_000.0)),
    )
    collect(run_dir, tmp_path / "out.jsonl", form="openai")
    (line,) = lines(tmp_path / "out.jsonl")
    assert decode_result(line).openai == CHAT
    value = json.loads(line)
    assert value["custom_id"] == "row-0"
    assert value["response"]["body"]["choices"][0]["message"]["content"] == "The answer is 0."
    assert value["specbatch"]["prompt"] == ["p"]
    (line,) = lines(tmp_path / "out.errors.jsonl")
    assert decode_error(line).openai == CHAT
    assert json.loads(line)["error"]["code"] == "invalid_json"


def test_rows_that_came_in_the_openai_form_keep_their_bytes_in_both_forms(run_dir, tmp_path):
    rows = [make_row(0, openai=CHAT), make_row(1, openai=TEXT, id='a "quoted" \\ id')]
    errors = [make_error(2, openai=TEXT)]
    finish(run_dir, rows, errors, identity=replace(IDENTITY, spec={"target": {"model": "another"}}))
    for form in ("openai", "jsonl"):
        collect(run_dir, tmp_path / "out.jsonl", form=form)
        assert lines(tmp_path / "out.jsonl") == [encode_result(row) for row in rows]
        assert lines(tmp_path / "out.errors.jsonl") == [encode_error(row) for row in errors]


def test_a_spec_that_does_not_name_the_target_leaves_the_identity_to_do_it(run_dir, tmp_path):
    finish(run_dir, [make_row(0)])
    collect(run_dir, tmp_path / "out.jsonl", form="openai")
    assert decode_result(lines(tmp_path / "out.jsonl")[0]).openai.model == "embedded:target@1"


def test_error_rows_beside_a_table_are_lines_as_they_are(run_dir, tmp_path):
    write_run(run_dir, 4, errors={2})
    collect(run_dir, tmp_path / "out.parquet", form="parquet")
    assert lines(tmp_path / "out.errors.jsonl") == [encode_error(make_error(2))]


def test_a_table_has_the_documented_columns_in_input_order(run_dir, tmp_path):
    scored = make_row(1, prompt={"messages": ["é"]}, answer="2", correct=True, openai=CHAT)
    finish(run_dir, [scored, make_row(0, text="答案 🙂")])
    collect(run_dir, tmp_path / "out.parquet", form="parquet")
    table = pyarrow.parquet.read_table(tmp_path / "out.parquet")
    assert [(field.name, str(field.type), field.nullable) for field in table.schema] == [
        ("id", "string", False),
        ("index", "int64", False),
        ("text", "string", False),
        ("finish_reason", "string", False),
        ("prompt_tokens", "int64", False),
        ("completion_tokens", "int64", False),
        ("rounds", "int64", True),
        ("drafted", "int64", True),
        ("accepted", "int64", True),
        ("prompt", "string", True),
        ("answer", "string", True),
        ("correct", "bool", True),
        ("fingerprint", "string", False),
    ]
    first, second = table.to_pylist()
    assert first == {
        "id": "row-0",
        "index": 0,
        "text": "答案 🙂",
        "finish_reason": "stop",
        "prompt_tokens": 20,
        "completion_tokens": 10,
        "rounds": 4,
        "drafted": 16,
        "accepted": 11,
        "prompt": None,
        "answer": None,
        "correct": None,
        "fingerprint": "0" * 16,
    }
    assert (second["prompt"], second["answer"], second["correct"]) == ('{"messages": ["é"]}', "2", True)


def test_a_table_goes_to_a_stream_too(run_dir):
    write_run(run_dir, 3)
    stream = io.BytesIO()
    collect(run_dir, stream, form="parquet")
    assert pyarrow.parquet.read_table(stream)["index"].to_pylist() == [0, 1, 2]


def test_a_table_is_written_in_groups(run_dir):
    stream = io.BytesIO()
    export = ResultTable(lambda columns: ParquetTable(stream, columns, group_rows=10), {})
    for index in range(25):
        export.write(encode_result(make_row(index)))
    export.close()
    file = pyarrow.parquet.ParquetFile(stream)
    assert [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)] == [10, 10, 5]


def test_an_empty_table_has_its_columns(run_dir, tmp_path):
    write_run(run_dir, 2, errors={0, 1})
    collect(run_dir, tmp_path / "out.parquet", form="parquet")
    table = pyarrow.parquet.read_table(tmp_path / "out.parquet")
    assert (table.num_rows, table.num_columns) == (0, 13)


def as_utf8(text):
    return "".join("\ufffd" if "\ud800" <= one <= "\udfff" else one for one in text)


@pytest.mark.slow
@given(st.lists(any_results, max_size=4))
def test_any_rows_come_back_from_a_table_with_halves_of_pairs_replaced(rows):
    stream = io.BytesIO()
    export = ExportPlan(form="parquet", openai=CHAT).rows(stream)
    for row in rows:
        export.write(encode_result(row)[:-1])
    export.close()
    for row, found in zip(rows, pyarrow.parquet.read_table(stream).to_pylist(), strict=True):
        assert (found["id"], found["text"]) == (as_utf8(row.id), as_utf8(row.text))
        assert (found["index"], found["correct"], found["fingerprint"]) == (row.index, row.correct, row.fingerprint)
        assert found["answer"] == (None if row.answer is None else as_utf8(row.answer))
        if row.prompt is None:
            assert found["prompt"] is None
        else:
            said = row.prompt if isinstance(row.prompt, str) else json.dumps(row.prompt, ensure_ascii=False)
            assert found["prompt"] == as_utf8(said)


def test_halves_of_pairs_stay_as_they_are_in_lines(run_dir, tmp_path):
    rows = [make_row(0, id="a\ud800", text="\udc00 b")]
    finish(run_dir, rows)
    collect(run_dir, tmp_path / "out.jsonl")
    assert lines(tmp_path / "out.jsonl") == [encode_result(rows[0])]
    collect(run_dir, tmp_path / "out.jsonl", form="openai")
    assert decode_result(lines(tmp_path / "out.jsonl")[0]).text == "\udc00 b"


@pytest.mark.parametrize("form", ["parquet", "openai"])
def test_a_row_that_a_form_cannot_take_is_one_error(run_dir, tmp_path, form):
    finish(run_dir, [make_row(0, finish_reason=7)])
    with pytest.raises(ResultsError, match="row 0 cannot be read: not a result row") as caught:
        collect(run_dir, tmp_path / "out", form=form)
    assert "newer release" in caught.value.remedy
    assert [path.name for path in tmp_path.iterdir()] == ["nightly"]


def test_a_number_that_no_column_holds_is_one_error(run_dir, tmp_path):
    finish(run_dir, [make_row(0, speculation=type(make_row(0).speculation)(rounds=1 << 70))])
    with pytest.raises(ResultsError, match="cannot be read"):
        collect(run_dir, tmp_path / "out", form="parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["nightly"]


def test_without_pyarrow_a_table_says_how_to_get_it(run_dir, tmp_path, monkeypatch):
    write_run(run_dir, 1)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ResultsError, match="needs pyarrow") as caught:
        collect(run_dir, tmp_path / "out.parquet", form="parquet")
    assert "pip install 'specbatch[parquet]'" in caught.value.remedy
    assert [path.name for path in tmp_path.iterdir()] == ["nightly"]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([True, None, False], "bool"),
        ([1, None, -(1 << 63)], "int64"),
        ([1 << 63], "string"),
        ([1, 2.5], "double"),
        ([(1 << 53) + 1, 2.5], "string"),  # a double would round it
        ([True, 1], "string"),
        ([1, "a"], "string"),
        ([[1], {"a": 2}], "string"),
        ([None], "string"),
    ],
)
def test_a_column_has_a_type_that_holds_all_of_its_values_or_is_text(values, kind):
    kinds = ColumnKinds()
    for value in values:
        kinds.see({"x": value})
    assert kinds.kinds == {"x": kind}


def test_text_of_other_values_is_json():
    assert [as_text(value) for value in ("a", None, 1, True, ["é", {"a": None}])] == [
        "a",
        None,
        "1",
        "true",
        '["é", {"a": null}]',
    ]


def test_more_columns_than_a_table_has_are_refused_by_name():
    with pytest.raises(ResultsError, match="more than 1,000 different columns") as caught:
        ColumnKinds().see({str(number): 1 for number in range(MAX_COLUMNS + 1)})
    assert "collect as jsonl" in caught.value.remedy


ODD = ['say "hi"', "two\r\nlines, and a comma", "", "=1+1", "-5", "答案 🙂", "half \ud800"]


def test_csv_comes_back_from_a_reader_as_it_was(run_dir, tmp_path):
    finish(run_dir, [make_row(index, text=text) for index, text in enumerate(ODD)], [make_error(len(ODD))])
    done = collect(run_dir, tmp_path / "out.csv")
    assert {place.name: what for what, place in done.written} == {
        "out.csv": "7 rows as csv; 1 cell a spreadsheet would run as a formula: import as text",
        "out.errors.jsonl": "1 error",
    }
    raw = (tmp_path / "out.csv").read_bytes()
    assert raw.startswith(b"id,index,text,finish_reason,")
    assert raw.endswith(b"\r\n")
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    assert [row["text"] for row in found] == [*ODD[:-1], "half ?"]
    assert [int(row["index"]) for row in found] == list(range(len(ODD)))


@pytest.mark.parametrize(
    ("name", "begins"),
    [("o.jsonl", b'{"id"'), ("o.NDJSON", b'{"id"'), ("o.csv", b"id,index"), ("o.tsv", b"id\tindex"), ("o.parquet", b"PAR1"),
     ("o.csv.gz", b"\x1f\x8b"), ("o.jsonl.zst", b"\x28\xb5\x2f\xfd"), ("answers", b'{"id"')],
)  # fmt: skip
def test_the_form_is_what_the_outputs_name_says(run_dir, tmp_path, name, begins):
    write_run(run_dir, 3)
    collect(run_dir, tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(begins)


def test_a_compressed_file_holds_the_rows_and_its_errors_lie_beside_it(run_dir, tmp_path):
    write_run(run_dir, 3, errors={1})
    collect(run_dir, tmp_path / "out.jsonl.gz")
    assert [
        json.loads(line)["index"] for line in gzip.decompress((tmp_path / "out.jsonl.gz").read_bytes()).splitlines()
    ] == [0, 2]
    assert (tmp_path / "out.errors.jsonl").exists()


def test_format_counts_more_than_the_name(run_dir, tmp_path):
    write_run(run_dir, 1)
    collect(run_dir, tmp_path / "out.csv", form="jsonl")
    assert json.loads((tmp_path / "out.csv").read_bytes())["index"] == 0
