"""Claims and their volumes: missing, without a volume, out of reach, in use elsewhere, or not to be mounted."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from specbatch.api.hints.nearest import nearest
from specbatch.cluster.client.kinds import Object
from specbatch.cluster.diagnose.evidence import Evidence
from specbatch.cluster.diagnose.finding import Cause, Finding, by_name, recognise
from specbatch.cluster.diagnose.quantities import listed
from specbatch.cluster.diagnose.rules.references import missing_reference
from specbatch.cluster.diagnose.rules.scheduling import scheduler_says
from specbatch.cluster.jobs.timestamps import event_line, event_start
from specbatch.cluster.status.pod_state import node_of

_DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
_REASONS = ("FailedMount", "FailedAttachVolume", "FailedMapVolume")  # of events about volumes of a pod that has a node
_UNBOUND = "PersistentVolumeClaim"  # the scheduler names them where they keep a pod from its nodes
_IN_USE = (
    "end the other pod (of a node that is lost: kubectl delete pod --force, once the node is surely off); for several shards on "
    "several nodes take a ReadWriteMany claim, or job.parallelism: 1"
)
_ANEW = "delete the claim and make it anew with a class that exists{known}"
_CAUSES = by_name(
    Cause("claim-missing", "",
        "the claim {name} does not exist in namespace {namespace}",
        "{known}create it (kubectl apply -k k8s/ makes specbatch-results and specbatch-models): the pods then start by themselves"),
    Cause("claim-deleting", "",
        "the claim {name} is being deleted, and takes no new pods",
        "wait until it is gone (a pod that still uses it holds it), then create it again"),
    Cause("volume-lost", r"non-existent pv",
        "the volume of claim {name} is gone",
        "make the claim anew (what was on the volume is gone unless its storage has it), then submit again"),
    Cause("storage-class-missing", "", "the claim {name} asks for storage class {wanted}, which does not exist", _ANEW),
    Cause("no-default-storage-class", "",
        "the claim {name} names no storage class, and there was no default one when it was made", _ANEW),
    Cause("provisioning-failed", "",
        "no volume can be made for claim {name}: {text}",
        "the provisioner of storage class {wanted} says why; a claim of another class or size may do{known}"),
    Cause("claim-unbound", "",
        "the claim {name} waits for its volume",
        "wait a minute; if it stays so, the provisioner of class {wanted} does not run: kubectl describe pvc {name}", "warning"),
    Cause("claim-not-shared", "",
        "the claim {name} is {mode}: of {at_once} pods at once {limit}",
        "use a claim with ReadWriteMany to spread them over nodes, or set job.parallelism to 1", "warning"),
    Cause("results-not-kept", "",
        "the volume of the results is {kind}: {lost}",
        "use claimName: NAME (a PersistentVolumeClaim) in spec.job.volumes.results", "warning"),
)  # fmt: skip

# What the scheduler says of volumes: of nodes that have room, and of no others.
_SCHEDULER = (
    Cause("claim-unbound", r"unbound (immediate )?PersistentVolumeClaims",
        "a claim of the pod is not bound to a volume yet ({name})",
        "see kubectl get pvc, and kubectl describe pvc for the reason"),
    Cause("volume-elsewhere", r"volume node affinity conflict|PersistentVolume's node affinity|no available volume zone",
        "the volume of a claim can be reached from some nodes only, and none of those takes the pod",
        "take nodes of the volume's zone (spec.job.nodeSelector: {{topology.kubernetes.io/zone: ...}}), or a claim whose storage class reaches every node (RWX) or binds late (volumeBindingMode: WaitForFirstConsumer)"),
    Cause("claim-in-use", r"ReadWriteOncePod",
        "a claim of the pod is in use by a pod elsewhere (ReadWriteOncePod: one pod at a time may use it)",
        _IN_USE),
    _CAUSES["volume-lost"],
    Cause("no-volume", r"find available persistent volumes to bind|enough free storage",
        "no volume can be had for a claim of the pod on the nodes that would do",
        "ask an admin for a PersistentVolume of that size and class, or for a class with a provisioner"),
)  # fmt: skip

# What the kubelet and the attach controller say of them.
_MOUNTS = (
    Cause("claim-in-use", r"Multi-Attach error",
        "a claim of the pod is in use by a pod elsewhere (ReadWriteOnce: one node at a time may use it)",
        _IN_USE),
    Cause("host-path-missing", r'volume "(?P<volume>[^"]+)".*hostPath type check failed: (?P<what>.*)',
        "the folder that volume {volume} names is not on the node: {what}",
        "make the folder on every node that may be used, or take a claim instead of hostPath in spec.job.volumes"),
    Cause("csi-driver-missing", r'volume "(?P<volume>[^"]+)".*driver name (?P<driver>\S+) not found in the list of registered CSI drivers',
        "the node does not run the CSI driver {driver} that volume {volume} needs",
        "ask an admin to install it on that node, or take other nodes by spec.job.nodeSelector"),
    Cause("mount-timeout", r"(unmounted volumes=\[(?P<volumes>[^\]]*)\].*)?(timed out|deadline ?exceeded)",
        "mounting {volumes} takes longer than the kubelet waits",
        "can the node reach the storage (NFS server, network, firewall)? it tries again by itself; ask an admin if it stays so"),
    Cause("mount-failed", r'(.*volume "(?P<volume>[^"]+)")?',
        "the volume {volume} cannot be attached or mounted",
        "the message below names what the storage refuses: check the claim and its server, or ask an admin"),
)  # fmt: skip


def claims(evidence: Evidence, pod: Object) -> Iterator[Finding]:
    """Claims that keep a pod from every node. They come before the scheduler, which cannot place a pod without them."""
    if node_of(pod):
        return
    message, since = scheduler_says(evidence, pod)
    said = (f"pod {pod['metadata']['name']}: {message}",) if message else ()
    names = claim_names(pod["spec"])
    there = evidence.claims if names else None
    for name in names:
        if (there is not None and name not in there) or f'claim "{name}" not found' in message:
            yield _missing(evidence, name, names).seen(said, since)
    found = [claim for claim in map((there or {}).get, names) if claim]
    for claim in found:
        yield from (finding.seen(said) for finding in _unusable(evidence, claim, message))
    if finding := recognise(_SCHEDULER, message, name=listed(names)):
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
            yield _CAUSES["claim-not-shared"].finding(name=name, mode=modes[0], at_once=at_once, limit=limit)


def results_volume(evidence: Evidence, _: Object) -> Iterator[Finding]:
    """Results on a volume that does not outlive its pod, or that other nodes do not have."""
    volume = ((evidence.spec.get("job") or {}).get("volumes") or {}).get("results") or {}
    published = (evidence.spec.get("results") or {}).get("publish")
    if "emptyDir" in volume:
        lost = "a pod that is replaced begins its shard again" if published else "the results are lost with the pod"
        yield _CAUSES["results-not-kept"].finding(kind="an emptyDir", lost=lost)
    elif "hostPath" in volume:
        lost = "every node has a folder of its own, and a pod that moves begins its shard again"
        yield _CAUSES["results-not-kept"].finding(kind="a hostPath", lost=lost)


def mounts(evidence: Evidence, pod: Object) -> Iterator[Finding]:
    """What keeps a pod's volumes away, by the newest words of the kubelet and of the attach controller."""
    if (pod.get("status") or {}).get("phase") != "Pending" or evidence.newest(
        pod, "Pulling", "Pulled", "Created", "Started"
    ):
        return  # the kubelet has gone on to the image since
    events = [(one, " ".join(str(one.get("message") or "").split())) for one in evidence.events_of(pod, *_REASONS)]
    # A timeout says only which volume is missing: an older event may say why.
    for event, message in sorted(events, key=lambda one: "timed out" in one[1]):
        if "failed to sync" not in message:
            finding = missing_reference(evidence, message) or recognise(_MOUNTS, message, volumes="the volumes")
            if finding is not None:
                yield finding.seen([event_line(event)], event_start(event))


