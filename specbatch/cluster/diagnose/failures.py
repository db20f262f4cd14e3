"""Pods that have failed: the cause of the end of one pod."""

from __future__ import annotations

from specbatch.cluster.client.kinds import Object
from specbatch.cluster.diagnose.containers import start_failure
from specbatch.cluster.diagnose.disruptions import disruption
from specbatch.cluster.diagnose.evidence import Evidence, container_statuses
from specbatch.cluster.diagnose.exit_codes import by_exit_code
from specbatch.cluster.diagnose.finding import Finding
from specbatch.cluster.status.pod_log import LastWord, readable, whole_lines
from specbatch.cluster.status.pod_state import container_state, last_word, node_of

_NOT_STARTED = {"StartError", "ContainerCannotRun"}
_TEXT_CHARS = 400


def failure(_: Evidence, pod: Object) -> Finding | None:  # noqa: PLR0911 - a cause a return
    """Why a pod failed; None where it has not."""
    if (pod.get("status") or {}).get("phase") != "Failed":
        return None
    disrupted = disruption(pod)
    if disrupted is not None:
        return disrupted
    ended = container_state(pod).get("terminated") or {}
    message = str(ended.get("message") or "")
    word = last_word(pod) or LastWord()
    line = (_line(pod, ended, "" if word.error and word.exit_code is not None else message),)
    since = ended.get("finishedAt")
    killed = next((one for one in container_statuses(pod) if _terminated(one).get("reason") == "OOMKilled"), None)
    if killed is not None:
        return _out_of_memory(pod, killed, line, since)
    if ended.get("reason") in _NOT_STARTED:
        return start_failure(message, line, since)
    if pod["status"].get("reason") == "DeadlineExceeded":
        return Finding(
            cause="pod-deadline-exceeded",
            sentence="the pod ran longer than its activeDeadlineSeconds allows",
            remedy="take activeDeadlineSeconds out of spec.job.podTemplate, or raise it; finished rows are kept",
            evidence=line,
            since=since,
        )
    if ended.get("reason") == "ContainerStatusUnknown" or "exitCode" not in ended:
        return Finding(
            cause="node-lost",
            sentence="the pod ended without a word: most likely its node was lost or restarted",
            remedy="nothing, unless it comes back: it is tried again, and its finished rows are kept",
            evidence=line,
            since=since,
        )
    return by_exit_code(int(ended["exitCode"]), word, message, line, since)


def _terminated(status: Object) -> Object:
    ended: Object = (status.get("state") or {}).get("terminated") or {}
    return ended


def _line(pod: Object, ended: Object, message: str) -> str:
    """What is known of the end, in one line; of a long log its end. The runner's own last word is in the sentence already."""
    text = " ".join(" ".join(readable(line) for line in whole_lines(message)).split())
    shown = text if len(text) <= _TEXT_CHARS else f"…{text[-_TEXT_CHARS:]}"
    code = f"exit code {ended['exitCode']}" if "exitCode" in ended else "no exit code"
    reason = f", {ended['reason']}" if ended.get("reason") not in {None, "Error"} else ""
    status = str(pod["status"].get("message") or "")
    return f"pod {pod['metadata']['name']} (node {node_of(pod) or '?'}): {code}{reason}" + "".join(
        f": {part}" for part in (status, shown) if part
    )


def _out_of_memory(pod: Object, killed: Object, line: tuple[str, ...], since: str | None) -> Finding:
    """Killed by the kernel: within the container's limit, or because the node had none left."""
    limit = _memory_limit(pod, str(killed.get("name")))
    if limit is None:
        return Finding(
            cause="node-out-of-memory",
            sentence="the node ran out of memory, and the kernel killed the process (OOMKilled; the pod has no memory limit)",
            remedy="set spec.job.resources.requests.memory (and limits.memory) to what the models need: specbatch plan FILE says how much",
            evidence=line,
            since=since,
        )
    return Finding(
        cause="out-of-memory-killed",
        sentence=f"the pod used more memory than its limit of {limit}, and was killed (OOMKilled)",
        remedy="raise spec.job.resources.limits.memory (specbatch plan FILE says what the models need; /dev/shm counts, too), and submit again",
        evidence=line,
        since=since,
    )


def _memory_limit(pod: Object, container: str) -> str | None:
    spec = pod["spec"]
    own: Object = next((one for one in spec.get("containers") or () if one.get("name") == container), {})
    for thing in (own, spec):
        limit = ((thing.get("resources") or {}).get("limits") or {}).get("memory")
        if limit:
            return str(limit)
    return None
