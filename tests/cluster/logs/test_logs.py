"""`logs`: of pods as they are, and followed until the Job has ended."""

import threading
import time

import pytest

from specbatch.cluster.client.client import Cluster
from specbatch.cluster.client.kinds import JOBS, PODS
from specbatch.cluster.logs.follow import Follower
from specbatch.cluster.logs.logs import LogOptions, follow_run, read_logs
from specbatch.cluster.logs.tail import LogTail
from specbatch.cluster.manifests.names import CANCELLED
from specbatch.errors import ClusterError
from tests.cluster.job_objects import pod_of, submitted
from tests.cluster.kubelet import Kubelet, stamp

LOOK = '{"event": "progress", "rows": 1200, "total_rows": 5000, "tokens_per_second": 830.0}'


@pytest.fixture
def job(api):
    return submitted(api, completions=2)


def run_pod(api, job, index=0, *, log="", **pod):
    made = pod_of(job, index, **pod)
    api.logs[made["metadata"]["name"]] = log  # before its pod: whoever follows reads it at once
    return api.put(PODS, made)["metadata"]["name"]


def end(api, job, condition="Complete"):
    api.put(JOBS, {**job, "status": {"conditions": [{"type": condition, "status": "True"}]}})


def logs(api, job, **options):
    shown, said = [], []
    read_logs(api.cluster(), job, shown.append, LogOptions(**options), said.append)
    return shown, said


class Following:
    """follow_run in a thread; `lines` so far."""

    def __init__(self, api, job, **options):
        self.lines, self.ended, self.error = [], None, None
        self._thread = threading.Thread(target=self._run, args=(api, job, options), daemon=True)
        self._thread.start()

    def _run(self, api, job, options):
        try:
            self.ended = follow_run(api.cluster(), job, self.lines.append, LogOptions(**options), pause=0.01)
        except ClusterError as error:
            self.error = error

    def until(self, count):
        deadline = time.monotonic() + 20
        while len(self.lines) < count and self._thread.is_alive() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(self.lines) >= count, (self.lines, self.error)

    def done(self):
        self._thread.join(20)
        assert not self._thread.is_alive(), self.lines
        return self.lines


def job_watches(api):
    return [path for _, path, query in list(api.requests) if path.endswith("/jobs") and query.get("watch") == "true"]


def until_the_job_is_watched(api):
    """A deletion before that is seen at the next look only, a minute later."""
    deadline = time.monotonic() + 20
    while not job_watches(api):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_newest_pod_of_each_shard_is_shown_in_order_and_events_are_words(api, job):
    run_pod(api, job, 1, log=f"{LOOK}\na library\n")
    run_pod(api, job, 0, state="failed", log="old\n")
    run_pod(api, job, 0, attempt=1, log="new\nhalf a li")
    assert logs(api, job) == (
        ["[shard 0] new", "[shard 1] rows 1,200 of 5,000 · 830 tokens/s", "[shard 1] a library"],
        [],
    )
    assert logs(api, job, raw=True, shard=1)[0] == [LOOK, "a library"]
    assert logs(api, job, previous=True)[0] == ["[shard 0] old"]
    assert logs(api, job, shard=1, tail=1, timestamps=True)[0] == ["2026-01-01T00:00:01.000000000Z a library"]
    assert logs(api, job, seconds=60)[0] == []


def test_a_pod_that_has_ended_tells_its_last_line_without_an_end(api, job):
    run_pod(api, job, 0, state="failed", log="fatal: died")
    assert logs(api, job)[0] == ["[shard 0] fatal: died"]


def test_pods_without_a_log_are_told_and_no_pod_is_an_error(api, job):
    with pytest.raises(ClusterError, match="there is no pod") as caught:
        logs(api, job)
    assert caught.value.remedy == "specbatch why nightly says what it waits for"
    run_pod(api, job, 0, log="a\n")
    run_pod(api, job, 1, state="waiting")
    api.fail("GET", r"-1-aaaaa/log", status=400, reason="BadRequest", message="is waiting to start: ContainerCreating")
    shown, [said] = logs(api, job)
    assert shown == ["[shard 0] a"]
    assert said.startswith("shard 1: no log of pod ")
    assert "ContainerCreating" in said
    with pytest.raises(ClusterError, match="there is no shard 7") as caught:
        logs(api, job, shard=7)
    assert caught.value.remedy == "it runs the shards 0-1"
    with pytest.raises(ClusterError, match="no pod before the newest"):
        logs(api, job, previous=True)


@pytest.mark.slow
def test_a_connection_lost_in_the_middle_is_taken_up_again(api, job):
    run_pod(api, job, 0, log="".join(f"line {number}\n" for number in range(9)))
    api.fail("GET", r"/log\?", drop="middle", times=3)
    assert logs(api, job)[0] == [f"[shard 0] line {number}" for number in range(9)]


def test_following_begins_with_what_is_there_and_ends_with_the_job(api, job):
    name = run_pod(api, job, 0, log="one\n")
    following = Following(api, job)
    following.until(1)
    api.logs[name] += "two\n"
    following.until(2)
    other = run_pod(api, job, 1, log="other\n")
    following.until(3)
    api.logs[name] += "the last, without an end"
    for index in (0, 1):
        api.put(PODS, pod_of(job, index, state="succeeded"))
    end(api, job)
    assert sorted(following.done()) == [
        "[shard 0] one",
        "[shard 0] the last, without an end",
        "[shard 0] two",
        "[shard 1] other",
    ]
    assert following.ended["status"]["conditions"][0]["type"] == "Complete"
    assert other in api.logs


