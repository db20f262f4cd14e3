"""Jobs as runs: what belongs together, how it stands, what is done."""

import pytest

from specbatch.cluster.jobs.job_view import JobView
from specbatch.cluster.jobs.run import group_into_runs, retry_number, state_of
from specbatch.cluster.manifests.names import CANCELLED, CONFIG, QUEUE, RETRY_OF, RUN, SHARDS, SUBMITTED


def job(
    name="nightly-0123456789",
    *,
    config="c1",
    created="2026-01-01T00:00:00Z",
    annotations=None,
    suspend=False,
    completions=4,
    labels=None,
    **status,
):
    return {
        "metadata": {
            "name": name,
            "creationTimestamp": created,
            "labels": {RUN: "nightly", **(labels or {})},
            "annotations": {CONFIG: config, **(annotations or {})},
        },
        "spec": {"completions": completions, "suspend": suspend},
        "status": status,
    }


def retried(number, shards, **more):
    notes = {SHARDS: shards, RETRY_OF: "nightly-0123456789"}
    return job(f"nightly-0123456789-r{number}", annotations=notes, completions=len(shards.split(",")), **more)


def ended(kind):
    return [{"type": kind, "status": "True"}]


@pytest.mark.parametrize(
    ("made", "state"),
    [
        (job(conditions=ended("Complete")), "complete"),
        (job(conditions=ended("Failed")), "failed"),
        (job(conditions=ended("FailureTarget"), active=1), "failing"),
        (job(suspend=True), "not started"),
        (job(suspend=True, annotations={SUBMITTED: "true"}), "suspended"),
        (job(suspend=True, annotations={SUBMITTED: "true"}, labels={QUEUE: "a"}), "queued"),
        (job(suspend=True, annotations={SUBMITTED: "true", CANCELLED: "true"}), "cancelled"),
        (job(conditions=ended("Failed"), annotations={CANCELLED: "true"}), "cancelled"),
        (job(conditions=ended("Complete"), annotations={CANCELLED: "true"}), "complete"),
        (job(active=2, ready=1), "running"),
        (job(active=2, ready=0), "pending"),
        (job(), "pending"),
        (job(completedIndexes="0-3"), "running"),
    ],
)
def test_a_state_is_one_word(made, state):
    assert state_of(JobView(made)) == state


def test_a_job_on_its_way_out_is_deleting_whatever_else_it_is():
    made = job(conditions=ended("Failed"))
    made["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert state_of(JobView(made)) == "deleting"


def test_retries_belong_to_their_run_and_the_newest_counts_in_the_same_second():
    [run] = group_into_runs(
        [
            job(completedIndexes="0", conditions=ended("Failed")),
            retried(2, "1,2,3", completedIndexes="0,2", failedIndexes="1"),
        ]
    )
    assert run.newest.name.endswith("-r2")
    assert (run.done, run.failed, run.unfinished, run.total) == ({0, 1, 3}, {2}, [2], 4)


def test_a_retry_whose_config_is_of_a_later_version_belongs_to_what_it_retries():
    [run] = group_into_runs([retried(2, "1", config="c2"), job()])
    assert [view.name for view in run.jobs] == ["nightly-0123456789-r2", "nightly-0123456789"]


def test_other_specs_of_a_name_are_other_runs():
    runs = group_into_runs([job(), job("nightly-aaaaaaaaaa", config="c2", created="2026-01-02T00:00:00Z")])
    assert [run.newest.name for run in runs] == ["nightly-aaaaaaaaaa", "nightly-0123456789"]


def test_a_name_that_only_looks_like_a_retrys_is_none():
    assert retry_number(JobView(job("x-0123456789-r7"))) == 1
    assert retry_number(JobView(retried(12, "1"))) == 12
