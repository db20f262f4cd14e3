"""Pods that are on their way, run, or end: whether that is normal."""

from __future__ import annotations

from collections.abc import Iterator

from specbatch.cluster.client.kinds import Object
from specbatch.cluster.diagnose.evidence import Evidence
from specbatch.cluster.diagnose.finding import Finding
from specbatch.cluster.jobs.job_view import condition
from specbatch.cluster.jobs.timestamps import age, event_line, event_time
from specbatch.cluster.status.pod_log import readable
from specbatch.cluster.status.pod_state import container_state, node_of
from specbatch.formatting import rough_duration
from specbatch.results.protocol import Progress, parse_line

_HUNG_SECONDS = 300.0  # a decoding runner writes a line every five seconds
_LOADING_SECONDS = 1800.0  # a download writes nothing for long
_STARTING_SECONDS = 600.0
_ENDING_SPARE_SECONDS = 60.0


def ending(evidence: Evidence, pod: Object) -> Iterator[Finding]:
    """A pod that was told to end: no other takes its shard before it has."""
    asked = pod["metadata"].get("deletionTimestamp")  # the grace period is in it
    if asked is None:
        return
    name, node = pod["metadata"]["name"], node_of(pod) or "?"
    stuck = (age(asked, evidence.clock) or 0.0) > _ENDING_SPARE_SECONDS
    yield Finding(
        cause="stuck-ending" if stuck else "ending",
        sentence=f"a pod was told to end, and does not: most likely its node {node} is lost; its shard waits for that"
        if stuck
        else "a pod is told to end, and saves what is finished; its shard is started again after that",
        remedy=f"is the node up (kubectl get node {node})? once it is surely off: kubectl delete pod {name} --force -n {evidence.namespace_name}"
        if stuck
        else "wait a moment",
        evidence=(f"pod {name} (node {node}): told to end, the latest by {asked}",),
        since=asked,
        severity="error" if stuck else "warning",
    )


def starting(evidence: Evidence, pod: Object) -> Iterator[Finding]:
    """A pod with a node whose container does not run yet, though nobody complains."""
    if (pod.get("status") or {}).get("phase") != "Pending" or not node_of(pod) or "running" in container_state(pod):
        return
    node, since = node_of(pod), pod["status"].get("startTime") or pod["metadata"].get("creationTimestamp")
    newest, image = evidence.newest(pod), evidence.newest(pod, "Pulling", "Pulled")
    waited = age(since, evidence.clock) or 0.0
    if image is not None and image.get("reason") == "Pulling":
        finding = Finding(
            cause="pulling",
            sentence=f"node {node} is pulling the image",
            remedy="wait: the runner's image is some gigabytes; the next pod on that node starts at once",
            since=event_time(image),
            severity="warning",
        )
    elif waited < _STARTING_SECONDS:
        finding = Finding(
            cause="starting",
            sentence=f"node {node} is setting up the pod",
            remedy="wait a moment",
            severity="warning",
        )
    else:
        finding = Finding(
            cause="stuck-starting",
            sentence=f"node {node} has been setting up the pod for {rough_duration(waited)}, and says nothing of it",
            remedy=f"ask an admin about the node (kubectl describe node {node}); kubectl delete pod {pod['metadata']['name']} tries another",
        )
    yield finding.seen([event_line(newest)] if newest else [], since)


def running(evidence: Evidence, pod: Object) -> Iterator[Finding]:
    """A pod that runs: normal, silent for long, or on a node that does not answer."""
    state = container_state(pod).get("running")
    if state is None:
        return
    since = state.get("startedAt")
    lost = evidence.newest(pod, "NodeNotReady")
    if lost is not None and condition(pod, "Ready") is None:
        yield Finding(
            cause="node-not-answering",
            sentence=f"the node {node_of(pod)} on which a pod runs does not answer",
            remedy="wait five minutes: the control plane then gives the node up, and starts the pod elsewhere; finished rows are kept",
            evidence=(event_line(lost),),
            since=event_time(lost),
        )
    name, newest = pod["metadata"]["name"], evidence.newest_line(pod)
    if newest is None:
        yield _fine("the pods run", (), since)
        return
    decoding = isinstance(parse_line(newest.line), Progress)
    silent = age(newest.time or since, evidence.clock) or 0.0
    most = _HUNG_SECONDS if decoding else _LOADING_SECONDS if newest.time else _STARTING_SECONDS
    said = (f"pod {name}: {readable(newest.line)}",) if newest.time else ()
    if silent > most:
        yield Finding(
            cause="no-progress",
            sentence=f"a pod runs, but has said nothing for {rough_duration(silent)}: it may hang",
            remedy=f"kubectl delete pod {name}: it is started again, and keeps its finished rows; if it hangs again, specbatch logs shows where",
            evidence=said,
            since=newest.time or since,
        )
    yield _fine(
        "the pods run, and say how far they are" if decoding else "the pods run, and are still loading", said, since
    )


def _fine(sentence: str, lines: tuple[str, ...], since: str | None) -> Finding:
    return Finding(
        cause="running",
        sentence=f"nothing is wrong: {sentence}",
        remedy="nothing to do: specbatch status --watch shows the progress",
        evidence=lines,
        since=since,
        severity="ok",
    )
