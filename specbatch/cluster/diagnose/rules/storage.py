"""Claims and their volumes: missing, without a volume, out of reach, in use elsewhere, or not to be mounted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from specbatch.api.hints import nearest
from specbatch.cluster.client.kinds import Object
from specbatch.cluster.diagnose.evidence import Evidence
from specbatch.cluster.diagnose.finding import Finding, Message, Severity, recognise
from specbatch.cluster.diagnose.quantities import listed
from specbatch.cluster.diagnose.rules.references import missing_reference
from specbatch.cluster.diagnose.rules.scheduling import scheduler_says
from specbatch.cluster.jobs.timestamps import event_line, event_start
from specbatch.cluster.status.pod_state import node_of

_DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
_VOLUME_LOST = Message(
    "volume-lost",
    r"non-existent pv",
    "the volume of {claim} is gone",
    "make the claim anew (what was on the volume is gone unless its storage has it), then submit again",
)
_IN_USE = (
    "end the other pod (of a node that is lost: kubectl delete pod --force, once the node is surely off); for several shards on "
    "several nodes take a ReadWriteMany claim, or job.parallelism: 1"
)

# What the scheduler says of volumes: of nodes that have room, and of no others.
_SCHEDULER = (
    Message(
        "claim-unbound",
        r"unbound (immediate )?PersistentVolumeClaims",
        "a claim of the pod is not bound to a volume yet ({claims})",
        "see kubectl get pvc, and kubectl describe pvc for the reason",
    ),
    Message(
        "volume-elsewhere",
        r"volume node affinity conflict|PersistentVolume's node affinity|no available volume zone",
        "the volume of a claim can be reached from some nodes only, and none of those takes the pod",
        "take nodes of the volume's zone (spec.job.nodeSelector: {{topology.kubernetes.io/zone: ...}}), or a claim whose storage class "
        "reaches every node (RWX) or binds late (volumeBindingMode: WaitForFirstConsumer)",
    ),
    Message(
        "claim-in-use",
        r"ReadWriteOncePod",
        "a claim of the pod is in use by a pod elsewhere (ReadWriteOncePod: one pod at a time may use it)",
        _IN_USE,
    ),
    _VOLUME_LOST,
    Message(
        "no-volume",
        r"find available persistent volumes to bind|enough free storage",
        "no volume can be had for a claim of the pod on the nodes that would do",
        "ask an admin for a PersistentVolume of that size and class, or for a class with a provisioner",
    ),
)

# What the kubelet and the attach controller say of them.
_MOUNTS = (
    Message(
        "claim-in-use",
        r"Multi-Attach error",
        "a claim of the pod is in use by a pod elsewhere (ReadWriteOnce: one node at a time may use it)",
        _IN_USE,
    ),
    Message(
        "host-path-missing",
        r'volume "(?P<volume>[^"]+)".*hostPath type check failed: (?P<what>.*)',
        "the folder that volume {volume} names is not on the node: {what}",
        "make the folder on every node that may be used, or take a claim instead of hostPath in spec.job.volumes",
    ),
    Message(
        "csi-driver-missing",
        r'volume "(?P<volume>[^"]+)".*driver name (?P<driver>\S+) not found in the list of registered CSI drivers',
        "the node does not run the CSI driver {driver} that volume {volume} needs",
        "ask an admin to install it on that node, or take other nodes by spec.job.nodeSelector",
    ),
    Message(
        "mount-timeout",
        r"(unmounted volumes=\[(?P<volumes>[^\]]*)\].*)?(timed out|deadline ?exceeded)",
        "mounting {volumes} takes longer than the kubelet waits",
        "can the node reach the storage (NFS server, network, firewall)? it tries again by itself; ask an admin if it stays so",
    ),
    Message(
        "mount-failed",
        r'(.*volume "(?P<volume>[^"]+)")?',
        "the volume {volume} cannot be attached or mounted",
        "the message below names what the storage refuses: check the claim and its server, or ask an admin",
    ),
)


def claims(evidence: Evidence, pod: Object) -> Iterator[Finding]:
    """Claims that keep a pod from every node. They come before the scheduler, which cannot place a pod without them."""
    if node_of(pod):
        return
    message, since = scheduler_says(evidence, pod)
    said = (f"pod {pod['metadata']['name']}: {message}",) if message else ()
    names = claim_names(pod["spec"])
    for name in names:
        if (evidence.claims is not None and name not in evidence.claims) or f'claim "{name}" not found' in message:
            yield _missing(evidence, name).seen(said, since)
    found = [claim for claim in map((evidence.claims or {}).get, names) if claim]
    for claim in found:
        yield from (finding.seen(said) for finding in _unusable(evidence, claim, message))
    if finding := recognise(_SCHEDULER, message, claim="a claim of the pod", claims=listed(names)):
        places = _places(evidence, found) if finding.cause == "volume-elsewhere" else ()
        yield finding.seen([*said, *places], since)


def access_modes(evidence: Evidence, pod: Object) -> Iterator[Finding]:
    """Claims that not all pods can use at once."""
    job = evidence.view.job["spec"]
    at_once = min(job.get("parallelism") or evidence.view.completions, evidence.view.completions)
    for name in claim_names(pod["spec"]) if at_once > 1 else ():
        modes = ((evidence.claims or {}).get(name, {}).get("spec") or {}).get("accessModes") or []
        if "ReadWriteOncePod" in modes or modes == ["ReadWriteOnce"]:
            limit = "one will run at a time" if "ReadWriteOncePod" in modes else "all must run on one node"
            yield Finding(
                cause="claim-not-shared",
                sentence=f"the claim {name} is {modes[0]}: of {at_once} pods at once {limit}",
                remedy="use a claim with ReadWriteMany to spread them over nodes, or set job.parallelism to 1",
                severity="warning",
            )


def results_volume(_: Evidence, pod: Object) -> Iterator[Finding]:
    """Results on a volume that does not outlive its pod, or that other nodes do not have."""
    volume: Object = next((one for one in pod["spec"].get("volumes") or () if one.get("name") == "results"), {})
    for kind, lost in (
        ("emptyDir", "what is not published is lost with the pod, and one that is replaced begins its shard again"),
        ("hostPath", "every node has a folder of its own, and a pod that moves begins its shard again"),
    ):
        if kind in volume:
            yield Finding(
                cause="results-not-kept",
                sentence=f"the volume of the results is {kind}: {lost}",
                remedy="use claimName: NAME (a PersistentVolumeClaim) in spec.job.volumes.results",
                severity="warning",
            )


def mounts(evidence: Evidence, pod: Object) -> Iterator[Finding]:
    """What keeps a pod's volumes away, by the newest words of the kubelet and of the attach controller."""
    if evidence.newest(pod, "Pulling", "Pulled", "Created", "Started") is not None:
        return  # the kubelet has gone on to the image since
    events = [(one, " ".join(str(one.get("message") or "").split())) for one in evidence.events_of(pod, *_REASONS)]
    # A timeout says only which volume is missing: an older event may say why.
    for event, message in sorted(events, key=lambda one: "timed out" in one[1]):
        if "failed to sync" not in message:
            finding = missing_reference(evidence, message) or recognise(_MOUNTS, message, volumes="the volumes")
            if finding is not None:
                yield finding.seen([event_line(event)], event_start(event))


