"""The status of a run on the cluster: from its Jobs, its pods and their logs."""

import json

import pytest

from specbatch.cluster.client.kinds import JOBS, LOCAL_QUEUES, PODS, WORKLOADS
from specbatch.cluster.jobs.suspend import cancel, suspend
from specbatch.cluster.manifests.names import CANCELLED, SUBMITTED
from specbatch.cluster.status.job_run_text import render_run, run_json
from specbatch.cluster.status.read_run import read_run
from specbatch.cluster.status.stop import stop
from specbatch.errors import ClusterError
from tests.cluster.job_objects import pod_of, retry_of, submitted

CLOCK = 1767225600.0 + 600  # ten minutes into 2026


def look(rows=100, total=400, speed=500.0, left=60.0, **fields):
    known = {
        "seconds": 30.0,
        "completion_tokens": 1000,
        "acceptance_rate": 0.5,
        "mean_acceptance_length": 2.0,
        "num_speculative_tokens": 4,
    }
    told = {"rows": rows, "total_rows": total, "tokens_per_second": speed, "eta_seconds": left}
    return json.dumps({"event": "progress", **known, **told, **fields}) + "\n"


def done_word(rows=400, errors=0, tokens=1000, rate=0.5):
    return json.dumps(
        {
            "exitCode": 0,
            "rows": rows,
            "errors": errors,
            "completion_tokens": tokens,
            "acceptance_rate": rate,
            "tokens_per_second": 90.0,
        }
    )


def run_pod(api, job, index=0, log="", **pod):
    made = api.put(PODS, pod_of(job, index, **pod))
    api.logs[made["metadata"]["name"]] = log
    return made


def read(api, name="nightly"):
    return read_run(api.cluster(), name, CLOCK)


def test_one_running_shard_is_told_in_full(api):
    job = submitted(api, status={"ready": 1, "startTime": "2026-01-01T00:07:00Z"})
    run_pod(
        api,
        job,
        log='{"event": "start", "name": "nightly", "results": "/r"}\n'
        + look(rows=1200, total=5000, errors=2, left=190.0, active=8),
    )
    assert render_run(read(api)).splitlines() == [
        f"nightly  Job {job['metadata']['name']}, namespace default",
        "running (started 3 min ago)",
        "",
        "             ━━━━━━━━━┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄ 24%  3 min 10 s left",
        "rows         1,200 of 5,000, 2 errors, batch 8",
        "speed        500.0 tokens/s",
        "speculation  acceptance_rate 0.500, mean_acceptance_length 2.00, k 4",
        f"pod          {job['metadata']['name']}-0-aaaaa on node node-a",
    ]


