"""Watches: nothing is lost or told twice, whatever happens to the connection."""

import itertools
import threading

import pytest

from specbatch.cluster.client import watch as client_watch
from specbatch.cluster.client.kinds import CONFIG_MAPS, PODS
from specbatch.errors import ClusterError

WATCH = r"/pods\?.*watch=true"


def pod(name, phase="Pending", **labels):
    return {"metadata": {"name": name, "labels": labels}, "status": {"phase": phase}}


def brief(event):
    change, item = event
    return change, item["metadata"]["name"], item.get("status", {}).get("phase")


class Changes:
    """What a watch tells, one by one."""

    def __init__(self, events):
        self.events = events

    def next(self, count=1):
        return [brief(event) for event in itertools.islice(self.events, count)]


@pytest.fixture
def changes(api):
    """A watch over one pod that is there from the start."""
    api.put(PODS, pod("a"))
    watch = Changes(api.cluster().watch(PODS))
    assert watch.next() == [("ADDED", "a", "Pending")]
    return watch


def soon(action, *arguments):
    """While the watch waits."""
    timer = threading.Timer(0.05, action, arguments)
    timer.start()


@pytest.mark.slow
def test_what_there_is_comes_first_then_every_change(api, changes):
    soon(api.put, PODS, pod("a", "Running"))
    assert changes.next() == [("MODIFIED", "a", "Running")]
    soon(api.put, PODS, pod("b"))
    assert changes.next() == [("ADDED", "b", "Pending")]
    soon(api.remove, PODS, "a")
    assert changes.next() == [("DELETED", "a", "Running")]
    assert [query.get("watch") for _, _, query in api.requests] == [None, "true"]


def test_only_what_the_selectors_pick_is_told(api):
    api.put(PODS, pod("a", run="x"))
    watch = Changes(api.cluster().watch(PODS, labels={"run": "x"}, fields={"status.phase": "Pending"}, seconds=20))
    assert watch.next() == [("ADDED", "a", "Pending")]
    api.put(PODS, pod("b", run="y"))
    api.put(PODS, pod("a", "Running", run="x"))
    assert watch.next()[0][:2] == ("DELETED", "a")


@pytest.mark.slow
def test_a_watch_ends_when_its_time_is_over(api):
    api.put(PODS, pod("a"))
    assert [brief(event) for event in api.cluster().watch(PODS, seconds=0.2)] == [("ADDED", "a", "Pending")]
    assert list(api.cluster().watch(CONFIG_MAPS, seconds=0)) == []


def test_a_watch_ends_in_time_however_much_happens(api):
    api.put(PODS, pod("a"))
    watch = Changes(api.cluster().watch(PODS, seconds=60))
    assert watch.next() == [("ADDED", "a", "Pending")]
    api.put(PODS, pod("a", "Running"))
    assert watch.next() == [("MODIFIED", "a", "Running")]
    api.put(PODS, pod("a", "Succeeded"))
    api.time.sleep(61)
    assert watch.next() == []


@pytest.mark.slow
def test_a_watch_without_an_end_goes_on_when_the_server_ends_the_stream(api, monkeypatch):
    monkeypatch.setattr(client_watch, "_IDLE_SECONDS", 0.1)  # a stream that is silent for so long is dead
    watch = Changes(api.cluster().watch(PODS))
    threading.Timer(0.5, api.put, (PODS, pod("a"))).start()
    assert watch.next() == [("ADDED", "a", "Pending")]
    assert len(api.requests) > 3
    assert [query.get("watch") for _, _, query in api.requests][:3] == [None, "true", "true"]


@pytest.mark.parametrize(
    "fault", [{"drop": "before"}, {"drop": "after"}, {"status": 503}, {"status": 429, "retry_after": 3}]
)
def test_nothing_is_lost_when_the_connection_is(api, changes, fault):
    api.fail("GET", WATCH, times=3, **fault)
    for phase in ("Running", "Succeeded"):
        api.put(PODS, pod("a", phase))
    assert changes.next(2) == [("MODIFIED", "a", "Running"), ("MODIFIED", "a", "Succeeded")]


