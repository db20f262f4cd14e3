"""Images that do not come."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from specbatch.cluster.client.kinds import Object
from specbatch.cluster.diagnose.evidence import Evidence, container_statuses
from specbatch.cluster.diagnose.finding import Finding
from specbatch.cluster.jobs.timestamps import event_line, event_start
from specbatch.cluster.status.pod_state import node_of

_WAITING = {
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "ImageInspectError",
    "RegistryUnavailable",
    "SignatureValidationFailed",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """One way in which a pull fails: what the container runtime says of it, and what we do."""

    cause: str
    says: str
    sentence: str
    remedy: str


# In this order: registries say "not found" of what they hide, too.
_KINDS: Sequence[_Kind] = (
    _Kind(
        cause="node-disk-full",
        says=r"no space left on device",
        sentence="the node's disk is too full for the image",
        remedy="ask an admin to clear the node's disk; another node may do: kubectl delete pod, and it is tried again",
    ),
    _Kind(
        cause="image-rate-limited",
        says=r"toomanyrequests|rate limit|429 Too Many",
        sentence="the registry allows no more pulls for now",
        remedy="wait (Docker Hub counts six hours), log in by spec.job.imagePullSecrets, or copy the image to a registry of your own",
    ),
    _Kind(
        cause="image-architecture",
        says=r"no match for platform|no matching manifest for|does not match the specified platform",
        sentence="the image is not built for the node's architecture",
        remedy="build it for that platform (docker buildx build --platform linux/amd64,linux/arm64), or choose nodes by "
        "spec.job.nodeSelector: {kubernetes.io/arch: amd64}",
    ),
    _Kind(
        cause="image-registry-certificate",
        says=r"x509:|certificate signed by unknown|failed to verify certificate|HTTP response to HTTPS client",
        sentence="the node does not trust the registry's certificate",
        remedy="ask an admin to give the nodes the registry's certificate authority, or take another registry",
    ),
    _Kind(
        cause="image-denied",
        says=r"\b40[13]\b|unauthorized|denied|authentication required|insufficient_scope|authorization failed|no basic auth",
        sentence="the registry refuses to hand out the image",
        remedy="if it is private: kubectl create secret docker-registry NAME ..., and spec.job.imagePullSecrets: [{name: NAME}]; "
        "Docker Hub says the same of an image that does not exist: check its name",
    ),
    _Kind(
        cause="image-registry-unreachable",
        says=r"no such host|dial tcp|i/o timeout|connection refused|connection reset|handshake timeout|network is unreachable|"
        r"deadline exceeded|context canceled|unexpected EOF|\b50[0234]\b|server misbehaving",
        sentence="the node cannot reach the registry",
        remedy="check the registry's name in spec.job.image, and the nodes' way to it (proxy, firewall); without one, load the image "
        "onto the nodes and set spec.job.imagePullPolicy: IfNotPresent",
    ),
    _Kind(
        cause="image-not-found",
        says=r"not found|manifest unknown|name unknown|does not exist|\b404\b",
        sentence="the registry has no such image",
        remedy="check name and tag in spec.job.image (docker manifest inspect IMAGE tells)",
    ),
)

_OTHER = _Kind(
    cause="image-pull",
    says="",
    sentence="the image cannot be pulled",
    remedy="the message below is the container runtime's; try: docker pull IMAGE from your own machine",
)


def image_problem(evidence: Evidence, pod: Object) -> Finding | None:
    """Why the image of a container is not there."""
    for status in container_statuses(pod):
        waiting = (status.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") in _WAITING:
            return _of(evidence, pod, status, waiting)
    return None


def _of(evidence: Evidence, pod: Object, status: Object, waiting: Object) -> Finding:
    image, reason = str(status.get("image") or "?"), waiting["reason"]
    told, lines, since = _said(evidence, pod, waiting)
    if reason == "InvalidImageName":
        return Finding(
            cause="image-name-invalid",
            sentence=f"{image} is not the name of an image",
            remedy="correct spec.job.image: registry/name:tag, in lower case",
            evidence=lines,
            since=since,
        )
    if reason == "ErrImageNeverPull":
        return Finding(
            cause="image-never-pull",
            sentence=f"the image {image} is not on the node, and imagePullPolicy: Never forbids to pull it",
            remedy="load it onto the nodes (kind load docker-image, ctr images import), or set spec.job.imagePullPolicy: IfNotPresent",
            evidence=(*lines, f"node {node_of(pod)}"),
            since=since,
        )
    found = next((kind for kind in _KINDS if re.search(kind.says, told.replace(image, "IMAGE"), re.IGNORECASE)), _OTHER)
    secret = evidence.newest(pod, "FailedToRetrieveImagePullSecret")
    if secret is not None and found.cause in {"image-denied", "image-not-found", "image-pull"}:
        return _pull_secret_missing(pod, image, (event_line(secret), *lines), since)
    return Finding(
        cause=found.cause, sentence=f"{found.sentence}: {image}", remedy=found.remedy, evidence=lines, since=since
    )


def _said(evidence: Evidence, pod: Object, waiting: Object) -> tuple[str, tuple[str, ...], str | None]:
    """What the container runtime said, as evidence too, and since when. Before Kubernetes 1.32 a back-off hides it: an event has it."""
    events = evidence.events_of(pod, "Failed", "InspectFailed")
    pulls = [event for event in events if "pull" in str(event.get("message", "")).lower()]
    message = " ".join(str(waiting.get("message") or "").split())
    line = f"pod {pod['metadata']['name']}: {waiting['reason']}: {message}"
    since = event_start(pulls[-1]) if pulls else (pod.get("status") or {}).get("startTime")
    telling = next((event for event in pulls if "Failed to pull image" in str(event.get("message", ""))), None)
    if waiting["reason"] == "ImagePullBackOff" and "ErrImagePull:" not in message and telling is not None:
        return str(telling["message"]), (line, event_line(telling)), since
    return message, (line,), since


def _pull_secret_missing(pod: Object, image: str, lines: tuple[str, ...], since: str | None) -> Finding:
    names = [str(one.get("name", "")) for one in pod["spec"].get("imagePullSecrets") or ()]
    return Finding(
        cause="image-pull-secret-missing",
        sentence=f"the registry refuses to hand out the image {image}, and the pull secret cannot be read ({', '.join(names)})",
        remedy=f"create it: kubectl create secret docker-registry {names[0] if names else 'NAME'} --docker-server=... "
        "--docker-username=... --docker-password=...",
        evidence=lines,
        since=since,
    )