def test_several_shards_are_summed_and_each_has_its_line(api):
    job = submitted(api, completions=4, status={"ready": 2, "completedIndexes": "0"})
    run_pod(api, job, 0, state="succeeded", message=done_word(errors=1, rate=0.8), node="node-a")
    run_pod(api, job, 1, log=look(rows=100, left=60.0))
    run_pod(api, job, 2, log=look(rows=200, left=90.0, speed=250.0), node="node-b")
    run_pod(
        api,
        job,
        3,
        state="unscheduled",
        conditions=[{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/2 nodes"}],
        node="",
    )
    status = read(api)
    value = run_json(status)
    assert (value["state"], value["rows"], value["errors"], value["tokens_per_second"]) == ("running", 700, 1, 750.0)
    assert (value["total_rows"], value["total_rows_estimated"]) == (1600, True)
    assert value["acceptance_rate"] == pytest.approx(0.6)
    assert value["mean_acceptance_length"] == 2.0
    # 900 rows are left, 300 of 30 seconds each shard are done: 10 rows a second.
    assert value["eta_seconds"] == pytest.approx(90.0)
    assert value["counts"] == {"complete": 1, "running": 2, "pending": 1}
    assert [one["node"] for one in value["shards"]] == ["node-a", "node-a", "node-b", None]
    text = render_run(status)
    assert "running: 2 of 4 shards at work" in text
    assert "rows         700 of about 1,600, 1 error" in text
    assert "shard 3: pending: Unschedulable: 0/2 nodes" in text
    assert max(map(len, text.splitlines())) <= 100


def test_time_left_counts_what_nobody_works_on(api):
    job = submitted(api, completions=10, parallelism=1, status={"ready": 1})
    run_pod(api, job, 0, log=look(rows=300, left=10.0))
    assert run_json(read(api))["eta_seconds"] == pytest.approx(370.0)  # 3,700 rows at 10 a second


def test_restarts_are_counted_with_their_reasons(api):
    job = submitted(api, completions=3, status={"ready": 3})
    run_pod(api, job, 0, state="failed", reason="OOMKilled", exit_code=137)
    run_pod(api, job, 0, attempt=1, state="failed", exit_code=69)
    run_pod(api, job, 0, attempt=2, log=look())
    run_pod(
        api,
        job,
        1,
        state="failed",
        conditions=[{"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}],
    )
    run_pod(api, job, 1, attempt=1, state="failed", exit_code=69)
    run_pod(api, job, 1, attempt=2, log=look())
    counted = run_pod(api, job, 2, log=look())
    counted["metadata"]["annotations"] = {
        "batch.kubernetes.io/job-index-failure-count": "1",
        "batch.kubernetes.io/job-index-ignored-failure-count": "2",
    }
    api.put(PODS, counted)
    value = run_json(read(api))
    assert value["restarts"] == 7
    assert value["restart_reasons"] == {
        "GPU fault (exit code 69)": 2,
        "out of memory (OOMKilled)": 1,
        "evicted": 1,
        "reason gone with the pod": 3,
    }
    assert "restarts     7: GPU fault (exit code 69) 2, " in render_run(read(api))


@pytest.mark.parametrize(
    ("conditions", "extra", "state", "says"),
    [
        (["Complete"], {"completionTime": "2026-01-01T00:09:00Z", "startTime": "2026-01-01T00:00:00Z"}, "complete", "complete 1 min ago, after 9 min"),
        ([{"type": "Failed", "status": "True", "reason": "DeadlineExceeded", "message": "too long", "lastTransitionTime": "2026-01-01T00:08:00Z"}], {}, "failed", "failed 2 min ago: DeadlineExceeded: too long"),
        ([{"type": "FailureTarget", "status": "True", "reason": "DeadlineExceeded", "message": "too long"}], {}, "failing", "failing: DeadlineExceeded: too long; its pods are being stopped"),
        ([], {"completedIndexes": "0"}, "finishing", "finishing: every shard has ended"),
        ([], {}, "pending", "pending: no pod yet"),
    ],
)  # fmt: skip
def test_a_job_says_how_it_stands(api, conditions, extra, state, says):
    submitted(api, conditions=conditions, status=extra)
    status = read(api)
    assert status.state == state
    assert says in render_run(status).splitlines()[1]


def test_suspended_jobs_say_who_waits_for_what(api):
    job = submitted(api, status={})
    since = {"type": "Suspended", "status": "True", "lastTransitionTime": "2026-01-01T00:05:00Z"}
    annotations = job["metadata"]["annotations"]

    def said(labels=(), **more):
        metadata = {
            **job["metadata"],
            "annotations": {**annotations, **more},
            "labels": {**job["metadata"]["labels"], **dict(labels)},
        }
        api.put(
            JOBS,
            {**job, "metadata": metadata, "spec": {**job["spec"], "suspend": True}, "status": {"conditions": [since]}},
        )
        status = read(api)
        return status.state, render_run(status).splitlines()[1]

    assert said() == ("not started", "not started: submit was stopped half-way; submit the same file again")
    assert said(**{SUBMITTED: "true"}) == (
        "suspended",
        "suspended for 5 min: specbatch resume nightly goes on where it was",
    )
    assert said(**{SUBMITTED: "true", CANCELLED: "true"}) == (
        "cancelled",
        "cancelled: specbatch resume nightly goes on where it was",
    )
    queue = {"kueue.x-k8s.io/queue-name": "team"}
    assert said(queue, **{SUBMITTED: "true"}) == ("queued", "queued by Kueue in team for 5 min")
    reserved = {"type": "QuotaReserved", "status": "False", "message": "insufficient quota for nvidia.com/gpu"}
    api.put(LOCAL_QUEUES, {"metadata": {"name": "team"}})
    api.put(
        WORKLOADS,
        {
            "metadata": {"name": "w", "labels": {"kueue.x-k8s.io/job-uid": "job-1"}},
            "status": {"conditions": [reserved]},
        },
    )
    assert (
        said(queue, **{SUBMITTED: "true"})[1]
        == "queued by Kueue in team for 5 min: insufficient quota for nvidia.com/gpu"
    )
    api.deny("list", "localqueues")
    assert said(queue, **{SUBMITTED: "true"})[1] == "queued by Kueue in team for 5 min"


def test_pending_pods_say_what_they_wait_for_and_since_when(api):
    job = submitted(api, completions=2)
    for index in range(2):
        run_pod(api, job, index, state="waiting", reason="ImagePullBackOff")
    assert render_run(read(api)).splitlines()[1] == "pending: 2 pods for 10 min: ImagePullBackOff"


def test_starting_says_what_takes_so_long(api):
    job = submitted(api, status={"ready": 1})
    run_pod(api, job, log='{"event": "step", "message": "loading the target"}\nUserWarning: x\n')
    status = read(api)
    assert status.state == "starting"
    assert render_run(status).splitlines()[1] == "starting: loading the target"


def test_several_that_start_say_what_most_of_them_do(api):
    job = submitted(api, completions=3, status={"ready": 3})
    for index, step in enumerate(["loading", "warming up", "loading"]):
        run_pod(api, job, index, log=json.dumps({"event": "step", "message": step}) + "\n")
    assert render_run(read(api)).splitlines()[1] == "starting: 3 of 3 shards at work: loading"


def test_a_failed_run_says_why_in_the_pods_own_words(api):
    word = json.dumps({"exitCode": 66, "error": "no such model", "where": "org/x"})
    job = submitted(
        api,
        completions=2,
        conditions=[{"type": "Failed", "status": "True", "reason": "PodFailurePolicy"}],
        status={"failedIndexes": "1"},
    )
    run_pod(api, job, 1, state="failed", exit_code=66, message=word)
    text = render_run(read(api))
    assert (
        text.splitlines()[1] == "failed: shard 1: model missing or not permitted (exit code 66): org/x: no such model"
    )
    assert "specbatch why nightly says more" in text
    assert run_json(read(api))["shards"][1]["exit_code"] == 66


def test_a_pod_that_ended_while_the_job_goes_on_is_being_replaced(api):
    job = submitted(api, status={"failed": 1})
    run_pod(api, job, 0, state="failed", exit_code=75, message=json.dumps({"exitCode": 75, "rows": 40}))
    status = read(api)
    assert status.state == "pending"
    assert "1 pod ended, and will be replaced" in render_run(status)
    assert run_json(status)["rows"] == 40


def test_a_pod_that_has_done_its_shard_counts_before_the_job_knows(api):
    job = submitted(api, completions=2, status={"ready": 1})
    for index in range(2):
        run_pod(api, job, index, state="succeeded", message=done_word())
    status = read(api)
    assert status.state == "finishing"
    assert run_json(status)["counts"] == {"complete": 2}
    assert run_json(status)["tokens_per_second"] == 180.0
    assert "speed        180.0 tokens/s\nspeculation  acceptance_rate 0.500\n" in render_run(status)


def test_a_retry_counts_what_earlier_jobs_have_done(api):
    first = submitted(
        api, completions=4, conditions=["Failed"], status={"completedIndexes": "0,2", "failedIndexes": "1,3"}
    )
    run_pod(api, first, 0, state="succeeded", message=done_word())
    run_pod(api, first, 2, state="succeeded", message=done_word(rows=399))
    run_pod(api, first, 3, state="failed", exit_code=69)
    retry = submitted(
        api,
        completions=4,
        retry=retry_of(first, [1, 3]),
        uid="job-2",
        created="2026-01-01T00:05:00Z",
        status={"ready": 1},
    )
    run_pod(api, retry, 1, log=look(rows=10))
    value = run_json(read(api))
    assert value["job"] == retry["metadata"]["name"]
    assert [one["verdict"] for one in value["shards"]] == ["complete", "waiting", "complete", "running"]
    assert value["rows"] == 809
    assert "retry of" in render_run(read(api))
    earlier = run_json(read(api, first["metadata"]["name"]))
    assert [one["verdict"] for one in earlier["shards"]] == ["complete", "failed", "complete", "failed"]


def test_a_retry_whose_first_job_is_gone_counts_what_that_has_done(api):
    first = submitted(api, completions=4)
    retry = submitted(api, completions=4, retry=retry_of(first, [1, 3]), uid="job-2", status={"completedIndexes": "0"})
    api.remove(JOBS, first["metadata"]["name"])
    run_pod(
        api, retry, 0, state="succeeded", message=json.dumps({"exitCode": 0, "rows": 100, "errors": 0, "shards": 4})
    )
    value = run_json(read(api))
    assert [one["verdict"] for one in value["shards"]] == ["complete", "complete", "complete", "waiting"]
    assert (value["rows"], value["total_rows"], value["total_rows_estimated"]) == (300, 400, True)


def test_of_thousands_of_pods_a_bounded_number_of_logs_is_read_and_few_lines_are_shown(api, monkeypatch):
    monkeypatch.setattr("specbatch.cluster.status.read_run._LOGS", 30)
    job = submitted(api, completions=100, status={"ready": 60})
    for index in range(60):
        run_pod(api, job, index, log=look(left=float(index)))
    status = read(api)
    assert sum(path.endswith("/log") for _, path, _ in api.requests) == 30
    text = render_run(status)
    assert "the logs of 30 of 60 pods were read" in text
    assert "84 more shards are not shown" in text
    assert len(text.splitlines()) < 40


def test_logs_that_may_not_be_read_leave_the_rest(api):
    job = submitted(api, status={"ready": 1})
    run_pod(api, job, log=look())
    api.deny("get", "pods/log")
    status = read(api)
    assert status.state == "running"
    assert "1 log could not be read" in render_run(status)


def test_it_needs_jobs_pods_and_their_logs_only(api):
    job = submitted(api, status={"ready": 1})
    run_pod(api, job, log=look())
    read(api)
    assert {path.split("/")[-1].split("?")[0] for _, path, _ in api.requests} == {"jobs", "pods", "log"}


def test_an_ended_pod_without_a_last_word_is_told_by_its_log(api):
    job = submitted(api, status={"completedIndexes": "0"}, conditions=["Complete"])
    summary = {"results": 5, "completion_tokens": 50, "seconds": 2.0, "totals": {"results": 7, "errors": 1}}
    run_pod(api, job, state="succeeded", log=json.dumps({"event": "end", "summary": summary}) + "\n")
    value = run_json(read(api))
    assert (value["rows"], value["errors"], value["total_rows"]) == (8, 1, 8)


def test_no_run_is_an_error(api):
    with pytest.raises(ClusterError) as caught:
        read(api)
    assert caught.value.status == 404


def word_of(rows, *, dataset=200, code=0, **more):
    return json.dumps({"exitCode": code, "rows": rows, "errors": 0, "dataset_rows": dataset, **more})


def test_once_one_pod_has_read_the_whole_dataset_every_share_is_known(api):
    # 200 rows in 3 shards are 67, 67 and 66: the pods of two are gone.
    job = submitted(api, completions=3, conditions=["Complete"], status={"completedIndexes": "0-2"})
    run_pod(api, job, 1, state="succeeded", message=word_of(67))
    assert "rows         200 of 200" in render_run(read(api))


def test_a_total_that_pods_only_estimate_is_marked(api):
    job = submitted(api, status={"ready": 1})
    run_pod(api, job, log=look(rows=63, total=203, total_rows_estimated=True))
    assert "rows         63 of about 203" in render_run(read(api))


def test_between_two_pods_the_last_word_of_the_one_before_counts(api):
    job = submitted(api, status={"ready": 0})
    run_pod(api, job, 0, state="failed", exit_code=75, message=word_of(92, code=75))
    run_pod(api, job, 0, attempt=1, state="waiting")
    assert "rows         92 of 200" in render_run(read(api))


def test_where_no_pod_tells_no_number_is_made_up(api):
    job = submitted(api, conditions=["Suspended"])
    api.put(JOBS, {**job, "spec": {**job["spec"], "suspend": True}})
    text = render_run(read(api))
    assert "0 of ?" not in text
    assert "rows         not known before a pod reports them" in text


@pytest.mark.parametrize("action", [suspend, cancel])
def test_what_pods_counted_before_they_were_stopped_is_kept(api, action):
    job = submitted(api, completions=2, status={"ready": 2})
    pods = [run_pod(api, job, index, log=look(rows=40, total=100, total_rows_estimated=True)) for index in range(2)]
    assert "its pods save what they have" in stop(api.cluster(), "nightly", action)
    for pod in pods:
        api.remove(PODS, pod["metadata"]["name"])
    assert "rows         at least 80" in render_run(read(api))


def test_a_job_is_stopped_where_its_logs_may_not_be_read(api):
    job = submitted(api, status={"ready": 1})
    run_pod(api, job, log=look(rows=40, total=100))
    api.deny("list", "pods")
    assert stop(api.cluster(), "nightly", cancel).startswith("cancelled Job")
    assert api.cluster().get(JOBS, job["metadata"]["name"])["spec"]["suspend"]