def claim_names(spec: Object) -> list[str]:
    """The claims that a pod's spec mounts."""
    mounted = (volume.get("persistentVolumeClaim") for volume in spec.get("volumes") or ())
    return list(dict.fromkeys(claim["claimName"] for claim in mounted if claim))


def default_classes(classes: Sequence[Object]) -> list[str]:
    """The names of the storage classes that a claim gets which names none."""
    marked = [one for one in classes if (one["metadata"].get("annotations") or {}).get(_DEFAULT_CLASS) == "true"]
    return [str(one["metadata"]["name"]) for one in marked]


def _missing(evidence: Evidence, name: str, mounted: Sequence[str]) -> Finding:
    there = sorted(evidence.claims or ())
    guess = nearest(name, sorted({*there} - {*mounted}))
    known = (f"did you mean {guess}? " if guess else "") + (f"there is: {listed(there)}; or " if there else "")
    return _CAUSES["claim-missing"].finding(name=name, namespace=evidence.namespace_name, known=known)


def _unusable(evidence: Evidence, claim: Object, message: str) -> Iterator[Finding]:
    metadata, phase = claim["metadata"], claim.get("status", {}).get("phase")
    name, since = metadata["name"], metadata.get("creationTimestamp")
    if metadata.get("deletionTimestamp") or f'claim "{name}" is being deleted' in message:
        yield _CAUSES["claim-deleting"].finding(name=name).seen(since=metadata.get("deletionTimestamp"))
    elif phase == "Lost":
        yield _CAUSES["volume-lost"].finding(name=name).seen(since=since)
    elif phase == "Pending":
        yield from (finding.seen(since=since) for finding in _unbound(evidence, claim, message))


