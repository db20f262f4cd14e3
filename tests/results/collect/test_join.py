"""`collect --join`: answers beside the rows of the input."""

import csv
import io
import json
from dataclasses import replace
from decimal import Decimal

import pyarrow.parquet
import pytest

from specbatch.errors import DatasetError, ResultsError
from specbatch.results.collect.collect import collect
from specbatch.results.manifest import write_success
from specbatch.results.rows import OpenAIForm
from specbatch.results.wire import encode_error, encode_result
from specbatch.runner.rows.input_of_run import InputOfRun
from specbatch.runner.rows.row_reader import RowReader
from tests.results.builders import IDENTITY, make_error, make_row
from tests.results.collect_runs import write_shard
from tests.runner.tiny import dataset_at, row_rules

CHAT = OpenAIForm(model="m", created=1)


@pytest.fixture
def answered(run_dir, tmp_path):
    """Writes a dataset and a run over it: rows of `errors` are error rows, of `missing` nothing is there."""

    def write(text, *, name="rows.jsonl", errors=(), missing=(), openai=None, **dataset):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        found = dataset_at(path, **dataset)
        reader = RowReader(row_rules(**dataset))
        ids = [reader.read(raw).id for raw in found.rows()]
        spec = {"dataset": {"uri": str(path), **dataset}}
        form = {"openai": openai}
        good = [
            make_row(at, id=one, text=f"answer {at}", **form)
            for at, one in enumerate(ids)
            if at not in {*errors, *missing}
        ]
        bad = [make_error(at, id=ids[at], **form) for at in errors]
        write_shard(
            run_dir, [good[::-1]], [bad], dataset_rows=len(ids), complete=not missing,
            identity=replace(IDENTITY, dataset=found.fingerprint(), spec=spec),
        )  # fmt: skip
        write_success(run_dir)
        return path

    return write


def joined(run_dir, out=None, **options):
    stream = io.BytesIO() if out is None else out
    done = collect(run_dir, stream, open_input=InputOfRun, **options)
    return done, stream.getvalue().splitlines() if out is None else None


def test_a_line_keeps_its_bytes_and_gets_its_answer(run_dir, answered):
    answered(
        '{"prompt" :"a",  "n": 1.10, "big": 12345678901234567890123}\n\n{"prompt": "é\\ud83d\\ude00", "x": [1, {"y": null}]}  \n{"id": "x"}',
        errors={2},
    )
    done, lines = joined(run_dir)
    assert lines == [
        b'{"prompt" :"a",  "n": 1.10, "big": 12345678901234567890123, "generated_text": "answer 0", "finish_reason": "stop"}',
        '{"prompt": "é\\ud83d\\ude00", "x": [1, {"y": null}], "generated_text": "answer 1", "finish_reason": "stop"}'.encode(),
        b'{"id": "x", "generated_text": null, "error_code": "invalid_json", "error_message": "expected a comma at column 12"}',
    ]
    assert (done.complete, done.results, done.errors, done.missing) == (True, 2, {"invalid_json": 1}, 0)
    assert done.written == (("3 rows of the input as jsonl", "standard output"),)


def test_a_name_that_any_row_has_is_left_to_it(run_dir, answered):
    answered(
        '{"prompt": "a"}\n{"prompt": "b", "generated_text": "mine", "specbatch_generated_text": 1, "error_code": 2}'
    )
    _, lines = joined(run_dir)
    assert [list(json.loads(line)) for line in lines] == [
        ["prompt", "specbatch_specbatch_generated_text", "finish_reason"],
        [
            "prompt",
            "generated_text",
            "specbatch_generated_text",
            "error_code",
            "specbatch_specbatch_generated_text",
            "finish_reason",
        ],
    ]


