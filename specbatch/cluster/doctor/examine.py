"""All checks in their order. Where the API server does not answer, no other check is made."""

from __future__ import annotations

from specbatch.cluster.doctor.access import check_permissions
from specbatch.cluster.doctor.api import check_api, check_clock, check_versions
from specbatch.cluster.doctor.checkup import Check, Result, Visit, failed, look
from specbatch.cluster.doctor.hardware import check_nodes
from specbatch.cluster.doctor.image import check_image
from specbatch.cluster.doctor.namespace import check_namespace, check_queues, check_quotas
from specbatch.cluster.doctor.spec import check_spec
from specbatch.cluster.doctor.storage import check_classes, check_usual_claims

_FIRST: list[tuple[str, Check]] = [("versions", check_versions), ("api", check_api)]
_OTHERS: list[tuple[str, Check]] = [
    ("clock", check_clock),
    ("namespace", check_namespace),
    ("permissions", check_permissions),
    ("nodes", check_nodes),
    ("storage classes", check_classes),
    ("claims", check_usual_claims),
    ("quotas", check_quotas),
    ("queues", check_queues),
    ("image", check_image),
    ("spec", check_spec),
]


def examine(visit: Visit) -> list[Result]:
    """The results of every check."""
    found = look(visit, _FIRST)
    if failed(found) and not any(result.check == "api" and result.outcome == "ok" for result in found):
        return [*found, *(Result(name, "not checked", "the API server does not answer") for name, _ in _OTHERS)]
    return [*found, *look(visit, _OTHERS)]
