"""Pods that have a node and do not start there: what the kubelet says of their images, containers, volumes and sandbox."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from specbatch.cluster.client.kinds import Object
from specbatch.cluster.diagnose.evidence import Evidence
from specbatch.cluster.diagnose.finding import Cause, Finding, Said
from specbatch.cluster.diagnose.rules.references import OWN_CONFIG_MAP, REFERENCES
from specbatch.cluster.manifests.names import RUN

ARCHITECTURE = Cause("image-architecture", r"exec format error",
    "the image is built for another processor architecture than the node's (exec format error)",
    "build it for that platform (docker buildx build --platform linux/amd64,linux/arm64), or choose nodes by spec.job.nodeSelector: {{kubernetes.io/arch: amd64}}")  # fmt: skip
COMMAND = Cause("command-not-found", r"executable file not found|no such file or directory.*exec|stat .*: no such file|No module named '?specbatch",
    "the image does not have the command: python -m specbatch.runner",
    "take an image with specbatch[runner] inside as spec.job.image (the Dockerfile makes one; the default image is one)")  # fmt: skip
NEVER_PULLED = Cause("image-never-pull", r"^ErrImageNeverPull:",
    "the image {image} is not on the node, and imagePullPolicy: Never forbids to pull it",
    "load it onto the nodes (kind load docker-image, ctr images import), or set spec.job.imagePullPolicy: IfNotPresent")  # fmt: skip
# In this order: registries say "not found" of what they hide, too.
_PULLS = (
    NEVER_PULLED,
    Cause("image-name-invalid", r"^InvalidImageName:", "{image} is not the name of an image",
        "correct spec.job.image: registry/name:tag, in lower case"),
    Cause("node-disk-full", r"no space left on device", "the node's disk is too full for the image: {image}",
        "ask an admin to clear the node's disk; another node may do: {kubectl} delete pod {pod}, and it is tried again"),
    Cause("image-rate-limited", r"toomanyrequests|rate limit|429 Too Many",
        "the registry allows no more pulls for now: {image}",
        "wait (Docker Hub counts six hours), log in by spec.job.imagePullSecrets, or copy the image to a registry of your own"),
    Cause(ARCHITECTURE.cause, r"no match for platform|no matching manifest for|does not match the specified platform",
        "the image is not built for the node's architecture: {image}",
        ARCHITECTURE.remedy),
    Cause("image-registry-certificate", r"x509:|certificate signed by unknown|failed to verify certificate|HTTP response to HTTPS client",
        "the node does not trust the registry's certificate: {image}",
        "ask an admin to give the nodes the registry's certificate authority, or take another registry"),
    Cause("image-registry-unreachable", r"no such host|dial tcp|i/o timeout|connection refused|connection reset|handshake timeout|network is unreachable|deadline exceeded|context canceled|unexpected EOF|\b50[0234]\b|server misbehaving",
        "the node cannot reach the registry: {image}",
        "check the registry's name in spec.job.image, and the nodes' way to it (proxy, firewall); without one, load the image onto the nodes and set spec.job.imagePullPolicy: IfNotPresent"),
    Cause("image-pull-secret-missing", r"pull secret unreadable: (?P<secrets>.*)",
        "the registry refuses to hand out the image {image}, and the pull secret cannot be read ({secrets})",
        "create it: {kubectl} create secret docker-registry {secrets} --docker-server=... --docker-username=... --docker-password=..."),
    Cause("image-denied", r"\b40[13]\b|unauthorized|denied|authentication required|insufficient_scope|authorization failed|no basic auth",
        "the registry refuses to hand out the image: {image}",
        "if it is private: {kubectl} create secret docker-registry NAME ..., and spec.job.imagePullSecrets: [{{name: NAME}}]; Docker Hub says the same of an image that does not exist: check its name"),
    Cause("image-not-found", r"not found|manifest unknown|name unknown|does not exist|\b404\b",
        "the registry has no such image: {image}",
        "check name and tag in spec.job.image (docker manifest inspect IMAGE tells)"),
    Cause("image-pull", "", "the image cannot be pulled: {image}",
        "the message below is the container runtime's; try: docker pull IMAGE from your own machine"),
)  # fmt: skip
STARTS = (
    ARCHITECTURE,
    COMMAND,
    Cause("gpu-runtime", r"nvidia-container-cli|CDI device|nvml|libnvidia|nvidia-container-runtime",
        "the node cannot give the container its GPUs: driver or NVIDIA container toolkit are not in order there",
        "ask an admin to look at the node (nvidia-smi, the GPU operator's pods); avoid it meanwhile by spec.job.affinity"),
    Cause("container-start-failed", "", "the container cannot be started",
        "the message below is the container runtime's; changes of spec.job.podTemplate are the first thing to look at"),
)  # fmt: skip
_CONFIG = (
    *REFERENCES,
    Cause("image-runs-as-root", r"runAsNonRoot", "the image runs as root, which the pod's security context forbids",
        "leave runAsUser as it is in spec.job.podTemplate (10001 works with any image), or take an image with a USER"),
    Cause("container-config", "", "the container cannot be made as the spec asks",
        "the message below names what the kubelet misses"),
)  # fmt: skip
_MOUNTS = (
    *REFERENCES,
    Cause("claim-in-use", r"Multi-Attach error",
        "a claim of the pod is in use by a pod elsewhere (ReadWriteOnce: one node at a time may use it)",
        "end the other pod (of a run: specbatch suspend; of a node that is lost: {kubectl} delete pod POD --force, once the node is surely off); for several shards on several nodes take a ReadWriteMany claim, or job.parallelism: 1"),
    Cause("mount-timeout", r"(unmounted volumes=\[(?P<volumes>[^\]]*)\].*)?(timed out|deadline ?exceeded)",
        "mounting {volumes} takes longer than the kubelet waits",
        "can the node reach the storage (NFS server, network, firewall)? it tries again by itself; ask an admin if it stays so"),
    Cause("mount-failed", r'(.*volume "(?P<volume>[^"]+)"( ?(?P<why>: .+))?)?', "the volume {volume} cannot be attached or mounted{why}",
        "the message below names what is missing or refused: check the claim and its server, or the hostPath's folder on that node, or ask an admin"),
)  # fmt: skip
_SANDBOX = (
    Cause("sandbox-failed", "", "the node cannot set up the pod's network or sandbox",
        "it is tried again by itself; if it stays so, ask an admin about what the message below names (network plugin, or the runtime of spec.job.runtimeClassName)"),
)  # fmt: skip

# By the reason of a container that waits or has ended, and of events.
_WAITING: Mapping[str, Sequence[Cause]] = {
    **dict.fromkeys(("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"), _PULLS),
    **dict.fromkeys(("RegistryUnavailable", "SignatureValidationFailed"), _PULLS),
    **dict.fromkeys(("CreateContainerError", "RunContainerError", "CrashLoopBackOff"), STARTS),
    "CreateContainerConfigError": _CONFIG,
}  # fmt: skip
_EVENTS: Mapping[str, Sequence[Cause]] = {
    **dict.fromkeys(("FailedMount", "FailedAttachVolume", "FailedMapVolume"), _MOUNTS),
    "FailedCreatePodSandBox": _SANDBOX,
}


def container_statuses(pod: Object) -> Iterator[Object]:
    """Those of all its containers, init containers first."""
    for name in ("initContainerStatuses", "containerStatuses"):
        yield from (pod.get("status") or {}).get(name) or ()


def containers(evidence: Evidence, pod: Object) -> Iterator[Finding]:
    """A container whose image does not come, or that cannot be made or started: what the kubelet says in its status."""
    for status in container_statuses(pod):
        waiting = (status.get("state") or {}).get("waiting") or {}
        said = replace(Said.of(waiting, f"pod {pod['metadata']['name']}"), since=pod["status"].get("startTime"))
        causes = _WAITING.get(said.reason)
        if causes is _PULLS:
            yield _pull(evidence, pod, str(status.get("image") or "?"), said)
        elif causes and (finding := _recognise(evidence, causes, said)):
            yield finding


def setup(evidence: Evidence, pod: Object) -> Iterator[Finding]:
    """What keeps a pod's volumes or its sandbox away; nothing once the kubelet has gone on to the image."""
    gone_on = evidence.said_of(pod, "Pulling", "Pulled", "Created", "Started")
    if (pod.get("status") or {}).get("phase") != "Pending" or gone_on:
        return
    # A timeout says only which volume is missing: an older event may say why.
    for said in sorted(evidence.said_of(pod, *_EVENTS), key=lambda one: "timed out" in one.text):
        finding = _recognise(evidence, _EVENTS[said.reason], said)
        if finding and "failed to sync" not in said.text:
            yield finding