def test_what_is_no_object_becomes_one(run_dir, answered):
    answered(b'{}\nnot json\n"text"\n{"prompt": NaN}\n\xff\xfe broken', errors={0, 1, 2, 4})
    _, lines = joined(run_dir)
    found = [json.loads(line) for line in lines]
    assert [list(one)[:2] for one in found] == [
        ["generated_text", "error_code"], ["line", "generated_text"], ["line", "generated_text"], ["prompt", "generated_text"], ["line", "generated_text"],
    ]  # fmt: skip
    assert (found[1]["line"], found[2]["line"], found[4]["line"]) == ("not json", '"text"', "\ufffd\ufffd broken")


def test_lines_of_text_are_prompts(run_dir, answered):
    answered("one\ntwo", name="rows.txt")
    _, lines = joined(run_dir)
    assert json.loads(lines[1]) == {"prompt": "two", "generated_text": "answer 1", "finish_reason": "stop"}


def test_missing_rows_are_marked_where_partial_takes_what_is_there(run_dir, answered):
    answered('{"prompt": "a"}\n{"prompt": "b"}\n{"prompt": "c"}', missing={0, 2})
    assert joined(run_dir)[1] == []
    done, lines = joined(run_dir, partial=True)
    assert [json.loads(line).get("error_code") for line in lines] == ["missing", None, "missing"]
    assert (done.missing, done.first_missing) == (2, (0, 2))


def test_requests_of_the_batch_api_become_responses_in_their_order(run_dir, answered):
    requests = "\n".join(
        json.dumps({"custom_id": f"r{at}", "method": "POST", "url": "/v1/chat/completions", "body": {"messages": [{"role": "user", "content": "a"}]}})
        for at in range(3)
    )  # fmt: skip
    answered(requests, errors={1}, missing={2}, openai=CHAT)
    _, lines = joined(run_dir, partial=True)
    assert lines[0] + b"\n" == encode_result(make_row(0, id="r0", text="answer 0", openai=CHAT))
    assert lines[1] + b"\n" == encode_error(make_error(1, id="r1", openai=CHAT))
    assert json.loads(lines[2]) == {
        "id": None, "custom_id": "r2", "response": None,
        "error": {"code": "missing", "message": "the run has no answer for this row"},
    }  # fmt: skip


