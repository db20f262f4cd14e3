"""Claims and their volumes: missing, without a volume, out of reach, in use elsewhere, or not for all pods at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from specbatch.api.hints.nearest import nearest
from specbatch.cluster.client.kinds import CLAIMS, STORAGE_CLASSES, VOLUMES, Object
from specbatch.cluster.diagnose.evidence import Evidence
from specbatch.cluster.diagnose.finding import Cause, Finding, Said, by_name, listed
from specbatch.cluster.diagnose.rules.scheduling import scheduler_says
from specbatch.cluster.status.pod_state import node_of

_ANEW = "delete the claim and make it anew with a class that exists{known}"
# Of a claim without a volume, by its newest event.
_PENDING = (
    Cause("storage-class-missing", r"storageclass.*not found",
        "the claim {name} asks for storage class {wanted}, which does not exist", _ANEW),
    Cause("provisioning-failed", r"^ProvisioningFailed: (?P<text>.*)", "no volume can be made for claim {name}: {text}",
        "the provisioner of storage class {wanted} says why; a claim of another class or size may do{known}"),
    Cause("no-default-storage-class", r"^FailedBinding:.*no storage class is set",
        "the claim {name} names no storage class, and there was no default one when it was made", _ANEW),
    Cause("claim-unbound", "", "the claim {name} waits for its volume",
        "wait a minute; if it stays so, the provisioner of class {wanted} does not run: {kubectl} describe pvc {name}", "warning"),
)  # fmt: skip
_CAUSES = by_name(
    *_PENDING,
    Cause("claim-missing", "", "the claim {name} does not exist in namespace {namespace}",
        "{known}create it ({kubectl_all} apply -k k8s/ makes specbatch-results and specbatch-models): the pods then start by themselves"),
    Cause("claim-deleting", "", "the claim {name} is being deleted, and takes no new pods",
        "wait until it is gone (a pod that still uses it holds it), then create it again"),
    Cause("volume-lost", r"non-existent pv", "the volume of claim {name} is gone",
        "make the claim anew (what was on the volume is gone unless its storage has it), then submit again"),
    Cause("claim-not-shared", "", "the claim {name} is {mode}: of {at_once} pods at once {limit}",
        "use a claim with ReadWriteMany to spread them over nodes, or set job.parallelism to 1", "warning"),
    Cause("results-not-kept", "", "the volume of the results is {kind}: {lost}",
        "use claimName: NAME (a PersistentVolumeClaim) in spec.job.volumes.results", "warning"),
)  # fmt: skip
# What the scheduler says of volumes: of nodes that have room, and of no others.
_SCHEDULER = (
    Cause("claim-unbound", r"unbound (immediate )?PersistentVolumeClaims",
        "a claim of the pod is not bound to a volume yet ({name})",
        "see {kubectl} get pvc, and {kubectl} describe pvc for the reason"),
    Cause("volume-elsewhere", r"volume node affinity conflict|PersistentVolume's node affinity|no available volume zone",
        "the volume of a claim can be reached from some nodes only, and none of those takes the pod",
        "take nodes of the volume's zone (spec.job.nodeSelector: {{topology.kubernetes.io/zone: ...}}), or a claim whose storage class reaches every node (RWX) or binds late (volumeBindingMode: WaitForFirstConsumer)"),
    Cause("claim-in-use", r"ReadWriteOncePod",
        "a claim of the pod is in use by a pod elsewhere (ReadWriteOncePod: one pod at a time may use it)",
        "end the other pod, or set job.parallelism: 1; for several shards at once take a ReadWriteMany claim"),
    _CAUSES["volume-lost"],
    Cause("no-volume", r"find available persistent volumes to bind|enough free storage",
        "no volume can be had for a claim of the pod on the nodes that would do",
        "ask an admin for a PersistentVolume of that size and class, or for a class with a provisioner"),
)  # fmt: skip


def claims(evidence: Evidence, pod: Object) -> Iterator[Finding]:
    """Claims that keep a pod from every node. They come before the scheduler, which cannot place a pod without them."""
    names = [] if node_of(pod) else claim_names(pod["spec"])
    said = scheduler_says(evidence, pod)
    there = evidence.by_name(CLAIMS) if names else {}
    for name in names:
        claim = there.get(name, {})
        metadata, phase = claim.get("metadata") or {}, (claim.get("status") or {}).get("phase")
        deleted = metadata.get("deletionTimestamp")
        if evidence.lacks(CLAIMS, name) or f'claim "{name}" not found' in said.text:
            guess = nearest(name, sorted({*there} - {*names}))
            known = f"did you mean {guess}? " if guess else ""
            known += f"there is: {listed(sorted(there))}; or " if there else ""
            yield evidence.found(_CAUSES["claim-missing"], name=name, known=known).seen([said.line], said.since)
        elif deleted or f'claim "{name}" is being deleted' in said.text:
            yield evidence.found(_CAUSES["claim-deleting"], name=name).seen([said.line], deleted)
        elif phase == "Lost":
            yield evidence.found(_CAUSES["volume-lost"], name=name).seen([said.line], metadata.get("creationTimestamp"))
        elif phase == "Pending" and (finding := _unbound(evidence, claim, said)):
            yield finding.seen([said.line], metadata.get("creationTimestamp"))
    if names and (finding := evidence.recognise(_SCHEDULER, said, name=listed(names))):
        elsewhere = finding.cause == "volume-elsewhere"
        yield finding.seen(line for name in names if elsewhere for line in _places(evidence, there.get(name, {})))


def access_modes(evidence: Evidence, pod: Object) -> Iterator[Finding]:
    """Claims that not all pods can use at once."""
    job = evidence.view.job["spec"]
    at_once = min(job.get("parallelism") or evidence.view.completions, evidence.view.completions)
    for name in claim_names(pod["spec"]) if at_once > 1 else ():
        modes = (evidence.by_name(CLAIMS).get(name, {}).get("spec") or {}).get("accessModes") or []
        if "ReadWriteOncePod" in modes or modes == ["ReadWriteOnce"]:
            limit = "one will run at a time" if "ReadWriteOncePod" in modes else "all must run on one node"
            fields = {"name": name, "mode": modes[0], "at_once": at_once, "limit": limit}
            yield evidence.found(_CAUSES["claim-not-shared"], **fields)


def results_volume(evidence: Evidence, _: Object) -> Iterator[Finding]:
    """Results on a volume that does not outlive its pod, or that other nodes do not have."""
    volume = ((evidence.spec.get("job") or {}).get("volumes") or {}).get("results") or {}
    lost = "the results are lost with the pod"
    if (evidence.spec.get("results") or {}).get("publish"):
        lost = "a pod that is replaced begins its shard again"
    if "emptyDir" in volume:
        yield evidence.found(_CAUSES["results-not-kept"], kind="an emptyDir", lost=lost)
    elif "hostPath" in volume:
        lost = "every node has a folder of its own, and a pod that moves begins its shard again"
        yield evidence.found(_CAUSES["results-not-kept"], kind="a hostPath", lost=lost)


def claim_names(spec: Object) -> list[str]:
    """The claims that a pod's spec mounts."""
    mounted = (volume.get("persistentVolumeClaim") for volume in spec.get("volumes") or ())
    return list(dict.fromkeys(claim["claimName"] for claim in mounted if claim))


