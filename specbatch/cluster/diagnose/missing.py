"""Secrets and ConfigMaps that pods name, and that are not there; the kubelet says so in several ways."""

from __future__ import annotations

from specbatch.cluster.diagnose.evidence import Evidence
from specbatch.cluster.diagnose.finding import Finding
from specbatch.cluster.manifests.names import RUN


def secret_missing(name: str, evidence: tuple[str, ...], since: str | None) -> Finding:
    """A whole Secret."""
    return Finding(
        cause="secret-missing",
        sentence=f"the Secret {name}, which the spec names, does not exist",
        remedy=f"create it: kubectl create secret generic {name} --from-literal=KEY=VALUE (the pods then start by themselves); "
        "or correct its name in spec.job.secretEnv, secretEnvFrom or volumes",
        evidence=evidence,
        since=since,
    )


def secret_key_missing(key: str, name: str, evidence: tuple[str, ...], since: str | None) -> Finding:
    """A key of one that is there."""
    return Finding(
        cause="secret-key-missing",
        sentence=f"{name} has no key {key}",
        remedy="add the key, or correct spec.job.secretEnv to a key that it has "
        f"(kubectl describe {name.removeprefix('the ').lower()} lists them)",
        evidence=evidence,
        since=since,
    )


def config_map_missing(evidence: Evidence, name: str, lines: tuple[str, ...], since: str | None) -> Finding:
    """The Job's own, or one that spec.job.podTemplate names."""
    own = name == evidence.view.name and RUN in evidence.view.labels
    return Finding(
        cause="config-map-missing",
        sentence=f"the ConfigMap {name}, which holds the spec, is gone"
        if own
        else f"the ConfigMap {name} does not exist",
        remedy="specbatch submit FILE again puts it back" if own else "create it, or correct spec.job.podTemplate",
        evidence=lines,
        since=since,
    )
