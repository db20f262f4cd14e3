"""The volumes of a Job, as the cluster has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from specbatch.cluster.client.kinds import CLAIMS, STORAGE_CLASSES, Object
from specbatch.cluster.preflight.findings import Case, Finding, error, warning
from specbatch.errors import ClusterError


def check_claims(case: Case) -> Iterator[Finding]:
    """Every PersistentVolumeClaim that the pods mount."""
    names = _claims(case.pod)
    found = {str(claim["metadata"]["name"]): claim for claim in case.cluster.list(CLAIMS)} if names else {}
    for name, volume in names.items():
        subject = f"PersistentVolumeClaim {name} (volume {volume})"
        if name not in found:
            there = f"there are: {', '.join(sorted(found))}; or " if found else ""
            yield error(
                subject, f"does not exist in {case.namespace}", f"{there}create it: k8s/claims.yaml is an example"
            )
        else:
            yield from _problems(case, subject, found[name])


def check_results(case: Case) -> Iterator[Finding]:
    """Results on a volume that lives as long as its pod."""
    volume, publish = case.job.spec.job.volumes.results, case.job.spec.results.publish
    if volume is not None and volume.empty_dir is not None:
        lost = "a pod that is replaced begins its shard again" if publish else "the results are lost with the pod"
        yield warning("job.volumes.results", f"is an emptyDir: {lost}", "use claimName: NAME (a PersistentVolumeClaim)")
    elif volume is not None and volume.host_path is not None:
        yield warning(
            "job.volumes.results",
            "is a hostPath: every node has a folder of its own, and a pod that moves begins its shard again",
            "use claimName: NAME (a PersistentVolumeClaim)",
        )


def _problems(case: Case, subject: str, claim: Object) -> Iterator[Finding]:
    phase = (claim.get("status") or {}).get("phase")
    modes = (claim.get("spec") or {}).get("accessModes") or []
    if "deletionTimestamp" in claim["metadata"]:
        yield error(subject, "is being deleted", "wait until it is gone, and create it again")
    elif phase == "Lost":
        yield error(subject, "has lost its volume", "restore the volume, or take another claim")
    elif phase == "Pending" and not _waits_for_a_pod(case, claim):
        yield warning(
            subject,
            "is not bound to a volume yet",
            f"kubectl describe pvc {claim['metadata']['name']} says why; no trouble where its class waits for the first pod",
        )
    if case.at_once > 1 and "ReadWriteOncePod" in modes:
        yield warning(
            subject,
            f"is ReadWriteOncePod: of {case.at_once} pods at once one will run",
            "use a claim with ReadWriteMany, or set job.parallelism to 1",
        )
    elif case.at_once > 1 and modes == ["ReadWriteOnce"]:
        yield warning(
            subject,
            f"is ReadWriteOnce: all {case.at_once} pods must run on one node",
            "use a claim with ReadWriteMany to spread them over nodes",
        )


def _waits_for_a_pod(case: Case, claim: Object) -> bool:
    """Whether its storage class binds it when the first pod comes; False where that cannot be read."""
    name = (claim.get("spec") or {}).get("storageClassName")
    try:
        storage = case.cluster.find(STORAGE_CLASSES, name) if name else None
    except ClusterError as problem:
        if problem.status != 403:
            raise
        return False
    return storage is not None and storage.get("volumeBindingMode") == "WaitForFirstConsumer"


def _claims(pod: Object) -> Mapping[str, str]:
    """The claims by name, each with the volume that is made of it."""
    volumes = pod.get("volumes") or ()
    return {
        str(volume["persistentVolumeClaim"]["claimName"]): str(volume["name"])
        for volume in volumes
        if "persistentVolumeClaim" in volume
    }
