"""The events of a run: those of its own, in the order of time, repeated ones counted."""

import pytest

from specbatch.cli.main import main
from specbatch.cluster.client.kinds import EVENTS, JOBS
from specbatch.cluster.logs.events import read_events
from tests.cluster.job_objects import retry_of, submitted

CLOCK = 1767225600.0 + 600  # ten minutes into 2026


@pytest.fixture
def job(api):
    return submitted(api)


def happened(api, kind, name, *, minute=1, uid="", kind_of="Normal", message="it did", reason="Did", **fields):
    times = {"lastTimestamp": f"2026-01-01T00:{minute:02d}:00Z"}
    about = {"kind": kind, "name": name, **({"uid": uid} if uid else {})}
    told = {"reason": reason, "message": message, "type": kind_of, **(fields or times)}
    return api.put(
        EVENTS, {"metadata": {"name": f"{name}.{len(api.objects(EVENTS))}"}, "involvedObject": about, **told}
    )


def read(api, job):
    return [event.text(CLOCK) for event in read_events(api.cluster(), job)]


def test_events_of_the_job_its_pods_claims_and_workload_are_told_in_the_order_of_time(api, job):
    name = job["metadata"]["name"]
    happened(api, "Pod", f"{name}-0-abcde", minute=4, kind_of="Warning", reason="Failed", message="Error:\n  no image")
    happened(api, "Job", name, minute=2, uid="job-1", message="Created pod")
    happened(api, "Workload", f"job-{name}-1a2b3", minute=1, reason="QuotaReserved")
    happened(api, "PersistentVolumeClaim", "specbatch-results", minute=3, reason="ProvisioningFailed")
    happened(api, "Pod", f"{name}-reader", minute=9, reason="Started", message="Started container reader")
    assert read(api, job) == [
        "  9 min ago  Normal   Workload  QuotaReserved: it did",
        "  8 min ago  Normal   Job       Did: Created pod",
        "  7 min ago  Normal   claim     ProvisioningFailed: it did",
        "  6 min ago  Warning  shard 0   Failed: Error: no image",
        "  1 min ago  Normal   reader    Started: Started container reader",
    ]


def test_what_belongs_to_others_is_not_told(api, job):
    name = job["metadata"]["name"]
    for kind, other in [
        ("Pod", f"{name}-r2-0-abcde"),
        ("Pod", "other-0-abcde"),
        ("PersistentVolumeClaim", "other"),
        ("Node", name),
        ("Pod", f"{name}-0"),
    ]:
        happened(api, kind, other)
    happened(api, "Job", name, uid="another Job of that name")
    happened(api, "Pod", f"{name}-0-abcde", lastTimestamp="2025-12-31T23:59:00Z")
    assert read(api, job) == []


def test_repeated_ones_are_counted_and_long_ones_wrapped(api, job):
    name = job["metadata"]["name"]
    happened(api, "Job", name, count=7, firstTimestamp="2026-01-01T00:01:00Z", lastTimestamp="2026-01-01T00:06:00Z")
    series = {"count": 3, "lastObservedTime": "2026-01-01T00:07:00.000000Z"}
    happened(
        api,
        "Pod",
        f"{name}-0-abcde",
        reason="FailedScheduling",
        message="0/3 nodes are available: " + "3 Insufficient nvidia.com/gpu, " * 5,
        eventTime="2026-01-01T00:05:00.000000Z",
        series=series,
    )
    first, *more = "\n".join(read(api, job)).splitlines()
    assert first == "  4 min ago  Normal   Job       Did: it did (7 times in 5 min)"
    assert more[0].startswith("  3 min ago  Normal   shard 0   FailedScheduling: 0/3 nodes are")
    assert more[-1].endswith("(3 times in 2 min)")
    assert all(line.startswith(" " * 32) for line in more[1:])
    assert max(map(len, more)) <= 100


def test_pods_of_a_retry_are_told_by_their_shards(api, job):
    retry = submitted(api, completions=8, retry=retry_of(job, [3, 7]), uid="job-2")
    happened(api, "Pod", f"{retry['metadata']['name']}-1-abcde")
    assert read(api, retry) == ["  9 min ago  Normal   shard 7   Did: it did"]


def test_the_command_tells_them_and_says_when_there_are_none(api, job, monkeypatch, capsys):
    monkeypatch.setenv("KUBECONFIG", api.kubeconfig)
    assert main(["events"]) == 0
    said = capsys.readouterr()
    assert (said.out, said.err.splitlines()[1]) == ("", "no events: there were none, or Kubernetes has deleted them")
    happened(api, "Job", job["metadata"]["name"])
    assert main(["events", "nightly"]) == 0
    assert "Did: it did" in capsys.readouterr().out
    assert main(["events", "nightly", "-o", "json"]) == 0
    assert '"reason": "Did"' in capsys.readouterr().out
    api.remove(JOBS, job["metadata"]["name"])
    assert main(["events"]) == 71
