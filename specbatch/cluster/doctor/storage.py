"""Storage classes, and the claims that runs usually have."""

from __future__ import annotations

from collections.abc import Iterator

from specbatch.cluster.client.kinds import CLAIMS, STORAGE_CLASSES, Object
from specbatch.cluster.diagnose.amounts import listed
from specbatch.cluster.doctor.checkup import Result, Visit

_DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
_USUAL = ("specbatch-results", "specbatch-models")


def check_classes(visit: Visit) -> Iterator[Result]:
    """Which there are, and the default one."""
    classes = visit.cluster.list(STORAGE_CLASSES)
    names = [str(one["metadata"]["name"]) for one in classes]
    default = [str(one["metadata"]["name"]) for one in classes if _is_default(one)]
    if not classes:
        yield Result(
            "storage classes",
            "warning",
            "there is none",
            "claims need volumes that an admin makes by hand; or publish results to object storage (results.publish)",
        )
    elif not default:
        yield Result(
            "storage classes",
            "warning",
            f"{listed(names)}; none is the default",
            "name one in every claim: storageClassName",
        )
    else:
        yield Result("storage classes", "ok", f"{listed(names)}; default {listed(default)}")


def check_usual_claims(visit: Visit) -> Iterator[Result]:
    """The claims of the examples; a spec's own are checked with the spec."""
    found = {str(claim["metadata"]["name"]): claim for claim in visit.cluster.list(CLAIMS)}
    missing = [name for name in _USUAL if name not in found]
    for name in _USUAL:
        if name in found:
            yield _of(found[name])
    if missing and len(missing) == len(_USUAL) and found:
        yield Result(
            "claims", "ok", f"there are {listed(sorted(found))} (none of the usual names: {', '.join(_USUAL)})"
        )
    elif missing:
        yield Result(
            "claims",
            "warning",
            f"there is no {' and no '.join(missing)}",
            "kubectl apply -k k8s/ makes them; or name your own in spec.job.volumes",
        )


def _of(claim: Object) -> Result:
    name, spec = claim["metadata"]["name"], claim.get("spec") or {}
    phase = (claim.get("status") or {}).get("phase", "?")
    modes = ", ".join(spec.get("accessModes") or ())
    size = ((claim.get("status") or {}).get("capacity") or {}).get("storage") or ""
    if "deletionTimestamp" in claim["metadata"]:
        return Result(f"claim {name}", "warning", "is being deleted", "wait until it is gone, and create it again")
    if phase == "Bound":
        return Result(f"claim {name}", "ok", f"bound, {modes}{f', {size}' if size else ''}")
    if phase == "Pending":
        return Result(
            f"claim {name}",
            "ok",
            f"not bound yet ({modes}): normal where its class waits for the first pod",
            f"if a pod waits for it: kubectl describe pvc {name}",
        )
    return Result(f"claim {name}", "failed", f"is {phase}", "restore its volume, or make the claim anew")


def _is_default(storage_class: Object) -> bool:
    return (storage_class["metadata"].get("annotations") or {}).get(_DEFAULT_CLASS) == "true"