def test_tables_have_the_inputs_columns_and_then_the_answers(run_dir, answered, tmp_path):
    answered('{"prompt": "a, b", "n": 1}\n{"prompt": "c", "n": 2, "tags": ["x"]}\n{"prompt": "d"}', errors={2})
    joined(run_dir, tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["prompt", "n", "tags", "generated_text", "finish_reason", "error_code", "error_message"]
    assert rows[2] == ["c", "2", '["x"]', "answer 1", "stop", "", ""]
    joined(run_dir, tmp_path / "out.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "out.parquet")
    assert table["n"].to_pylist() == [1, 2, None]
    assert table["error_code"].to_pylist() == [None, None, "invalid_json"]


def test_a_csv_comes_back_with_its_own_columns_and_cells(run_dir, answered, tmp_path):
    answered('prompt;code;note\r\n"a;""b""\nc";007;=1\r\nd;1.50;\r\ntoo;few\r\n', name="rows.csv", errors={2})
    done, _ = joined(run_dir, tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["prompt", "code", "note", "generated_text", "finish_reason", "error_code", "error_message"],
            ['a;"b"\nc', "007", "=1", "answer 0", "stop", "", ""],
            ["d", "1.50", "", "answer 1", "stop", "", ""],
            ["too", "few", "", "", "", "invalid_json", "expected a comma at column 12"],
        ]
    assert (
        done.written[0][0] == "3 rows of the input as csv; 1 cell a spreadsheet would run as a formula: import as text"
    )
    assert joined(run_dir)[1][0] == b"prompt,code,note,generated_text,finish_reason,error_code,error_message"


TABLE = pyarrow.table(
    {
        "prompt": ["a", None, "c", "d", "e"],
        "when": pyarrow.array([1, 2, 3, None, 5], pyarrow.timestamp("us", tz="UTC")),
        "price": pyarrow.array([Decimal("1.10")] * 5, pyarrow.decimal128(9, 2)),
        "image": pyarrow.array([b"\xff\x00"] * 5, pyarrow.binary()),
        "turns": [[{"from": "x", "value": 1}]] * 5,
        "finish_reason": ["mine"] * 5,
        "label": pyarrow.array(["x", "y", "x", None, "y"]).dictionary_encode(),
    }
)


@pytest.mark.parametrize("name", ["rows.parquet", "rows.arrow"])
def test_a_table_keeps_its_schema_and_gets_columns_after_it(run_dir, answered, tmp_path, name):
    file = io.BytesIO()
    if name == "rows.parquet":
        pyarrow.parquet.write_table(TABLE, file, row_group_size=2)
    else:
        with pyarrow.ipc.new_file(file, TABLE.schema) as writer:
            writer.write_table(TABLE)
    answered(file.getvalue(), name=name, errors={1}, missing={3}, limit=4)
    joined(run_dir, tmp_path / "out.parquet", partial=True)
    found = pyarrow.parquet.read_table(tmp_path / "out.parquet")
    assert found.select(TABLE.schema.names).cast(TABLE.schema).equals(TABLE.slice(0, 4))
    assert found.select(range(7, 11)).to_pydict() == {
        "generated_text": ["answer 0", None, "answer 2", None],
        "specbatch_finish_reason": ["stop", None, "stop", None],
        "error_code": [None, "invalid_json", None, "missing"],
        "error_message": [None, "expected a comma at column 12", None, "the run has no answer for this row"],
    }
    joined(run_dir, tmp_path / "out.jsonl", partial=True)
    line = json.loads((tmp_path / "out.jsonl").read_bytes().splitlines()[0])
    assert (line["prompt"], line["finish_reason"], line["generated_text"]) == ("a", "mine", "answer 0")


def test_a_dataset_that_is_another_one_now_is_refused(run_dir, answered):
    path = answered('{"prompt": "a"}\n{"prompt": "b"}')
    path.write_text('{"prompt": "a"}\n{"prompt": "x"}')
    with pytest.raises(DatasetError, match="not the dataset of that run any more"):
        joined(run_dir)


def test_a_dataset_that_is_elsewhere_now_is_named(run_dir, answered, tmp_path):
    path = answered('{"prompt": "a"}')
    (tmp_path / "moved").mkdir()
    moved = path.rename(tmp_path / "moved" / path.name)
    with pytest.raises(DatasetError, match="no such file") as caught:
        joined(run_dir)
    assert caught.value.remedy == "name where the dataset of that run is now: --input FILE"
    stream = io.BytesIO()
    collect(run_dir, stream, open_input=lambda identity: InputOfRun(identity, str(moved)))
    assert b"answer 0" in stream.getvalue()


@pytest.mark.slow
def test_a_row_that_is_not_the_answered_one_is_refused_beyond_the_fingerprint(run_dir, answered, monkeypatch):
    lines = ['{"prompt": "' + f"{at:09}" + '"}' for at in range(5_000)]
    path = answered("\n".join(lines))
    path.write_text("\n".join([*lines[:-1], lines[0]]))
    with pytest.raises(ResultsError, match="row 4,999 has the id 'row-00004999-"):
        joined(run_dir)


def test_the_limit_of_the_run_is_that_of_the_join(run_dir, answered):
    answered('{"prompt": "a"}\n{"prompt": "b"}\n{"prompt": "c"}', limit=2)
    assert len(joined(run_dir)[1]) == 2


def test_a_run_that_says_no_dataset_is_refused(run_dir):
    write_shard(run_dir, [[make_row(0)]], dataset_rows=1, identity=replace(IDENTITY, spec={}))
    write_success(run_dir)
    with pytest.raises(DatasetError, match="does not say which dataset"):
        joined(run_dir)
