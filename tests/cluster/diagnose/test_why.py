"""The verdict on a whole Job: done, given up, several causes at once, nothing known."""

import pytest

from specbatch.cluster.diagnose.finding import Said
from tests.cluster.diagnose.objects import (
    at,
    cause_of,
    condition,
    event,
    failed,
    job,
    pod,
    pod_spec,
    running,
    termination_message,
    unschedulable,
    verdict_on,
    waiting,
)

OOM = {"reason": "OOMKilled", "spec": pod_spec(resources={"limits": {"memory": "96Mi"}})}
FAILED_INDEXES = condition("Failed", "FailedIndexes", "Job has failed indexes")


def test_a_job_that_is_done_is_done_whatever_its_pods_say_and_counts_bad_rows():
    done = pod(0, node="node-a", phase="Succeeded")
    done["status"]["containerStatuses"] = [
        {
            "name": "runner",
            "state": {"terminated": {"exitCode": 0, "message": '{"exitCode": 0, "rows": 10, "errors": 2}'}},
        }
    ]
    the_job = job(
        conditions=[condition("SuccessCriteriaMet", "CompletionsReached"), condition("Complete", "CompletionsReached")]
    )
    verdict = verdict_on(done, the_job=the_job)
    assert (verdict.finding.cause, verdict.finding.severity) == ("complete", "ok")
    assert "2 rows could not be answered" in verdict.finding.sentence


def test_submit_that_died_half_way_and_a_person_who_suspended():
    assert cause_of(the_job=job(suspend=True, annotations={})) == "not-started"
    verdict = verdict_on(
        the_job=job(suspend=True, conditions=[condition("Suspended", "JobSuspended", "Job suspended")])
    )
    assert verdict.finding.cause == "suspended"
    assert verdict.finding.remedy == "specbatch resume nightly -n ml"
    assert verdict.finding.since == at(50)


def test_a_cancelled_job_is_not_called_suspended():
    marks = {"specbatch.dev/submitted": "true", "specbatch.dev/cancelled": "true"}
    verdict = verdict_on(the_job=job(suspend=True, annotations=marks))
    assert verdict.finding.cause == "cancelled"
    assert "cancelled the Job" in verdict.finding.sentence
    assert verdict.finding.remedy == "specbatch resume nightly -n ml"


def test_a_queued_job_that_submit_never_finished_has_no_config_map():
    queued = job(suspend=True, annotations={}, labels={"kueue.x-k8s.io/queue-name": "team-a"})
    assert cause_of(the_job=queued, spec={}) == "not-started"


def test_jobs_and_namespaces_on_their_way_out():
    going = job()
    going["metadata"] |= {"deletionTimestamp": at(5), "finalizers": ["foregroundDeletion"]}
    verdict = verdict_on(running(), the_job=going)
    assert (verdict.finding.cause, verdict.finding.evidence) == ("deleting", ("held by finalizer foregroundDeletion",))
    assert (
        cause_of(the_job=going, objects={"namespaces": [{"metadata": {"name": "ml", "deletionTimestamp": at(9)}}]})
        == "namespace-deleting"
    )


def test_the_deadline_of_the_job_names_the_shards_that_are_left():
    late = condition("Failed", "DeadlineExceeded", "Job was active longer than specified deadline")
    the_job = job(completions=4, conditions=[late], activeDeadlineSeconds=3600, status={"completedIndexes": "0,2"})
    finding = verdict_on(the_job=the_job).finding
    assert (finding.cause, finding.shards) == ("deadline-exceeded", (1, 3))
    assert "3,600 s" in finding.sentence


def test_a_failed_job_is_explained_by_the_last_try_of_each_failed_shard():
    the_job = job(completions=3, conditions=[FAILED_INDEXES], status={"completedIndexes": "0", "failedIndexes": "1,2"})
    tries = [
        failed(137, index=index, name=f"p{index}-{attempt}", made=500 - 100 * attempt, **OOM)
        for index in (1, 2)
        for attempt in range(2)
    ]
    verdict = verdict_on(*tries, the_job=the_job)
    assert (verdict.finding.cause, verdict.finding.shards) == ("out-of-memory-killed", (1, 2))
    assert verdict.finding.sentence.startswith("the Job has failed: ")
    assert (
        verdict.finding.evidence[0]
        == "job nightly-0123456789: Failed: FailedIndexes: Job has failed indexes (failed indexes 1,2)"
    )
    assert "2 tries of this shard have failed" in verdict.finding.evidence


def test_of_several_causes_the_most_common_comes_first_and_the_others_are_told():
    the_job = job(completions=4, conditions=[FAILED_INDEXES], status={"failedIndexes": "0-3"})
    pods = [failed(137, index=index, **OOM) for index in (0, 2, 3)] + [
        failed(69, termination_message(69, "the device failed"), index=1)
    ]
    verdict = verdict_on(*pods, the_job=the_job)
    assert [(one.cause, one.shards) for one in (verdict.finding, *verdict.others)] == [
        ("out-of-memory-killed", (0, 2, 3)),
        ("gpu-fault", (1,)),
    ]
    assert verdict.finding.remedy.endswith("submit again")