def _unbound(evidence: Evidence, claim: Object, said: Said) -> Finding | None:
    """Why a claim has no volume. One that is bound when its first pod comes is no cause: the scheduler then speaks of something else."""
    wanted, classes = (claim.get("spec") or {}).get("storageClassName") or "", evidence.by_name(STORAGE_CLASSES)
    newest = evidence.said_of(claim, "ProvisioningFailed", "ExternalProvisioning", "Provisioning", "FailedBinding")
    first = next(iter(sorted(newest, key=lambda one: one.reason != "ProvisioningFailed")), Said(""))
    late = classes.get(wanted, {}).get("volumeBindingMode") == "WaitForFirstConsumer"
    late = late or bool(evidence.said_of(claim, "WaitForFirstConsumer"))
    known = f": {listed(sorted(classes))}" if classes else f" ({evidence.words['kubectl_all']} get storageclass)"
    fields = {"name": claim["metadata"]["name"], "wanted": wanted, "known": known}
    if wanted and evidence.every(STORAGE_CLASSES) is not None and wanted not in classes:
        first = replace(first, text=f"{first.text} storageclass {wanted} not found")
    elif not newest and (late or (said.text and "PersistentVolumeClaim" not in said.text)):
        return None
    return evidence.recognise(_PENDING, first, **fields)


def _places(evidence: Evidence, claim: Object) -> Iterator[str]:
    """Where the volume of a claim is."""
    name = (claim.get("spec") or {}).get("volumeName")
    volume = (evidence.find(VOLUMES, name) if name else None) or {}
    required = ((volume.get("spec") or {}).get("nodeAffinity") or {}).get("required") or {}
    for term in required.get("nodeSelectorTerms") or ():
        for one in term.get("matchExpressions") or ():
            yield f"the volume of claim {claim['metadata']['name']} is in {one['key']} {'|'.join(one.get('values') or ())}"
