"""Pods that are on their way, or run: whether that is normal."""

from __future__ import annotations

from specbatch.cluster.client.kinds import Object
from specbatch.cluster.diagnose.evidence import Evidence
from specbatch.cluster.diagnose.finding import Finding
from specbatch.cluster.jobs.timestamps import age, event_line, event_time
from specbatch.cluster.status.pod_log import Look, parse_line, readable
from specbatch.cluster.status.pod_state import container_state, node_of
from specbatch.formatting import rough_duration

_HUNG_SECONDS = 300.0  # a decoding runner says a word every five seconds
_LOADING_SECONDS = 1800.0  # a download says nothing for long
_STARTING_SECONDS = 600.0
_ENDING_SPARE_SECONDS = 60.0


def ending(evidence: Evidence, pod: Object) -> Finding | None:
    """A pod that was told to end: no other takes its shard before it has."""
    asked = pod["metadata"].get("deletionTimestamp")
    if asked is None:
        return None
    over = age(asked, evidence.clock) or 0.0  # the time of deletion has the grace period in it
    name, node = pod["metadata"]["name"], node_of(pod)
    line = (f"pod {name} (node {node or '?'}): told to end, the latest by {asked}",)
    if over > _ENDING_SPARE_SECONDS:
        return Finding(
            cause="stuck-ending",
            sentence=f"a pod was told to end, and does not: most likely its node {node} is lost; its shard waits for that",
            remedy=f"is the node up (kubectl get node {node})? once it is surely off: kubectl delete pod {name} --force -n {evidence.view.namespace}",
            evidence=line,
            since=asked,
        )
    return Finding(
        cause="ending",
        sentence="a pod is told to end, and saves what is finished; its shard is started again after that",
        remedy="wait a moment",
        evidence=line,
        since=asked,
        mood="waiting",
    )


def starting(evidence: Evidence, pod: Object) -> Finding | None:
    """A pod with a node whose container does not run yet, though nobody complains."""
    if (pod.get("status") or {}).get("phase") != "Pending" or not node_of(pod) or "running" in container_state(pod):
        return None
    since = pod["status"].get("startTime") or pod["metadata"].get("creationTimestamp")
    newest = evidence.newest(pod)
    lines = (event_line(newest),) if newest else ()
    pulling, pulled = evidence.newest(pod, "Pulling"), evidence.newest(pod, "Pulled")
    if pulling is not None and (pulled is None or event_time(pulled) < event_time(pulling)):
        return Finding(
            cause="pulling",
            sentence=f"node {node_of(pod)} is pulling the image",
            remedy="wait: the runner's image is some gigabytes; the next pod on that node starts at once",
            evidence=lines,
            since=event_time(pulling),
            mood="waiting",
        )
    waited = age(since, evidence.clock) or 0.0
    if waited < _STARTING_SECONDS:
        return Finding(
            cause="starting",
            sentence=f"node {node_of(pod)} is setting up the pod",
            remedy="wait a moment",
            evidence=lines,
            since=since,
            mood="waiting",
        )
    return Finding(
        cause="stuck-starting",
        sentence=f"node {node_of(pod)} has been setting up the pod for {rough_duration(waited)}, and says nothing of it",
        remedy=f"ask an admin about the node (kubectl describe node {node_of(pod)}); kubectl delete pod {pod['metadata']['name']} tries another",
        evidence=lines,
        since=since,
    )


def running(evidence: Evidence, pod: Object) -> Finding | None:
    """A pod that runs: normal, silent for long, or on a node that does not answer."""
    state = container_state(pod).get("running")
    if state is None:
        return None
    name, since = pod["metadata"]["name"], state.get("startedAt")
    lost = evidence.newest(pod, "NodeNotReady")
    ready = any(
        one.get("type") == "Ready" and one.get("status") == "True" for one in pod["status"].get("conditions") or ()
    )
    if lost is not None and not ready:
        return Finding(
            cause="node-not-answering",
            sentence=f"the node {node_of(pod)} on which a pod runs does not answer",
            remedy="wait five minutes: the control plane then gives the node up, and starts the pod elsewhere; finished rows are kept",
            evidence=(event_line(lost),),
            since=event_time(lost),
        )
    newest = evidence.newest_lines.get(name)
    if newest is None:
        waited = age(since, evidence.clock) or 0.0
        if name in evidence.silent_logs and waited > _STARTING_SECONDS:
            return _hung(name, f"has not said a word since it started {rough_duration(waited)} ago", since)
        return _fine("the pods run", (), since)
    silent = age(newest.time, evidence.clock) or 0.0
    event = parse_line(newest.line)
    looks = isinstance(event, Look)
    if silent > (_HUNG_SECONDS if looks else _LOADING_SECONDS):
        said = f"pod {name}: newest line: {readable(newest.line)}"
        return _hung(name, f"has said nothing for {rough_duration(silent)}", newest.time, said)
    line = (f"pod {name}: {readable(newest.line)}",)
    return _fine(
        "the pods run, and say how far they are" if looks else "the pods run, and are still loading", line, since
    )


def _hung(name: str, how: str, since: str | None, *said: str) -> Finding:
    return Finding(
        cause="no-progress",
        sentence=f"a pod runs, but {how}: it may hang",
        remedy=f"kubectl delete pod {name}: it is started again, and keeps its finished rows; if it hangs again, specbatch logs shows where",
        evidence=said,
        since=since,
    )


def _fine(sentence: str, lines: tuple[str, ...], since: str | None) -> Finding:
    return Finding(
        cause="running",
        sentence=f"nothing is wrong: {sentence}",
        remedy="nothing to do: specbatch status --watch shows the progress",
        evidence=lines,
        since=since,
        mood="fine",
    )
