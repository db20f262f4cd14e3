import json

import pytest

from specbatch.cluster.diagnose.finding import Said
from tests.cluster.diagnose.objects import JOB, at, cause_of, condition, event, pod, running, verdict_on, waiting

POD = f"{JOB}-0-abcde"
LOOK = json.dumps({"event": "progress", "rows": 1234, "total_rows": 10000, "tokens_per_second": 512.0})
STEP = json.dumps({"event": "step", "message": "loading the target"})


def said(line, seconds_ago):
    return {"logs": {POD: Said(line, time=at(seconds_ago))}}


def test_a_pod_that_says_how_far_it_is_is_fine():
    verdict = verdict_on(running(), **said(LOOK, 5))
    assert (verdict.finding.cause, verdict.finding.severity) == ("running", "ok")
    assert "nothing is wrong" in verdict.finding.sentence
    assert any("rows 1,234 of 10,000" in line for line in verdict.finding.evidence)


@pytest.mark.parametrize(
    ("line", "seconds_ago", "cause"),
    [
        (LOOK, 200, "running"),
        (LOOK, 400, "no-progress"),
        (STEP, 400, "running"),
        (STEP, 3000, "no-progress"),
        ("a warning", 3000, "no-progress"),
    ],
)
def test_silence_is_a_hang_sooner_while_decoding_than_while_loading(line, seconds_ago, cause):
    assert cause_of(running(started=4000), **said(line, seconds_ago)) == cause


def test_a_log_without_a_line_is_a_hang_only_where_it_could_be_read():
    assert cause_of(running(started=4000), logs={POD: Said()}) == "no-progress"
    assert cause_of(running(started=30), logs={POD: Said()}) == "running"
    assert cause_of(running(started=4000)) == "running"


def test_a_node_that_does_not_answer_under_a_running_pod():
    silent = running(conditions=[condition("Ready", "NodeNotReady", status="False")])
    assert cause_of(silent, events=[event(silent, "NodeNotReady", "Node is not ready")]) == "node-not-answering"
    back = running(conditions=[condition("Ready", "")])
    assert cause_of(back, events=[event(back, "NodeNotReady", "Node is not ready")]) == "running"


def test_a_pod_that_was_told_to_end_keeps_its_shard_until_it_has():
    ending = running(deleted=at(-20))
    assert (cause_of(ending), verdict_on(ending).finding.severity) == ("ending", "warning")
    stuck = verdict_on(running(deleted=at(600)))
    assert stuck.finding.cause == "stuck-ending"
    assert f"kubectl -n ml delete pod {POD} --force" in stuck.finding.remedy


def test_setting_up_takes_minutes_not_longer():
    assert cause_of(waiting("ContainerCreating")) == "starting"
    old = waiting("ContainerCreating")
    old["status"]["startTime"] = at(1200)
    assert cause_of(old) == "stuck-starting"
    assert cause_of(pod(node="node-a")) == "starting"