def _unbound(evidence: Evidence, claim: Object, message: str) -> Iterator[Finding]:
    """Why a claim has no volume. One that is bound when its first pod comes is no cause: the scheduler then speaks of something else."""
    name, wanted = claim["metadata"]["name"], claim.get("spec", {}).get("storageClassName")
    classes = {str(one["metadata"]["name"]): one for one in evidence.classes or ()}
    events = evidence.events_of(claim, "ExternalProvisioning", "Provisioning", "FailedBinding")
    newest: Object = evidence.newest(claim, "ProvisioningFailed") or next(iter(events), {})
    reason, text = newest.get("reason"), str(newest.get("message") or "")
    no_class = wanted and evidence.classes is not None and wanted not in classes
    late = classes.get(wanted, {}).get("volumeBindingMode") == "WaitForFirstConsumer"
    if no_class or re.search("storageclass.*not found", text):
        cause = "storage-class-missing"
    elif reason == "ProvisioningFailed":
        cause = "provisioning-failed"
    elif not wanted and reason == "FailedBinding":
        cause = "no-default-storage-class"
    elif not newest and (
        late or evidence.newest(claim, "WaitForFirstConsumer") or (message and _UNBOUND not in message)
    ):
        return
    else:
        cause = "claim-unbound"
    known = f": {listed(sorted(classes))}" if classes else " (kubectl get storageclass)"
    found = _CAUSES[cause].finding(name=name, wanted=wanted, text=text, known=known)
    yield found.seen([event_line(newest)] if newest else [])


def _places(evidence: Evidence, found: Sequence[Object]) -> Iterator[str]:
    """Where the volumes of claims are, by claim."""
    for claim in found:
        volume = evidence.volume_of(claim) or {}
        required = (volume.get("spec", {}).get("nodeAffinity") or {}).get("required") or {}
        for term in required.get("nodeSelectorTerms") or ():
            for one in term.get("matchExpressions") or ():
                where = f"{one['key']} {'|'.join(one.get('values') or ())}"
                yield f"the volume of claim {claim['metadata']['name']} is in {where}"