def test_an_event_that_breaks_off_in_its_middle_is_told_once_and_whole(api, changes):
    api.fail("GET", WATCH, times=2, drop="middle")
    api.put(PODS, pod("a", "Running"))
    api.put(PODS, pod("b"))
    assert changes.next(2) == [("MODIFIED", "a", "Running"), ("ADDED", "b", "Pending")]


@pytest.mark.parametrize("fault", [{"status": 410, "reason": "Expired"}, {"expired": True}, {}])
def test_what_was_missed_while_a_watch_was_expired_is_told(api, fault):
    for name in ("stays", "changes", "goes", "comes-back"):
        api.put(PODS, pod(name))
    watch = Changes(api.cluster().watch(PODS, seconds=20))
    watch.next(4)
    api.put(PODS, pod("changes", "Running"))
    api.remove(PODS, "goes")
    api.remove(PODS, "comes-back")
    api.put(PODS, pod("comes-back"))
    api.put(PODS, pod("new"))
    if fault:
        api.fail("GET", WATCH, **fault)
    else:
        api.store.forget()
    assert sorted(watch.next(5)) == [
        ("ADDED", "comes-back", "Pending"),
        ("ADDED", "new", "Pending"),
        ("DELETED", "comes-back", "Pending"),
        ("DELETED", "goes", "Pending"),
        ("MODIFIED", "changes", "Running"),
    ]
    soon(api.put, PODS, pod("stays", "Running"))
    assert watch.next() == [("MODIFIED", "stays", "Running")]


def test_an_error_event_that_is_not_of_expiry_is_refused_or_tried_again(api, changes):
    api.fail("GET", WATCH, status=200, body=b'{"type": "ERROR", "object": {"code": 500, "message": "etcd"}}\n')
    api.put(PODS, pod("a", "Running"))
    assert changes.next() == [("MODIFIED", "a", "Running")]
    api.fail("GET", WATCH, status=200, body=b'{"type": "ERROR", "object": {"code": 403, "message": "no"}}\n', times=9)
    changes.events.close()
    with pytest.raises(ClusterError) as caught:
        list(api.cluster().watch(PODS, seconds=20))
    assert caught.value.status == 403


def test_a_page_in_place_of_events_is_tried_again(api, changes):
    api.fail("GET", WATCH, status=200, body=b"<html>\n", times=2)
    api.put(PODS, pod("a", "Running"))
    assert changes.next() == [("MODIFIED", "a", "Running")]


def test_a_server_that_restarts_is_waited_for(api, changes):
    api.put(PODS, pod("a", "Running"))
    api.fail("GET", "/pods", drop="before", times=40)
    assert changes.next() == [("MODIFIED", "a", "Running")]
    assert sum(api.time.waits) > 60  # longer than any one call is tried


@pytest.mark.slow
def test_a_server_that_stays_away_for_ten_minutes_is_told(api, changes):
    api.fail("GET", "/pods", drop="before", times=10_000)
    with pytest.raises(ClusterError, match="connection to the API server was lost"):
        changes.next()
    assert 600 < sum(api.time.waits) < 700


def test_streams_that_cannot_be_opened_for_ten_minutes_are_told_though_lists_can_be(api, changes):
    api.fail("GET", WATCH, status=502, times=10_000)
    with pytest.raises(ClusterError, match="failed to watch pods"):
        changes.next()
    assert 600 < sum(api.time.waits) < 700


def test_a_missing_permission_ends_a_watch_at_once(api):
    api.deny("watch", "pods")
    with pytest.raises(ClusterError, match="not permitted to watch pods in namespace default"):
        list(api.cluster().watch(PODS, seconds=20))
    assert api.time.waits == []


def test_a_watch_that_is_left_closes_its_connection(api, changes):
    soon(api.put, PODS, pod("a", "Running"))
    changes.next()
    changes.events.close()
    assert changes.next() == []