def _recognise(evidence: Evidence, causes: Sequence[Cause], said: Said) -> Finding | None:
    """A run's own ConfigMap is put back by submit, any other by whoever has made it."""
    own = f'configmap "{evidence.view.name}" not found' in said.text and RUN in evidence.view.labels
    fields = {"has": f"{evidence.words['kubectl']} describe lists them", "name": evidence.view.name}
    return evidence.recognise([OWN_CONFIG_MAP] if own else causes, said, volumes="the volumes", **fields)


def _pull(evidence: Evidence, pod: Object, image: str, said: Said) -> Finding:
    """Before Kubernetes 1.32 a back-off hides the error, which an event has. A pull secret that is missing is the cause of a refusal."""
    pulls = [one for one in evidence.said_of(pod, "Failed") if "pull" in one.text.lower()]
    errors = [one for one in pulls if "Failed to pull image" in one.text and "ErrImagePull:" not in said.text]
    secrets = evidence.said_of(pod, "FailedToRetrieveImagePullSecret")
    text = f"{said.reason}: {(*errors, said)[0].text.replace(image, 'IMAGE')}"
    if secrets:
        names = [str(one.get("name", "")) for one in pod["spec"].get("imagePullSecrets") or ()]
        text = f"{text} (pull secret unreadable: {', '.join(names) or 'NAME'}"
    told = replace(said, text=text, since=pulls[-1].since if pulls else said.since)
    finding = evidence.recognise(_PULLS, told, image=image, pod=pod["metadata"]["name"])
    assert finding is not None  # the last of them is of any message
    return finding.seen(one.line for one in (*errors[:1], *secrets[:1]))
