"""What job.podTemplate may not do unless job.allowPrivilegedPodTemplate says so: name Secrets or service accounts, reach the node.

A pod runs with the rights of its namespace, so whoever runs a spec of somebody else's must see at a glance that it asks for more than the
fields of `job` give. Helm's chart walks the same tables.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from specbatch.api.job import SpecBatchJob
from specbatch.api.paths import Path, path_text
from specbatch.api.rules.rule import rule
from specbatch.errors import Problem

_SWITCH = "set job.allowPrivilegedPodTemplate: true"
PRIVILEGES: Mapping[str, tuple[str, str]] = {
    "secret": ("names a Secret", f"use job.secretEnv, job.secretEnvFrom or job.imagePullSecrets; or {_SWITCH}"),
    "account": ("names a service account", f"use job.serviceAccountName; or {_SWITCH}"),
    "node": ("gives the pod access to its node", f"leave it out; or {_SWITCH}"),
}
PRIVILEGED_FIELDS: Mapping[str, str] = {
    **dict.fromkeys(("secret", "secretName", "secretRef", "secretKeyRef", "nodePublishSecretRef"), "secret"),
    **dict.fromkeys(("imagePullSecrets", "csi", "flexVolume"), "secret"),  # drivers may be those of secret stores
    **dict.fromkeys(
        ("serviceAccount", "serviceAccountName", "serviceAccountToken", "automountServiceAccountToken"), "account"
    ),
    **dict.fromkeys(("hostNetwork", "hostPID", "hostIPC", "hostPath", "hostPort", "hostProcess"), "node"),
    **dict.fromkeys(("privileged", "allowPrivilegeEscalation", "add"), "node"),  # add: capabilities
}
"""Field of a pod's spec, at any depth -> what it gives, where it is set to something."""
PRIVILEGED_VALUES = ("Unconfined", "Unmasked", "Bidirectional")
"""Of seccompProfile and appArmorProfile, procMount, mountPropagation."""
FREE_MAPS = ("nodeSelector", "affinity", "labels", "annotations", "matchLabels", "requests", "limits", "overhead")
"""Maps whose keys are anybody's words, and no fields."""


@rule("job.podTemplate", "job.allowPrivilegedPodTemplate")
def _pod_template_takes_no_privileges(job: SpecBatchJob) -> Iterator[Problem]:
    section = job.spec.job
    if not section.allow_privileged_pod_template:
        for path, kind in _privileges(section.pod_template.get("spec"), ("spec", "job", "podTemplate", "spec")):
            message, remedy = PRIVILEGES[kind]
            yield Problem(path_text(path), message, remedy)


def _privileges(value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    """The path of everything privileged below a part of a pod's spec, and what it gives."""
    if isinstance(value, dict):
        for name, part in value.items():
            kind = PRIVILEGED_FIELDS.get(name)
            removed = name == "automountServiceAccountToken" and part is None  # with it our `false`
            if kind is not None and (part or removed):
                yield (*path, name), kind
            elif name not in FREE_MAPS:
                yield from _privileges(part, (*path, name))
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from _privileges(part, (*path, index))
    elif value in PRIVILEGED_VALUES and path[-1] in {"type", "procMount", "mountPropagation"}:
        yield path, "node"
