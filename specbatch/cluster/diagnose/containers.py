"""Containers that cannot be made or started, though the image is there."""

from __future__ import annotations

import re

from specbatch.cluster.client.kinds import Object
from specbatch.cluster.diagnose.evidence import Evidence, container_statuses
from specbatch.cluster.diagnose.finding import Finding
from specbatch.cluster.diagnose.missing import config_map_missing, secret_key_missing, secret_missing
from specbatch.cluster.jobs.timestamps import event_line, event_start

_SECRET = re.compile(r'secret "([^"]+)" not found')
_CONFIG_MAP = re.compile(r'configmap "([^"]+)" not found')
_KEY = re.compile(r"couldn't find key (\S+) in (Secret|ConfigMap) [^/\s]+/([^\s,]+)")
_HANDLER = re.compile(r'no runtime for "([^"]+)" is configured|RuntimeHandler "?([^"\s]+)"? not supported')


def config_problem(evidence: Evidence, pod: Object) -> Finding | None:
    """A container that the kubelet cannot make: what it says in the container's status."""
    for status in container_statuses(pod):
        waiting = (status.get("state") or {}).get("waiting") or {}
        message = " ".join(str(waiting.get("message") or "").split())
        line = (f"pod {pod['metadata']['name']}: {waiting.get('reason')}: {message}",)
        since = pod.get("status", {}).get("startTime")
        if waiting.get("reason") == "CreateContainerConfigError":
            return _config(evidence, message, line, since)
        if waiting.get("reason") in {"CreateContainerError", "RunContainerError", "CrashLoopBackOff"}:
            return start_failure(message, line, since)
    return None


def sandbox_problem(evidence: Evidence, pod: Object) -> Finding | None:
    """A pod of which not even the sandbox can be made: network plugin, runtime class."""
    event = evidence.newest(pod, "FailedCreatePodSandBox")
    if event is None or evidence.newest(pod, "Pulling", "Pulled", "Created", "Started") is not None:
        return None
    message, line, since = str(event.get("message", "")), (event_line(event),), event_start(event)
    handler = _HANDLER.search(message)
    if handler:
        name = handler[1] or handler[2]
        return Finding(
            cause="runtime-handler-missing",
            sentence=f"the node's container runtime knows no handler {name}, which the RuntimeClass names",
            remedy=f"leave out spec.job.runtimeClassName, or ask an admin to configure {name} on the node (NVIDIA container toolkit)",
            evidence=line,
            since=since,
        )
    return Finding(
        cause="sandbox-failed",
        sentence="the node cannot set up the pod's network or sandbox",
        remedy="it is tried again by itself; if it stays so, ask an admin about the node's network plugin",
        evidence=line,
        since=since,
    )


def start_failure(message: str, line: tuple[str, ...], since: str | None) -> Finding:
    """A container whose process does not come up: what the container runtime says."""
    if "exec format error" in message:
        return wrong_architecture(line, since)
    if re.search(r"executable file not found|no such file or directory.*exec|stat .*: no such file", message):
        return command_not_found(line, since)
    if re.search(r"nvidia-container-cli|CDI device|nvml|libnvidia|nvidia-container-runtime", message, re.IGNORECASE):
        return Finding(
            cause="gpu-runtime",
            sentence="the node cannot give the container its GPUs: driver or NVIDIA container toolkit are not in order there",
            remedy="ask an admin to look at the node (nvidia-smi, the GPU operator's pods); avoid it meanwhile by spec.job.affinity",
            evidence=line,
            since=since,
        )
    return Finding(
        cause="container-start-failed",
        sentence="the container cannot be started",
        remedy="the message below is the container runtime's; changes of spec.job.podTemplate are the first thing to look at",
        evidence=line,
        since=since,
    )


def command_not_found(line: tuple[str, ...], since: str | None) -> Finding:
    """An image without Python, or without specbatch."""
    return Finding(
        cause="command-not-found",
        sentence="the image does not have the command: python -m specbatch.runner",
        remedy="take an image with specbatch[runner] inside as spec.job.image (the Dockerfile makes one; the default image is one)",
        evidence=line,
        since=since,
    )


def wrong_architecture(line: tuple[str, ...], since: str | None) -> Finding:
    """Programs of another processor."""
    return Finding(
        cause="image-architecture",
        sentence="the image is built for another processor architecture than the node's (exec format error)",
        remedy="build it for that platform (docker buildx build --platform linux/amd64,linux/arm64), or choose nodes by "
        "spec.job.nodeSelector: {kubernetes.io/arch: amd64}",
        evidence=line,
        since=since,
    )


def _config(evidence: Evidence, message: str, line: tuple[str, ...], since: str | None) -> Finding:
    if match := _KEY.search(message):
        return secret_key_missing(match[1], f"the {match[2]} {match[3]}", line, since)
    if match := _SECRET.search(message):
        return secret_missing(match[1], line, since)
    if match := _CONFIG_MAP.search(message):
        return config_map_missing(evidence, match[1], line, since)
    if "runAsNonRoot" in message:
        return Finding(
            cause="image-runs-as-root",
            sentence="the image runs as root, which the pod's security context forbids",
            remedy="leave runAsUser as it is in spec.job.podTemplate (10001 works with any image), or take an image with a USER",
            evidence=line,
            since=since,
        )
    if "subPath" in message or "subpath" in message:
        return Finding(
            cause="sub-path",
            sentence="a subPath of spec.job.volumes cannot be made on its volume",
            remedy="make the folder on the volume, and let user 10001 write there; or leave subPath out",
            evidence=line,
            since=since,
        )
    return Finding(
        cause="container-config",
        sentence="the container cannot be made as the spec asks",
        remedy="the message below names what the kubelet misses",
        evidence=line,
        since=since,
    )
