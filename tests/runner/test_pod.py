"""What a pod's environment says to the runner: which shard, and how long it has when told to stop."""

import os

import pytest

from specbatch.errors import SpecError
from specbatch.runner import job as jobs
from specbatch.runner.dataset.lines import Shard
from specbatch.runner.job import find_shard, run_job
from specbatch.runner.stopping import DRAIN_SECONDS, StopSignals


def find(make_job, **env):
    return find_shard(make_job([{"prompt": "hello"}], "job.completions=8"), env)


def test_a_retry_runs_the_shards_that_are_listed_of_all_that_the_run_has(make_job):
    found = [find(make_job, JOB_COMPLETION_INDEX=index, SPECBATCH_SHARDS="3, 7") for index in ("0", "1")]
    assert found == [Shard(3, 8), Shard(7, 8)]


def test_outside_of_a_pod_a_list_of_shards_says_nothing(make_job):
    assert find(make_job, SPECBATCH_SHARDS="3,7") == Shard()


@pytest.mark.parametrize(
    ("listed", "index", "said"),
    [
        ("3,7", "2", "JOB_COMPLETION_INDEX: '2' is not one of 0 to 1"),
        ("3,7", "x", "JOB_COMPLETION_INDEX: 'x' is not one of 0 to 1"),
        ("3,8", "0", "SPECBATCH_SHARDS: '8' is not one of 0 to 7"),
        ("3,", "0", "SPECBATCH_SHARDS: '' is not one of 0 to 7"),
        ("3,-1", "0", "SPECBATCH_SHARDS: '-1' is not one of 0 to 7"),
        ("3,1.5", "0", "SPECBATCH_SHARDS: '1.5' is not one of 0 to 7"),
        ("3,³", "0", "SPECBATCH_SHARDS: '³' is not one of 0 to 7"),
        ("3,7,3", "0", "SPECBATCH_SHARDS: shard 3 is listed twice"),
    ],
)
def test_a_list_of_shards_that_cannot_be_meant_is_refused(make_job, listed, index, said):
    with pytest.raises(SpecError) as refused:
        find(make_job, JOB_COMPLETION_INDEX=index, SPECBATCH_SHARDS=listed)
    assert said in str(refused.value)
    assert "remedy" in str(refused.value)


@pytest.mark.parametrize(
    ("env", "changes", "seconds"),
    [
        ({}, ["job.terminationGracePeriodSeconds=6"], DRAIN_SECONDS),
        ({"JOB_COMPLETION_INDEX": "0"}, [], DRAIN_SECONDS),
        ({"JOB_COMPLETION_INDEX": "0"}, ["job.terminationGracePeriodSeconds=12"], 4.0),
        ({"JOB_COMPLETION_INDEX": "0"}, ["job.terminationGracePeriodSeconds=20", "results.publish=s3://b/runs/"], 4.0),
        ({"JOB_COMPLETION_INDEX": "0"}, ["job.terminationGracePeriodSeconds=6"], 0.1),
    ],
    ids=["no pod", "default", "short", "publishing", "hardly any"],
)
def test_rows_in_flight_have_what_the_grace_period_leaves(make_job, monkeypatch, env, changes, seconds):
    """Of 12 s: 5 for the last sync, 3 for the manifest; publishing takes 8 more."""
    asked = []

    class AskedError(Exception):
        pass

    def signals(drain_seconds):
        asked.append(StopSignals(drain_seconds).drain_seconds)
        raise AskedError

    monkeypatch.setattr(jobs, "StopSignals", signals)
    with pytest.raises(AskedError):
        run_job(make_job([{"prompt": "hello"}], *changes), env=env)
    assert asked == [pytest.approx(seconds)]


@pytest.mark.slow
def test_the_second_run_of_a_process_has_the_threads_of_the_first(make_job, monkeypatch):
    import torch

    monkeypatch.setattr("specbatch.runner.environment.available_cores", lambda: 4)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    asked = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    for seed in (1, 2):
        run_job(make_job([{"prompt": "hello"}], "placement.cpuThreads=auto", f"decoding.seed={seed}"), fresh=True)
    assert asked == [4, 1, 4, 1]
    assert "OMP_NUM_THREADS" not in os.environ
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    run_job(make_job([{"prompt": "hello"}], "placement.cpuThreads=2"), fresh=True)
    assert asked[4:] == [2]
    assert os.environ["OMP_NUM_THREADS"] == "3"


@pytest.mark.parametrize("text", ["free", "-1", "nan", "inf"])
def test_a_price_that_is_none_is_refused_before_anything_is_loaded(make_job, text):
    with pytest.raises(SpecError, match=f"SPECBATCH_PRICE: '{text}' is no price"):
        run_job(make_job([{"prompt": "a"}]), env={"SPECBATCH_PRICE": text})
