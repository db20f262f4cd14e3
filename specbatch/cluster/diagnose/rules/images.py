"""Images that do not come to their node."""

from __future__ import annotations

import re
from collections.abc import Iterator

from specbatch.cluster.client.kinds import Object
from specbatch.cluster.diagnose.evidence import Evidence
from specbatch.cluster.diagnose.finding import Cause, Finding, recognise
from specbatch.cluster.diagnose.rules.containers import ARCHITECTURE, waiting_containers
from specbatch.cluster.jobs.timestamps import event_line, event_start

_WAITING = {
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "ImageInspectError",
    "RegistryUnavailable",
    "SignatureValidationFailed",
}
NEVER_PULLED = Cause("image-never-pull", r"^ErrImageNeverPull:",
    "the image {image} is not on the node, and imagePullPolicy: Never forbids to pull it",
    "load it onto the nodes (kind load docker-image, ctr images import), or set spec.job.imagePullPolicy: IfNotPresent")  # fmt: skip
# In this order: registries say "not found" of what they hide, too.
_MESSAGES = (
    NEVER_PULLED,
    Cause("image-name-invalid", r"^InvalidImageName:",
        "{image} is not the name of an image",
        "correct spec.job.image: registry/name:tag, in lower case"),
    Cause("node-disk-full", r"no space left on device",
        "the node's disk is too full for the image: {image}",
        "ask an admin to clear the node's disk; another node may do: kubectl delete pod, and it is tried again"),
    Cause("image-rate-limited", r"toomanyrequests|rate limit|429 Too Many",
        "the registry allows no more pulls for now: {image}",
        "wait (Docker Hub counts six hours), log in by spec.job.imagePullSecrets, or copy the image to a registry of your own"),
    Cause(ARCHITECTURE.cause, r"no match for platform|no matching manifest for|does not match the specified platform",
        "the image is not built for the node's architecture: {image}",
        ARCHITECTURE.remedy),
    Cause("image-registry-certificate", r"x509:|certificate signed by unknown|failed to verify certificate|HTTP response to HTTPS client",
        "the node does not trust the registry's certificate: {image}",
        "ask an admin to give the nodes the registry's certificate authority, or take another registry"),
    Cause("image-denied", r"\b40[13]\b|unauthorized|denied|authentication required|insufficient_scope|authorization failed|no basic auth",
        "the registry refuses to hand out the image: {image}",
        "if it is private: kubectl create secret docker-registry NAME ..., and spec.job.imagePullSecrets: [{{name: NAME}}]; Docker Hub says the same of an image that does not exist: check its name"),
    Cause("image-registry-unreachable", r"no such host|dial tcp|i/o timeout|connection refused|connection reset|handshake timeout|network is unreachable|deadline exceeded|context canceled|unexpected EOF|\b50[0234]\b|server misbehaving",
        "the node cannot reach the registry: {image}",
        "check the registry's name in spec.job.image, and the nodes' way to it (proxy, firewall); without one, load the image onto the nodes and set spec.job.imagePullPolicy: IfNotPresent"),
    Cause("image-not-found", r"not found|manifest unknown|name unknown|does not exist|\b404\b",
        "the registry has no such image: {image}",
        "check name and tag in spec.job.image (docker manifest inspect IMAGE tells)"),
    Cause("image-pull", "",
        "the image cannot be pulled: {image}",
        "the message below is the container runtime's; try: docker pull IMAGE from your own machine"),
)  # fmt: skip
_PULL_SECRET = Cause("image-pull-secret-missing", "",
    "the registry refuses to hand out the image {image}, and the pull secret cannot be read ({secrets})",
    "create it: kubectl create secret docker-registry {secrets} --docker-server=... --docker-username=... --docker-password=...")  # fmt: skip


def images(evidence: Evidence, pod: Object) -> Iterator[Finding]:
    """Why the image of a container is not there."""
    for status, reason, message in waiting_containers(pod):
        if reason in _WAITING:
            yield _of(evidence, pod, str(status.get("image") or "?"), reason, message)


def _of(evidence: Evidence, pod: Object, image: str, reason: str, message: str) -> Finding:
    lines = [f"pod {pod['metadata']['name']}: {reason}: {message}"]
    pulls = [event for event in evidence.events_of(pod, "Failed") if "pull" in str(event.get("message", "")).lower()]
    since = event_start(pulls[-1]) if pulls else pod["status"].get("startTime")
    telling = next((event for event in pulls if "Failed to pull image" in str(event.get("message", ""))), None)
    if telling is not None and "ErrImagePull:" not in message:  # before Kubernetes 1.32 a back-off hides the error
        message = str(telling["message"])
        lines.append(event_line(telling))
    finding = recognise(_MESSAGES, f"{reason}: {message.replace(image, 'IMAGE')}", image=image)
    assert finding is not None  # the last of them is of any message
    secret = evidence.newest(pod, "FailedToRetrieveImagePullSecret")
    if secret is not None and finding.cause in {"image-denied", "image-not-found", "image-pull"}:
        names = ", ".join(str(one.get("name", "")) for one in pod["spec"].get("imagePullSecrets") or ())
        finding, lines = _PULL_SECRET.finding(image=image, secrets=names or "NAME"), [event_line(secret), *lines]
    return finding.seen(lines, since)


def image_on_nodes(evidence: Evidence, pod: Object) -> Iterator[Finding]:
    """An image that may not be pulled, and lies on no node."""
    for container in pod["spec"].get("containers") or ():
        image = str(container.get("image", ""))
        if container.get("imagePullPolicy") == "Never" and evidence.nodes and not nodes_with(evidence, image):
            yield NEVER_PULLED.finding(image=image)


def nodes_with(evidence: Evidence, image: str) -> list[str]:
    """The nodes that have an image, as far as they tell; nodes name images in full: docker.io/library/busybox:1."""
    registry = re.match(r"[^/]*[.:][^/]*/|localhost/", image)
    full = image if registry else f"docker.io/{image}" if "/" in image else f"docker.io/library/{image}"
    name = full if ":" in full.rpartition("/")[2] or "@" in full else f"{full}:latest"
    return [node.name for node in evidence.nodes or () if name in node.images]