_REASONS = ("FailedMount", "FailedAttachVolume", "FailedMapVolume")


def claim_names(spec: Object) -> list[str]:
    """The claims that a pod's spec mounts."""
    mounted = (volume.get("persistentVolumeClaim") for volume in spec.get("volumes") or ())
    return list(dict.fromkeys(claim["claimName"] for claim in mounted if claim))


def default_classes(classes: Sequence[Object]) -> list[str]:
    """The names of the storage classes that a claim gets which names none."""
    marked = [one for one in classes if (one["metadata"].get("annotations") or {}).get(_DEFAULT_CLASS) == "true"]
    return [str(one["metadata"]["name"]) for one in marked]


def _missing(evidence: Evidence, name: str) -> Finding:
    there = sorted(evidence.claims or ())
    guess = nearest(name, there)
    meant = f"did you mean {guess}? " if guess else ""
    known = f"there is: {listed(there)}; or " if there else ""
    return Finding(
        cause="claim-missing",
        sentence=f"the claim {name}, which the spec mounts, does not exist in namespace {evidence.namespace_name}",
        remedy=f"{meant}{known}create it (kubectl apply -k k8s/ makes specbatch-results and specbatch-models): the pods then start by themselves",
    )


def _unusable(evidence: Evidence, claim: Object, message: str) -> Iterator[Finding]:
    metadata, phase = claim["metadata"], claim.get("status", {}).get("phase")
    name, since = metadata["name"], metadata.get("creationTimestamp")
    if metadata.get("deletionTimestamp") or f'claim "{name}" is being deleted' in message:
        yield Finding(
            cause="claim-deleting",
            sentence=f"the claim {name} is being deleted, and takes no new pods",
            remedy="wait until it is gone (a pod that still uses it holds it), then create it again",
            since=metadata.get("deletionTimestamp"),
        )
    elif phase == "Lost":
        yield _VOLUME_LOST.finding(claim=f"claim {name}").seen(since=since)
    elif phase == "Pending" and (not message or "PersistentVolumeClaim" in message):
        yield from (finding.seen(since=since) for finding in _unbound(evidence, claim))


