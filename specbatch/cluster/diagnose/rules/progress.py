"""Pods that are on their way, run, or end: whether that is normal."""

from __future__ import annotations

from collections.abc import Iterator

from specbatch.cluster.client.kinds import Object
from specbatch.cluster.diagnose.evidence import Evidence
from specbatch.cluster.diagnose.finding import Cause, Finding, by_name
from specbatch.cluster.jobs.job_view import condition
from specbatch.cluster.jobs.timestamps import age
from specbatch.cluster.status.pod_log import readable
from specbatch.cluster.status.pod_state import container_state, node_of
from specbatch.formatting import rough_duration
from specbatch.results.protocol import Progress, parse_line

_HUNG_SECONDS = 300.0  # a decoding runner writes a line every five seconds
_LOADING_SECONDS = 1800.0  # a download writes nothing for long
_STARTING_SECONDS = 600.0
_ENDING_SPARE_SECONDS = 60.0

_CAUSES = by_name(
    Cause("ending", "", "a pod is told to end, and saves what is finished; its shard is started again after that",
        "wait a moment", "warning"),
    Cause("stuck-ending", "",
        "a pod was told to end, and does not: most likely its node {node} is lost; its shard waits for that",
        "is the node up ({kubectl_all} get node {node})? once it is surely off: {kubectl} delete pod {pod} --force"),
    Cause("pulling", "", "node {node} is pulling the image",
        "wait: the runner's image is some gigabytes; the next pod on that node starts at once", "warning"),
    Cause("starting", "", "node {node} is setting up the pod", "wait a moment", "warning"),
    Cause("stuck-starting", "", "node {node} has been setting up the pod for {time}, and says nothing of it",
        "ask an admin about the node ({kubectl_all} describe node {node}); {kubectl} delete pod {pod} tries another"),
    Cause("node-not-answering", "", "the node {node} on which a pod runs does not answer",
        "wait five minutes: the control plane then gives the node up, and starts the pod elsewhere; finished rows are kept"),
    Cause("no-progress", "", "a pod runs, but has said nothing for {time}: it may hang",
        "{kubectl} delete pod {pod}: it is started again, and keeps its finished rows; if it hangs again, {logs} shows where"),
    Cause("running", "", "nothing is wrong: the pods run{how}",
        "nothing to do: {status} --watch shows the progress", "ok"),
)  # fmt: skip


def ending(evidence: Evidence, pod: Object) -> Iterator[Finding]:
    """A pod that was told to end: no other takes its shard before it has."""
    asked = pod["metadata"].get("deletionTimestamp")  # the grace period is in it
    if asked is not None:
        name, node = pod["metadata"]["name"], node_of(pod) or "?"
        stuck = (age(asked, evidence.clock) or 0.0) > _ENDING_SPARE_SECONDS
        found = evidence.found(_CAUSES["stuck-ending" if stuck else "ending"], node=node, pod=name)
        yield found.seen([f"pod {name} (node {node}): told to end, the latest by {asked}"], asked)


def starting(evidence: Evidence, pod: Object) -> Iterator[Finding]:
    """A pod with a node whose container does not run yet, though nobody complains."""
    if (pod.get("status") or {}).get("phase") != "Pending" or not node_of(pod) or "running" in container_state(pod):
        return
    since = pod["status"].get("startTime") or pod["metadata"].get("creationTimestamp")
    said, images = evidence.said_of(pod), evidence.said_of(pod, "Pulling", "Pulled")
    waited, cause = age(since, evidence.clock) or 0.0, "starting"
    if images and images[0].reason == "Pulling":
        cause, since = "pulling", images[0].time
    elif waited >= _STARTING_SECONDS:
        cause = "stuck-starting"
    fields = {"node": node_of(pod), "pod": pod["metadata"]["name"], "time": rough_duration(waited)}
    yield evidence.found(_CAUSES[cause], **fields).seen([one.line for one in said[:1]], since)


def running(evidence: Evidence, pod: Object) -> Iterator[Finding]:
    """A pod that runs: normal, silent for long, or on a node that does not answer."""
    state = container_state(pod).get("running")
    if state is None:
        return
    lost = evidence.said_of(pod, "NodeNotReady")
    if lost and condition(pod, "Ready") is None:
        yield evidence.found(_CAUSES["node-not-answering"], node=node_of(pod)).seen([lost[0].line], lost[0].time)
    name, newest, since, how, said = pod["metadata"]["name"], evidence.newest_line(pod), state.get("startedAt"), "", []
    if newest is not None:
        decoding = isinstance(parse_line(newest.text), Progress)
        since, how = newest.time or since, ", and say how far they are" if decoding else ", and are still loading"
        silent = age(since, evidence.clock) or 0.0
        said = [f"pod {name}: {readable(newest.text)}"] if newest.time else []
        if silent > (_HUNG_SECONDS if decoding else _LOADING_SECONDS if newest.time else _STARTING_SECONDS):
            yield evidence.found(_CAUSES["no-progress"], pod=name, time=rough_duration(silent)).seen(said, since)
    yield evidence.found(_CAUSES["running"], how=how).seen(said, state.get("startedAt"))
