"""Claims and their volumes: missing, unbound, in another zone, in use elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator

from specbatch.api.hints import nearest
from specbatch.cluster.client.kinds import Object
from specbatch.cluster.diagnose.amounts import listed
from specbatch.cluster.diagnose.evidence import Evidence, claim_names
from specbatch.cluster.diagnose.finding import Finding
from specbatch.cluster.diagnose.scheduling import scheduler_says
from specbatch.cluster.jobs.timestamps import event_line

_NOT_FOUND = re.compile(r'persistentvolumeclaim "([^"]+)" not found')
_DELETED = re.compile(r'persistentvolumeclaim "([^"]+)" is being deleted')
_DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"


def claim_problem(evidence: Evidence, pod: Object) -> Finding | None:
    """What keeps a pod without a node waiting, where it is a claim."""
    if pod["spec"].get("nodeName"):
        return None
    message, since = scheduler_says(evidence, pod)
    said = (f"pod {pod['metadata']['name']}: {message.text}",) if message.text else ()
    missing = _NOT_FOUND.search(message.text)
    for name in claim_names(pod["spec"]):
        if (missing and missing[1] == name) or (name in evidence.claims and evidence.claims[name] is None):
            return _missing(evidence, name, said, since)
    for name in claim_names(pod["spec"]):
        claim = evidence.claims.get(name)
        if claim is not None:
            finding = _unusable(evidence, claim, said, message.text)
            if finding is not None:
                return finding
    if message.says("unbound immediate PersistentVolumeClaims", "unbound PersistentVolumeClaims"):
        return Finding(
            cause="claim-unbound",
            sentence=f"a claim of the pod is not bound to a volume yet ({listed(claim_names(pod['spec']))})",
            remedy="see kubectl get pvc, and kubectl describe pvc for the reason",
            evidence=said,
            since=since,
        )
    return None


def volume_problem(evidence: Evidence, pod: Object) -> Finding | None:
    """A bound volume that lies where the pod cannot be: the scheduler says so of nodes that have room, and of no others."""
    if pod["spec"].get("nodeName"):
        return None
    message, since = scheduler_says(evidence, pod)
    said = (f"pod {pod['metadata']['name']}: {message.text}",)
    if message.says("volume node affinity conflict", "PersistentVolume's node affinity", "no available volume zone"):
        where = list(_where(evidence))
        return Finding(
            cause="volume-elsewhere",
            sentence="the volume of a claim can be reached from some nodes only, and none of those takes the pod"
            + (f" ({listed(where)})" if where else ""),
            remedy="take nodes of the volume's zone (spec.job.nodeSelector: {topology.kubernetes.io/zone: ...}), or a claim whose storage "
            "class reaches every node (RWX) or binds late (volumeBindingMode: WaitForFirstConsumer)",
            evidence=said,
            since=since,
        )
    if message.says("ReadWriteOncePod"):
        return _in_use(said, since, "ReadWriteOncePod: one pod at a time may use it")
    if message.says("non-existent pv"):
        return Finding(
            cause="volume-lost",
            sentence="a claim of the pod is bound to a volume that is gone",
            remedy="make the claim anew (what was on the volume is gone unless its storage has it), then submit again",
            evidence=said,
            since=since,
        )
    if message.says("find available persistent volumes to bind", "enough free storage", "no available disk"):
        return Finding(
            cause="no-volume",
            sentence="no volume can be had for a claim of the pod on the nodes that would do",
            remedy="ask an admin for a PersistentVolume of that size and class, or for a class with a provisioner",
            evidence=said,
            since=since,
        )
    return None


def in_use_elsewhere(evidence: Evidence, pod: Object) -> Finding | None:
    """Multi-Attach: the pod has a node, but a volume hangs on another one."""
    event = evidence.newest(pod, "FailedAttachVolume")
    if event is None or "Multi-Attach error" not in str(event.get("message", "")):
        return None
    return _in_use((event_line(event),), event.get("firstTimestamp"), "ReadWriteOnce: one node at a time may use it")


def _in_use(said: tuple[str, ...], since: str | None, mode: str) -> Finding:
    return Finding(
        cause="claim-in-use",
        sentence=f"a claim of the pod is in use by a pod elsewhere ({mode})",
        remedy="end the other pod (of a node that is lost: kubectl delete pod --force, once the node is surely off); for several shards on "
        "several nodes take a ReadWriteMany claim, or job.parallelism: 1",
        evidence=said,
        since=since,
    )


def _missing(evidence: Evidence, name: str, said: tuple[str, ...], since: str | None) -> Finding:
    there = [known for known, claim in evidence.claims.items() if claim is not None]
    guess = nearest(name, there)
    meant = f"did you mean {guess}? (there is: {listed(there)}); otherwise " if guess else ""
    return Finding(
        cause="claim-missing",
        sentence=f"the claim {name}, which the spec mounts, does not exist in namespace {evidence.view.namespace}",
        remedy=f"{meant}create it (kubectl apply -k k8s/ makes specbatch-results and specbatch-models): the pods then start by themselves",
        evidence=said,
        since=since,
    )


def _unusable(evidence: Evidence, claim: Object, said: tuple[str, ...], message: str) -> Finding | None:
    name, since = claim["metadata"]["name"], claim["metadata"].get("creationTimestamp")
    phase = claim.get("status", {}).get("phase")
    deleted = _DELETED.search(message)
    if claim["metadata"].get("deletionTimestamp") or (deleted and deleted[1] == name):
        return Finding(
            cause="claim-deleting",
            sentence=f"the claim {name} is being deleted, and takes no new pods",
            remedy="wait until it is gone (a pod that still uses it holds it), then create it again",
            evidence=said,
            since=claim["metadata"].get("deletionTimestamp"),
        )
    if phase == "Lost":
        return Finding(
            cause="volume-lost",
            sentence=f"the volume of claim {name} is gone",
            remedy="make the claim anew (what was on the volume is gone unless its storage has it), then submit again",
            evidence=said,
            since=since,
        )
    return _unbound(evidence, claim, said, since) if phase == "Pending" else None


def _unbound(  # noqa: PLR0911 - a cause a return
    evidence: Evidence, claim: Object, said: tuple[str, ...], since: str | None
) -> Finding | None:
    """WaitForFirstConsumer is no reason: such a claim waits for the pod, not the pod for the claim."""
    name, wanted = claim["metadata"]["name"], claim.get("spec", {}).get("storageClassName")
    failed = evidence.newest(claim, "ProvisioningFailed")
    if failed is not None:
        text = str(failed.get("message", ""))
        if "storageclass" in text and "not found" in text:
            return _class_missing(evidence, name, wanted, (event_line(failed), *said), since)
        return Finding(
            cause="provisioning-failed",
            sentence=f"no volume can be made for claim {name}: {text}",
            remedy=f"the provisioner of storage class {wanted} says why; a claim of another class or size may do (kubectl get storageclass)",
            evidence=(event_line(failed), *said),
            since=since,
        )
    if wanted and evidence.classes is not None and wanted not in _names(evidence):
        return _class_missing(evidence, name, wanted, said, since)
    binding = evidence.newest(claim, "FailedBinding")
    if not wanted and binding is not None:
        default = [_name(one) for one in evidence.classes or () if _is_default(one)]
        known = _names(evidence)
        return Finding(
            cause="no-default-storage-class",
            sentence=f"the claim {name} names no storage class, and the cluster has no default one"
            if not default
            else f"the claim {name} names no storage class, and was made before there was a default one",
            remedy=f"delete the claim and make it anew with storageClassName{f': {listed(known)}' if known else ' (kubectl get storageclass)'}, "
            "or ask an admin for a default one",
            evidence=(event_line(binding), *said),
            since=since,
        )
    if (
        evidence.newest(claim, "WaitForFirstConsumer") is not None
        and evidence.newest(claim, "ExternalProvisioning", "Provisioning") is None
    ):
        return None
    waiting = evidence.newest(claim, "ExternalProvisioning", "Provisioning", "FailedBinding")
    if waiting is None:
        return None
    return Finding(
        cause="claim-unbound",
        sentence=f"the claim {name} waits for its volume",
        remedy=f"wait a minute; if it stays so, the provisioner of class {wanted} does not run: ask an admin",
        evidence=(event_line(waiting), *said),
        since=since,
        mood="waiting",
    )


def _class_missing(
    evidence: Evidence, name: str, wanted: str | None, said: tuple[str, ...], since: str | None
) -> Finding:
    known = _names(evidence)
    return Finding(
        cause="storage-class-missing",
        sentence=f"the claim {name} asks for storage class {wanted}, which does not exist",
        remedy=f"delete the claim and make it anew with a class that exists{f': {listed(known)}' if known else ' (kubectl get storageclass)'}",
        evidence=said,
        since=since,
    )


def _where(evidence: Evidence) -> Iterator[str]:
    """Where bound volumes are, by claim."""
    for name, volume in evidence.volumes.items():
        terms = ((volume.get("spec", {}).get("nodeAffinity") or {}).get("required") or {}).get(
            "nodeSelectorTerms"
        ) or ()
        places = [
            f"{expression['key']} {'|'.join(expression.get('values') or ())}"
            for term in terms
            for expression in term.get("matchExpressions") or ()
        ]
        if places:
            yield f"{name}: {', '.join(places)}"


def _names(evidence: Evidence) -> list[str]:
    return sorted(_name(one) for one in evidence.classes or ())


def _name(thing: Object) -> str:
    return str(thing["metadata"]["name"])


def _is_default(storage_class: Object) -> bool:
    return (storage_class["metadata"].get("annotations") or {}).get(_DEFAULT_CLASS) == "true"
