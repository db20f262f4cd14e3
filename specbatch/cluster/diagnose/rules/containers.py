"""Containers that cannot be made or started, though the image is there."""

from __future__ import annotations

from collections.abc import Iterator

from specbatch.cluster.client.kinds import Object
from specbatch.cluster.diagnose.evidence import Evidence
from specbatch.cluster.diagnose.finding import Cause, Finding, recognise
from specbatch.cluster.diagnose.rules.references import missing_reference
from specbatch.cluster.jobs.timestamps import event_line, event_start

ARCHITECTURE = Cause("image-architecture", r"exec format error",
    "the image is built for another processor architecture than the node's (exec format error)",
    "build it for that platform (docker buildx build --platform linux/amd64,linux/arm64), or choose nodes by spec.job.nodeSelector: {{kubernetes.io/arch: amd64}}")  # fmt: skip
COMMAND = Cause("command-not-found", r"executable file not found|no such file or directory.*exec|stat .*: no such file|No module named '?specbatch",
    "the image does not have the command: python -m specbatch.runner",
    "take an image with specbatch[runner] inside as spec.job.image (the Dockerfile makes one; the default image is one)")  # fmt: skip
_STARTS = (
    ARCHITECTURE,
    COMMAND,
    Cause("gpu-runtime", r"nvidia-container-cli|CDI device|nvml|libnvidia|nvidia-container-runtime",
        "the node cannot give the container its GPUs: driver or NVIDIA container toolkit are not in order there",
        "ask an admin to look at the node (nvidia-smi, the GPU operator's pods); avoid it meanwhile by spec.job.affinity"),
    Cause("container-start-failed", "",
        "the container cannot be started",
        "the message below is the container runtime's; changes of spec.job.podTemplate are the first thing to look at"),
)  # fmt: skip
_CONFIG = (
    Cause("image-runs-as-root", r"runAsNonRoot",
        "the image runs as root, which the pod's security context forbids",
        "leave runAsUser as it is in spec.job.podTemplate (10001 works with any image), or take an image with a USER"),
    Cause("container-config", "",
        "the container cannot be made as the spec asks",
        "the message below names what the kubelet misses"),
)  # fmt: skip
_SANDBOX = (
    Cause("runtime-handler-missing", r'no runtime for "(?P<name>[^"]+)" is configured',
        "the node's container runtime knows no handler {name}, which the RuntimeClass names",
        "leave out spec.job.runtimeClassName, or ask an admin to configure {name} on the node (NVIDIA container toolkit)"),
    Cause("sandbox-failed", "",
        "the node cannot set up the pod's network or sandbox",
        "it is tried again by itself; if it stays so, ask an admin about the node's network plugin"),
)  # fmt: skip


def container_statuses(pod: Object) -> Iterator[Object]:
    """Those of all its containers, init containers first."""
    for name in ("initContainerStatuses", "containerStatuses"):
        yield from pod.get("status", {}).get(name) or ()


def waiting_containers(pod: Object) -> Iterator[tuple[Object, str, str]]:
    """The status of each container that waits, with reason and message."""
    for status in container_statuses(pod):
        waiting = (status.get("state") or {}).get("waiting") or {}
        if waiting.get("reason"):
            yield status, str(waiting["reason"]), " ".join(str(waiting.get("message") or "").split())


def containers(evidence: Evidence, pod: Object) -> Iterator[Finding]:
    """A container that the kubelet cannot make: what it says in the container's status."""
    for _, reason, message in waiting_containers(pod):
        finding = None
        if reason == "CreateContainerConfigError":
            finding = missing_reference(evidence, message) or recognise(_CONFIG, message)
        elif reason in {"CreateContainerError", "RunContainerError", "CrashLoopBackOff"}:
            finding = start_failure(message)
        if finding is not None:
            yield finding.seen([f"pod {pod['metadata']['name']}: {reason}: {message}"], pod["status"].get("startTime"))


def start_failure(message: str) -> Finding | None:
    """A container whose process does not come up: what the container runtime says."""
    return recognise(_STARTS, message)


def sandbox(evidence: Evidence, pod: Object) -> Iterator[Finding]:
    """A pod of which not even the sandbox can be made: network plugin, runtime class."""
    newest = evidence.newest(pod, "FailedCreatePodSandBox", "Pulling", "Pulled", "Created", "Started")
    pending = (pod.get("status") or {}).get("phase") == "Pending"
    if pending and newest is not None and newest.get("reason") == "FailedCreatePodSandBox":
        finding = recognise(_SANDBOX, str(newest.get("message") or ""))
        if finding is not None:
            yield finding.seen([event_line(newest)], event_start(newest))
