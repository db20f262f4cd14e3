import json

import msgspec
import pytest
from msgspec.structs import replace

from specbatch.cluster.status.pod_log import PodLog, read_log, read_termination_message, readable
from specbatch.errors import ModelError, Problem, SpecError
from specbatch.results.protocol import Finished, Progress, Started, TerminationMessage, parse_line
from specbatch.results.summary import RunSummary
from specbatch.results.totals import Totals
from specbatch.runner.display import JsonDisplay
from specbatch.runner.termination import encoded, of_error, of_success

PROGRESS = Progress(
    seconds=10.0,
    rows=1200,
    total_rows=5000,
    errors=0,
    skipped=0,
    active=8,
    completion_tokens=8300,
    tokens_per_second=830.04,
    acceptance_rate=0.71,
    mean_acceptance_length=3.1,
    num_speculative_tokens=4,
    eta_seconds=190.0,
    phase_seconds={"draft": 3.0, "verify": 6.0},
)
SUMMARY = RunSummary(
    results=12,
    seconds=2.0,
    completion_tokens=100,
    drafted=40,
    accepted=30,
    totals=Totals(results=12, errors=1, errors_by_code={"invalid_json": 1}),
)


def plain(summary):
    return summary and json.loads(json.dumps(msgspec.to_builtins(summary)))


class Lines:
    """Collects what a display writes."""

    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text

    def flush(self):
        pass


@pytest.fixture
def told(tmp_path):
    """A whole log, by the runner's own display."""
    stream = Lines()
    display = JsonDisplay(stream)
    display.show(Started("nightly", str(tmp_path)))
    display.step("loading the target")
    display.show(PROGRESS)
    display.show(Finished(SUMMARY, str(tmp_path)))
    return stream.text.splitlines()


def test_the_runners_own_lines_are_read_back(told):
    log = read_log(told)
    assert log.progress == PROGRESS
    assert (log.step, plain(log.summary), log.error) == ("loading the target", plain(SUMMARY), "")


def test_a_log_cut_at_any_byte_says_what_its_whole_lines_say(told):
    text = "\n".join(told)
    for at in range(len(text)):
        assert plain(read_log(text[at:].splitlines()).summary) == plain(SUMMARY) or at > text.rindex('{"event": "end"')
        assert read_log(text[:at].splitlines()).error == ""


def test_lines_of_libraries_are_nobodys():
    lines = [
        "UserWarning: x",
        "{",
        "{}",
        '{"event": "other"}',
        '{"event": "step"}',
        '{"event": "progress", "rows": "7"}',
        "null",
        "\ud800{",
        "[" * 9999,
    ]
    assert [parse_line(line) for line in lines] == [None] * len(lines)
    assert read_log(lines) == PodLog()


def test_keys_may_be_added():
    assert parse_line('{"event": "progress", "rows": 7, "new": [1]}') == Progress(rows=7)


def test_the_second_attempt_of_a_log_counts(told):
    log = read_log(["error: GPU 0 has failed", *told[:2]])
    assert (log.step, log.error, log.progress) == ("loading the target", "", None)


def test_an_error_ends_with_its_remedy_and_not_with_what_follows(told):
    error = SpecError([Problem("spec.target", "is missing", "name a model")], source="spec.json")
    log = read_log([*told[:3], *f"error: {error}".splitlines(), told[1], "Exception ignored in: x"])
    assert log.error == str(error)


def test_the_runners_termination_message_is_read_back():
    word = read_termination_message(
        encoded(of_error(ModelError("no such model", where="org/x", remedy="check the name"))).decode()
    )
    assert (word.exit_code, word.meaning, word.reason, word.remedy) == (
        66,
        "model missing or not permitted",
        "org/x: no such model",
        "check the name",
    )
    done = read_termination_message(encoded(replace(of_success(SUMMARY), shard=3, shards=16)).decode())
    assert (done.exit_code, done.rows, done.errors, done.tokens_per_second, done.acceptance_rate) == (
        0,
        13,
        1,
        50.0,
        0.75,
    )
    assert (done.shard, done.shards, done.reason) == (3, 16, "")


def test_a_termination_message_with_wrong_types_tells_the_rest():
    assert read_termination_message(
        '{"exitCode": "66", "rows": true, "errors": 1.5, "seconds": 3, "error": ["x"], "where": "here", "new": {}}'
    ) == TerminationMessage(where="here", seconds=3.0)
    assert read_termination_message("") == TerminationMessage()
    assert read_termination_message("[" * 100_000).exit_code is None


def test_the_end_of_a_log_is_a_termination_message_too(told):
    word = read_termination_message(
        "\n".join(
            ['ts": 3}', *told[1:3], "error: part-00000-of-00001.jsonl: No space left on device", "  remedy: free some"]
        )
    )
    assert (word.reason, word.remedy, word.rows) == (
        "part-00000-of-00001.jsonl: No space left on device",
        "free some",
        1200,
    )
    assert (
        read_termination_message("Traceback (most recent call last):\n  File x\nRuntimeError: boom\n").reason
        == "RuntimeError: boom"
    )
    assert read_termination_message(told[2]).rows == 1200
    assert read_termination_message(told[3]).rows == 13


def test_events_are_one_readable_line_each_and_other_lines_stay(told, tmp_path):
    assert [readable(line) for line in told] == [
        f"started nightly, results in {tmp_path}",
        "loading the target",
        "rows 1,200 of 5,000 · 830 tokens/s · acceptance 0.710 · 3 min left",
        "done: 12 results, 1 error · 50 tokens/s · acceptance 0.750",
    ]
    assert readable(json.dumps({"event": "progress", "rows": 3, "errors": 2})) == "rows 3 of ? · 2 errors · 0 tokens/s"
    assert readable('{"a": 1}') == '{"a": 1}'