def _unbound(evidence: Evidence, claim: Object) -> Iterator[Finding]:
    """Why a claim has no volume. One that is bound when its first pod comes waits for the pod, not the pod for it."""
    name, wanted = claim["metadata"]["name"], claim.get("spec", {}).get("storageClassName")
    classes = {str(one["metadata"]["name"]): one for one in evidence.classes or ()}
    known = f": {listed(sorted(classes))}" if classes else " (kubectl get storageclass)"
    events = evidence.events_of(claim, "ExternalProvisioning", "Provisioning", "FailedBinding")
    newest: Object = evidence.newest(claim, "ProvisioningFailed") or next(iter(events), {})
    text = str(newest.get("message") or "")
    severity: Severity = "error"
    if (wanted and evidence.classes is not None and wanted not in classes) or (
        "storageclass" in text and "not found" in text
    ):
        cause = "storage-class-missing"
        sentence = f"the claim {name} asks for storage class {wanted}, which does not exist"
        remedy = f"delete the claim and make it anew with a class that exists{known}"
    elif newest.get("reason") == "ProvisioningFailed":
        cause = "provisioning-failed"
        sentence = f"no volume can be made for claim {name}: {text}"
        remedy = f"the provisioner of storage class {wanted} says why; a claim of another class or size may do{known}"
    elif not wanted and newest.get("reason") == "FailedBinding":
        cause = "no-default-storage-class"
        old = default_classes(list(classes.values()))
        why = "was made before there was a default one" if old else "the cluster has no default one"
        sentence = f"the claim {name} names no storage class, and {why}"
        remedy = f"delete the claim and make it anew with storageClassName{known}, or ask an admin for a default one"
    elif not newest and (
        classes.get(wanted, {}).get("volumeBindingMode") == "WaitForFirstConsumer"
        or evidence.newest(claim, "WaitForFirstConsumer")
    ):
        return
    else:
        cause, severity = "claim-unbound", "warning"
        sentence = f"the claim {name} waits for its volume"
        remedy = f"wait a minute; if it stays so, the provisioner of class {wanted} does not run: kubectl describe pvc {name}"
    yield Finding(
        cause=cause,
        sentence=sentence,
        remedy=remedy,
        severity=severity,
        evidence=(event_line(newest),) if newest else (),
    )


def _places(evidence: Evidence, found: Sequence[Object]) -> Iterator[str]:
    """Where the volumes of claims are, by claim."""
    for claim in found:
        volume = evidence.volume_of(claim) or {}
        required = (volume.get("spec", {}).get("nodeAffinity") or {}).get("required") or {}
        for term in required.get("nodeSelectorTerms") or ():
            for one in term.get("matchExpressions") or ():
                where = f"{one['key']} {'|'.join(one.get('values') or ())}"
                yield f"the volume of claim {claim['metadata']['name']} is in {where}"
