import json

import pytest
from msgspec.structs import replace

from specbatch.errors import DatasetError, ModelError, Problem, SpecError
from specbatch.results.protocol import TerminationMessage
from specbatch.results.storage.process import Process
from specbatch.runner import __main__ as runner
from specbatch.runner import termination
from tests.runner.tiny import spec_text, write_rows


@pytest.fixture
def log(tmp_path, monkeypatch):
    path = tmp_path / "termination-log"
    path.touch()
    monkeypatch.setenv("TERMINATION_LOG", str(path))
    return path


@pytest.fixture
def spec(tmp_path, pair):
    rows = [{"id": f"r{number}", "prompt": f"hello {number}"} for number in range(5)]
    path = tmp_path / "spec.yaml"
    dataset = write_rows(tmp_path / "rows.jsonl", [*rows, b"broken"])
    path.write_text(
        spec_text(pair, dataset, tmp_path / "results").replace("spec:\n", "spec:\n  job: {completions: 2}\n")
    )
    return path


def said(log):
    data = log.read_bytes()
    assert len(data) <= 4096
    return json.loads(data)


@pytest.mark.slow
def test_a_shard_that_has_ended_says_what_came_out(spec, log, monkeypatch):
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "1")
    assert runner.main([str(spec)]) == 0
    value = said(log)
    assert value["seconds"] > 0
    assert value["tokens_per_second"] > 0
    assert 0 <= value["acceptance_rate"] <= 1
    assert value["completion_tokens"] > 0
    counts = {name: value[name] for name in ("exitCode", "meaning", "rows", "results", "errors", "shard", "shards")}
    assert counts == {"exitCode": 0, "meaning": "done", "rows": 3, "results": 2, "errors": 1, "shard": 1, "shards": 2}


def test_an_error_says_what_where_and_what_to_do_beside_the_rows_that_have_ended(spec, log, capsys):
    spec.write_text(spec.read_text().replace("dataset: {", "dataset: {errorBudget: 0, "))
    assert runner.main([str(spec)]) == 65
    value = said(log)
    assert (value["exitCode"], value["meaning"]) == (65, "bad dataset")
    assert "error budget" in value["error"]
    assert value["remedy"]
    assert value["errors"] == 1
    assert value["rows"] >= 1
    assert (value["shard"], value["shards"]) == (0, 1)
    assert "error: " in capsys.readouterr().err


@pytest.mark.slow
def test_where_no_row_was_looked_at_rows_of_an_earlier_attempt_are_not_shown_as_ours(spec, log, tmp_path, monkeypatch):
    assert runner.main([str(spec)]) == 0
    assert said(log)["rows"] == 6
    monkeypatch.setattr(Process, "current", lambda: Process(host="another", pid=1))
    spec.write_text(spec.read_text().replace(str(tmp_path / "rows.jsonl"), str(tmp_path / "none.jsonl")))
    assert runner.main([str(spec)]) == 65
    assert "error" in said(log)
    assert "rows" not in said(log)


def test_a_bug_ends_with_1_its_last_line_in_the_message_and_its_traceback_in_the_log(spec, log, capsys, monkeypatch):
    def fail(*_, **__):
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(runner, "run_job", fail)
    assert runner.main([str(spec)]) == 1
    value = said(log)
    assert (value["exitCode"], value["error"]) == (1, "ZeroDivisionError: by zero")
    assert "Traceback" in capsys.readouterr().err


def test_wrong_usage_ends_with_64_and_says_how(log):
    assert runner.main([]) == 64
    assert said(log)["exitCode"] == 64
    assert "usage" in said(log)["error"]


def test_every_problem_of_a_spec_is_in_the_message():
    problems = [Problem("spec.a", "is wrong", "fix a"), Problem("spec.b", "is missing", "add b")]
    message = termination.of_error(SpecError(problems, source="spec.yaml"))
    assert message.error == "spec.a: is wrong; spec.b: is missing"
    assert (message.remedy, message.where) == ("fix a; add b", "spec.yaml")


def test_what_an_error_does_not_know_is_left_out():
    assert json.loads(termination.encoded(termination.of_error(ModelError("gone")))) == {
        "exitCode": 66,
        "meaning": "model missing or not permitted",
        "error": "gone",
    }


@pytest.mark.parametrize("letter", ["x", "模", "😀", '"', "\x01", "\ud800"])
def test_a_message_that_is_too_long_is_shortened_and_stays_an_object_with_all_its_fields(letter):
    error = DatasetError(letter * 9000, where="w" * 3000, remedy=letter * 100)
    message = replace(termination.of_error(error), shard=3, shards=16)
    data = termination.encoded(message)
    assert len(data) <= 4096
    read = json.loads(data)
    assert read.keys() == {"exitCode", "meaning", "error", "where", "remedy", "shard", "shards"}
    assert read["exitCode"] == 65
    assert read["error"].endswith("…")
    assert len(data) > 3000


def test_without_a_file_for_it_no_message_is_left(tmp_path):
    termination.leave_message(TerminationMessage(exit_code=0), {"TERMINATION_LOG": str(tmp_path / "none")})
    assert not (tmp_path / "none").exists()
