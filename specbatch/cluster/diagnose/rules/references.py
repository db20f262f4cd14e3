"""Objects that a pod names: Secrets and ConfigMaps, which the kubelet misses, and the Job that fetches its models."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from specbatch.cluster.client.kinds import SECRETS, Object
from specbatch.cluster.diagnose.evidence import Evidence
from specbatch.cluster.diagnose.finding import Cause, Finding
from specbatch.cluster.jobs.job_view import JobView
from specbatch.cluster.jobs.lookup import find_jobs
from specbatch.cluster.manifests.fetch_job import fetch_run_name

_SECRET = Cause("secret-missing", r'secret "(?P<name>[^"]+)" not found',
    "the Secret {name}, which the spec names, does not exist in namespace {namespace}",
    "create it: {kubectl} create secret generic {name} --from-literal=KEY=VALUE (pods that wait for it then start by themselves); or correct its name in spec.job.secretEnv, secretEnvFrom or volumes")  # fmt: skip
_KEY = Cause("secret-key-missing", r"couldn't find key (?P<key>\S+) in (?P<kind>Secret|ConfigMap) [^/\s]+/(?P<name>[^\s,]+)",
    "the {kind} {name} has no key {key}",
    "add the key, or correct spec.job.secretEnv to a key that it has ({has})")  # fmt: skip
OWN_CONFIG_MAP = Cause("config-map-missing", "", "the ConfigMap {name}, which holds the spec, is gone",
    "specbatch submit FILE again puts it back")  # fmt: skip
REFERENCES = (
    _SECRET,
    _KEY,
    Cause("secret-key-missing", r'volume "(?P<volume>[^"]+)" : references non-existent (?P<kind>secret|config) key:? (?P<key>\S+)',
        "the {kind} of volume {volume} has no key {key}",
        "add the key, or correct spec.job.podTemplate to a key that it has"),
    Cause("config-map-missing", r'configmap "(?P<name>[^"]+)" not found', "the ConfigMap {name} does not exist",
        "create it, or correct spec.job.podTemplate"),
)  # fmt: skip
_FETCHING = Cause("models-not-fetched", "",
    "Job {name} still fetches the models: pods that start before it has ended find them incomplete, and end with 66",
    "wait for it: {wait}", "warning")  # fmt: skip
_NOT_FETCHED = Cause("models-not-fetched", "", "Job {name} has failed to fetch the models",
    "{why} says why; then specbatch fetch again", "warning")  # fmt: skip

# The fields of a pod's spec, of its containers and volumes, that name a Secret.
_SECRETS = {"secretKeyRef", "secretRef", "secret", "nodePublishSecretRef", "imagePullSecrets"}


def secrets(evidence: Evidence, pod: Object) -> Iterator[Finding]:
    """Secrets of a pod that are missing, and keys. Values are never looked at."""
    wanted: dict[str, set[str]] = {}
    for name, key in _secrets(pod["spec"]):
        wanted.setdefault(name, set()).add(key)
    for name, keys in wanted.items():
        if evidence.lacks(SECRETS, name):
            yield evidence.found(_SECRET, name=name)
        elif secret := evidence.find(SECRETS, name):
            has = sorted({*(secret.get("data") or {}), *(secret.get("stringData") or {})})
            for key in sorted(keys - {"", *has}):
                yield evidence.found(_KEY, kind="Secret", name=name, key=key, has=f"it has: {', '.join(has) or 'none'}")


def models(evidence: Evidence, _: Object) -> Iterator[Finding]:
    """Whether the Job that fetches the models of a run whose pods ask no hub has ended well; without one, they came in another way."""
    cache = ((evidence.spec.get("job") or {}).get("volumes") or {}).get("modelCache") or {}
    run = fetch_run_name(evidence.view.run)
    newest = next(iter(find_jobs(evidence.cluster, run) if cache.get("readOnly") else ()), None)
    outcome = "complete" if newest is None else JobView(newest).outcome
    if newest is not None and outcome != "complete":
        flags = evidence.cluster.flags
        words = {verb: flags.command(verb, run) for verb in ("wait", "why")}
        cause = _NOT_FETCHED if outcome == "failed" else _FETCHING
        yield evidence.found(cause, name=newest["metadata"]["name"], **words)


def _secrets(value: Any, field: str = "") -> Iterator[tuple[str, str]]:
    """(Secret, key) of every reference that must be there; the key is empty for the whole Secret."""
    if isinstance(value, list):
        for item in value:
            yield from _secrets(item, field)
    elif isinstance(value, dict):
        name = value.get("secretName") or value.get("name")
        if field in _SECRETS and name and not value.get("optional"):
            yield str(name), str(value.get("key", ""))
        for inner, part in value.items():
            yield from _secrets(part, inner)
