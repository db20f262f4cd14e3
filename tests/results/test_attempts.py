import json

import msgspec

from specbatch.results.attempts import Attempt, read_attempts, write_attempts
from specbatch.results.protocol import Progress, PublishState
from specbatch.results.status.progress_text import progress_lines, publish_text, rows_line
from specbatch.results.storage.process import Process
from specbatch.results.summary import RunSummary

ATTEMPT = Attempt(
    number=1, started_at=10.0, updated_at=12.0, outcome="running", summary=RunSummary(results=3),
    now=Progress(rows=3, seconds=1.0), process=Process(host="box", pid=7, space="boot pid:[1]", started="99"),
    reason="no room",
)  # fmt: skip


def test_an_attempt_keeps_the_last_snapshot_and_its_process(tmp_path):
    write_attempts(tmp_path, 0, 1, [ATTEMPT])
    assert read_attempts(tmp_path, 0, 1) == (ATTEMPT,)


def test_a_file_of_an_earlier_version_has_neither(tmp_path):
    write_attempts(tmp_path, 0, 1, [ATTEMPT])
    path = tmp_path / "progress-00000-of-00001.json"
    value = json.loads(path.read_bytes())
    for name in ("now", "process", "reason"):
        del value["attempts"][0][name]
    path.write_text(json.dumps(value))
    (old,) = read_attempts(tmp_path, 0, 1)
    assert (old.now, old.process, old.summary.results) == (Progress(), None, 3)


def test_a_snapshot_of_another_version_is_said_as_far_as_it_goes():
    old = msgspec.convert({"tomorrow": 1, "publish": {"pending_files": 3}}, Progress)
    assert rows_line(old) == "0 of ?, no errors"
    assert dict(progress_lines(old))["speed"] == "0.0 tokens/s"
    assert old.publish == PublishState(pending_files=3)


def test_publishing_is_said_with_what_waits_and_why_it_fails_since_when():
    state = PublishState(destination="s3://b/run", done_files=1, done_bytes=999)
    assert publish_text(state) == "1 file (999 bytes) at s3://b/run"
    failing = PublishState(
        destination="s3://b/run", pending_files=2, pending_bytes=1_500_000, problem="no\n route", failing_since=100.0
    )
    assert publish_text(failing, clock=160.0) == (
        "no files (0 bytes) at s3://b/run, 2 waiting (1.5 MB); failing for 1 min 00 s: no route"
    )