def test_a_failed_job_offers_retry_where_no_change_is_needed():
    the_job = job(conditions=[FAILED_INDEXES], status={"failedIndexes": "0"})
    assert verdict_on(failed(139), the_job=the_job).finding.remedy.endswith("then: specbatch retry nightly -n ml")
    drained = pod(
        node="node-a",
        phase="Failed",
        conditions=[condition("DisruptionTarget", "DeletionByPodGC", "PodGC: node no longer exists")],
    )
    assert verdict_on(drained, the_job=the_job).finding.remedy == "specbatch retry nightly -n ml"
    wrong = failed(66, termination_message(66, "no such model", "check the name"))
    assert verdict_on(wrong, the_job=the_job).finding.remedy == "check the name; then submit again"


def test_a_job_that_is_about_to_fail_is_judged_by_the_pod_that_ended_it():
    target = condition(
        "FailureTarget",
        "PodFailurePolicy",
        "Container runner for pod ml/x failed with exit code 66 matching FailJob rule at index 2",
    )
    the_job = job(completions=2, conditions=[target])
    told_to_stop = failed(75, termination_message(75, "told to stop"), index=0, deleted=at(3), made=50)
    verdict = verdict_on(failed(66, termination_message(66, "no such model"), index=1), told_to_stop, the_job=the_job)
    assert verdict.finding.cause == "model-missing"


@pytest.mark.parametrize(
    ("reason", "message", "cause", "says"),
    [
        (
            "FailedIndexes",
            "Job has failed indexes",
            "retries-exhausted",
            "2 shards failed as often as backoffLimitPerIndex allows",
        ),
        (
            "MaxFailedIndexesExceeded",
            "Job has exceeded the specified maximal number of failed indexes",
            "too-many-failed-shards",
            "maxFailedIndexes",
        ),
        ("BackoffLimitExceeded", "Job has reached the specified backoff limit", "retries-exhausted", "backoffLimit"),
        (
            "PodFailurePolicy",
            "Container runner for pod ml/x failed with exit code 64 matching FailJob rule at index 2",
            "failed-for-good",
            "(exit code 64)",
        ),
        ("SomethingOf2027", "?", "failed", "SomethingOf2027"),
    ],
)
def test_a_failed_job_without_pods_says_what_the_job_controller_said(reason, message, cause, says):
    the_job = job(completions=4, conditions=[condition("Failed", reason, message)], status={"failedIndexes": "1,3"})
    finding = verdict_on(the_job=the_job).finding
    assert (finding.cause, finding.shards) == (cause, (1, 3))
    assert says in finding.sentence
    assert "specbatch retry nightly" in finding.remedy


def test_one_shard_with_a_problem_comes_before_many_that_wait_or_run():
    pods = [
        running(0),
        running(1),
        unschedulable(
            "0/1 nodes are available: 1 Insufficient nvidia.com/gpu. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.",
            index=2,
        ),
        failed(139, index=3),
    ]
    verdict = verdict_on(*pods)
    assert [one.cause for one in (verdict.finding, *verdict.others)] == ["crashed", "gpus-taken", "running"]


def test_the_newest_pod_of_a_shard_counts_while_it_is_tried_again():
    verdict = verdict_on(failed(139, name="first", made=500), running(), the_job=job(), logs={"x": Said()})
    assert verdict.finding.cause == "running"
    done = job(completions=2, status={"completedIndexes": "0"})
    assert verdict_on(failed(139, name="first", made=500), running(1), the_job=done).finding.cause == "running"


def test_a_shard_that_is_about_to_be_tried_again_is_judged_by_its_last_try():
    crashed = failed(139, name="first", made=500)
    verdict = verdict_on(crashed, waiting("ContainerCreating"), the_job=job())
    assert verdict.finding.cause == "crashed"
    assert verdict.finding.evidence[-2:] == ("one try of this shard has failed", "the next try is on its way")
    verdict = verdict_on(crashed, running(), the_job=job())
    assert verdict.finding.cause == "running"
    assert "SIGSEGV" in verdict.finding.evidence[-1]
    drained = pod(
        node="node-a",
        phase="Failed",
        name="first",
        made=500,
        conditions=[condition("DisruptionTarget", "EvictionByEvictionAPI", "Eviction API: evicting")],
    )
    assert verdict_on(drained, waiting("ContainerCreating"), the_job=job()).finding.cause == "starting"


def test_a_retry_names_the_shards_that_its_indexes_stand_for():
    the_job = job(completions=2, annotations={"specbatch.dev/submitted": "true", "specbatch.dev/shards": "3,7"})
    assert verdict_on(running(0), failed(139, index=1), the_job=the_job).finding.shards == (7,)


def test_where_nothing_is_known_the_newest_events_are_shown():
    the_job = job()
    events = [event(the_job, "SuccessfulCreate", f"Created pod: p{number}", seconds_ago=number) for number in range(9)]
    finding = verdict_on(the_job=the_job, events=events).finding
    assert finding.cause == "unknown"
    assert len(finding.evidence) == 5
    assert "Created pod: p0" in finding.evidence[0]


def test_a_pod_that_no_rule_knows_is_shown_with_what_kubernetes_says_of_it():
    done = pod(phase="Succeeded", node="node-a", conditions=[condition("Ready", "PodCompleted", "x", status="False")])
    finding = verdict_on(done, the_job=job(conditions=[condition("Odd", "OfTheYear2027", "who knows")])).finding
    assert finding.cause == "unknown"
    assert finding.evidence == (
        "job nightly-0123456789: Odd True: OfTheYear2027: who knows",
        "pod nightly-0123456789-0-abcde: Ready False: PodCompleted: x",
    )
