"""The schema of the chart's own values: what it makes besides a run's Job and ConfigMap."""

from __future__ import annotations

from typing import Any


def _text(description: str, **more: Any) -> dict[str, Any]:
    return {"type": "string", "description": description, **more}


def _flag(description: str) -> dict[str, Any]:
    return {"type": "boolean", "description": description}


def _section(description: str, **fields: Any) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "description": description, "properties": fields}


def _list(description: str, items: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "array", "description": description, "items": items, **more}


def _claim(what: str, field: str) -> dict[str, Any]:
    modes = ["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"]
    return _section(
        f"A PersistentVolumeClaim for {what}.",
        create=_flag("Whether the chart makes it."),
        name=_text(f"Its name. Empty: the claimName of spec.job.volumes.{field}."),
        size=_text("Its size, such as 100Gi."),
        storageClassName=_text("Its storage class. Empty: the cluster's default."),
        accessModes=_list("ReadWriteMany where pods run on several nodes.", {"enum": modes}, minItems=1),
        annotations={"type": "object", "description": "Its annotations.", "additionalProperties": {"type": "string"}},
    )


_PORT = {"type": "integer", "minimum": 1, "maximum": 65535}
_SUBJECT = {
    "type": "object",
    "additionalProperties": False,
    "required": ["kind", "name"],
    "properties": {
        "kind": {"enum": ["User", "Group", "ServiceAccount"]},
        "name": _text("Its name."),
        "namespace": _text("Of a ServiceAccount."),
    },
}

EXTRAS: dict[str, Any] = {
    "files": {
        "type": "object",
        "description": "The content of files that the spec names by relative paths, by path: --set-file 'files.my/prompts\\.jsonl=my/prompts.jsonl'.",
        "additionalProperties": {"type": "string"},
    },
    "filesBase64": {
        "type": "object",
        "description": "The same as base64 on one line, for files that are no plain text.",
        "additionalProperties": {"type": "string"},
    },
    "persistence": _section(
        "Claims that the chart makes; they stay when the release is uninstalled.",
        results=_claim("results", "results"),
        modelCache=_claim("models", "modelCache"),
    ),
    "localQueue": _section(
        "A LocalQueue of Kueue.",
        create=_flag("Whether the chart makes it."),
        name=_text("Its name. Empty: spec.job.queueName."),
        clusterQueue=_text("The ClusterQueue behind it."),
    ),
    "rbac": _section(
        "A Role with what specbatch's commands need, and who has it.",
        create=_flag("Whether the chart makes them."),
        subjects=_list("Users, groups and service accounts that may submit.", _SUBJECT),
    ),
    "networkPolicy": _section(
        "NetworkPolicies for the pods of runs and for those that fetch models: DNS and these ports out, nothing in, the cloud's metadata never.",
        create=_flag("Whether the chart makes them."),
        ports=_list("TCP ports that runs may reach anywhere: storage, proxies.", _PORT),
        fetchPorts=_list(
            "TCP ports that pods which fetch models may reach anywhere: the hub or its mirror, proxies.", _PORT
        ),
        egress=_list("Further egress rules, as in a NetworkPolicy; each names its destinations.", {"type": "object"}),
    ),
    "tests": _section(
        "helm test: two rows on the embedded pair, on the CPU.",
        enabled=_flag("Whether there are tests."),
        resources={"type": "object", "description": "Resources of its container."},
    ),
}