def test_a_replaced_pod_is_followed_by_the_next_one_and_older_ones_are_not_told(api, job):
    run_pod(api, job, 0, state="failed", log="long ago\n")
    second = run_pod(api, job, 0, attempt=1, log="second\n")
    following = Following(api, job)
    following.until(1)
    api.logs[second] += "killed\n"
    following.until(2)
    api.remove(PODS, second)
    run_pod(api, job, 0, attempt=2, log="third\n", state="succeeded")
    following.until(3)
    end(api, job, "Failed")
    assert following.done() == ["[shard 0] second", "[shard 0] killed", "[shard 0] third"]
    assert following.ended["status"]["conditions"][0]["type"] == "Failed"


def test_following_over_connections_that_break_loses_and_doubles_nothing(api, job):
    name = run_pod(api, job, 0, log="line 0\n")
    api.fail("GET", r"/log\?", drop="middle", times=5)
    api.fail("GET", r"/log\?", status=503, times=2)
    api.fail("GET", r"/log\?", drop="before", times=2)
    api.fail("GET", r"watch=true", expired=True, times=3)
    following = Following(api, job, shard=0)
    for number in range(1, 30):
        api.logs[name] += f"line {number}\n"
        if number % 10 == 0:
            following.until(number)
    api.put(PODS, pod_of(job, 0, state="succeeded"))
    end(api, job)
    assert following.done() == [f"line {number}" for number in range(30)]


@pytest.mark.slow
def test_of_more_pods_than_connections_all_are_read(api, monkeypatch):
    monkeypatch.setattr("specbatch.cluster.logs.follow._CONNECTIONS", 3)
    job = submitted(api, completions=20)
    names = [run_pod(api, job, index, log="begun\n") for index in range(20)]
    following = Following(api, job)
    following.until(20)
    for index, name in enumerate(names):
        api.logs[name] += "ended\n"
        api.put(PODS, pod_of(job, index, state="succeeded"))
    end(api, job)
    assert sorted(following.done()) == sorted(
        f"[shard {index}] {word}" for index in range(20) for word in ("begun", "ended")
    )


def test_a_followed_log_that_falls_silent_is_soon_asked_for_again_and_one_that_stays_silent_less_often(job):
    kubelet, pod = Kubelet([(stamp(1), "begun")]), pod_of(job)
    follower = Follower(None, job, None, pause=0.0)
    follower._pods[pod["metadata"]["uid"]] = pod

    def followed():
        return [asked["idle"] for asked in kubelet.asked if asked["follow"]]

    def between_polls(*_):
        if len(followed()) == 6:
            kubelet.written.append((stamp(2), "rotated, and not followed"))
        if len(followed()) == 8:
            follower._stop.set()

    follower._stop.wait = between_polls
    follower._read(pod, LogTail(kubelet, "pod"))
    assert followed() == [6, 6, 12, 24, 48, 60, 60, 6]
    assert [follower._events.get_nowait().line.text for _ in range(2)] == ["begun", "rotated, and not followed"]


def test_a_deleted_job_ends_it(api, job):
    run_pod(api, job, 0, state="succeeded", log="one\n")
    following = Following(api, job)
    following.until(1)
    until_the_job_is_watched(api)
    api.remove(JOBS, job["metadata"]["name"])
    assert following.done() == ["[shard 0] one"]
    assert (following.ended, following.error) == (None, None)


def test_a_job_deleted_just_before_the_watch_over_it_begins_ends_it_at_the_next_look(api, job, monkeypatch):
    run_pod(api, job, 0, state="succeeded", log="one\n")
    looks, find, begun = [], Cluster.find, threading.Event()

    def find_and_then_delete(cluster, kind, name):
        found = find(cluster, kind, name)
        looks.append(found is not None)
        if looks == [True]:
            assert begun.wait(20)
            following.until(1)
            api.remove(kind, name)
        return found

    monkeypatch.setattr("specbatch.cluster.jobs.wait._POLL_SECONDS", 0.05)
    monkeypatch.setattr(Cluster, "find", find_and_then_delete)
    following = Following(api, job)
    begun.set()
    assert following.done() == ["[shard 0] one"]
    assert (following.ended, following.error) == (None, None)
    assert looks[:2] == [True, False]


def test_a_job_that_is_gone_before_it_is_followed_ends_it(api, job):
    run_pod(api, job, 0, state="succeeded", log="one\n")
    api.remove(JOBS, job["metadata"]["name"])
    assert Following(api, job).done() == ["[shard 0] one"]
    submitted(api, completions=2, uid="another of that name")
    following = Following(api, job)
    following.done()
    assert following.ended is None


@pytest.mark.slow
def test_a_cancelled_job_ends_it_once_its_pods_have(api, job):
    run_pod(api, job, 0, log="one\n")
    following = Following(api, job)
    following.until(1)
    metadata = {**job["metadata"], "annotations": {**job["metadata"]["annotations"], CANCELLED: "true"}}
    api.put(JOBS, {**job, "metadata": metadata})
    time.sleep(0.1)
    api.logs[f"{job['metadata']['name']}-0-aaaaa"] += "stopping\n"
    following.until(2)
    run_pod(api, job, 0, state="failed", log="one\nstopping\nlast\n")
    assert following.done() == ["[shard 0] one", "[shard 0] stopping", "[shard 0] last"]


def test_what_is_forbidden_is_an_error_at_once(api, job):
    run_pod(api, job, 0, log="one\n")
    api.deny("get", "pods/log")
    following = Following(api, job)
    assert following.done() == []
    assert following.error.status == 403


def test_a_job_that_has_ended_is_told_to_its_end(api, job):
    run_pod(api, job, 0, state="succeeded", log="one\ntwo\n")
    end(api, job)
    following = Following(api, api.cluster().get(JOBS, job["metadata"]["name"]), tail=1)
    assert following.done() == ["[shard 0] two"]
