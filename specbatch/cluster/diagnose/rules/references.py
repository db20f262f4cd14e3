"""Objects that a pod names: Secrets, ConfigMaps, its service account and classes. One that is missing is found before, or told by the kubelet."""

from __future__ import annotations

from collections.abc import Iterator

from specbatch.cluster.client.kinds import PRIORITY_CLASSES, RUNTIME_CLASSES, SECRETS, SERVICE_ACCOUNTS, Object
from specbatch.cluster.diagnose.evidence import Evidence
from specbatch.cluster.diagnose.finding import Cause, Finding, recognise
from specbatch.cluster.manifests.names import RUN

_SECRET = Cause("secret-missing", r'secret "(?P<name>[^"]+)" not found',
    "the Secret {name}, which the spec names, does not exist in namespace {namespace}",
    "create it: kubectl create secret generic {name} -n {namespace} --from-literal=KEY=VALUE (pods that wait for it then start by themselves); or correct its name in spec.job.secretEnv, secretEnvFrom or volumes")  # fmt: skip
_KEY = Cause("secret-key-missing", r"couldn't find key (?P<key>\S+) in (?P<kind>Secret|ConfigMap) [^/\s]+/(?P<name>[^\s,]+)",
    "the {kind} {name} has no key {key}",
    "add the key, or correct spec.job.secretEnv to a key that it has ({has})")  # fmt: skip
_MESSAGES = (
    _SECRET,
    _KEY,
    Cause("secret-key-missing", r'volume "(?P<volume>[^"]+)" : references non-existent (?P<kind>secret|config) key:? (?P<key>\S+)',
        "the {kind} of volume {volume} has no key {key}",
        "add the key, or correct spec.job.podTemplate to a key that it has"),
    Cause("config-map-missing", r'configmap "(?P<name>[^"]+)" not found',
        "the ConfigMap {name} does not exist",
        "create it, or correct spec.job.podTemplate"),
)  # fmt: skip
SERVICE_ACCOUNT = Cause("service-account-missing", r'serviceaccount "(?P<name>[^"]+)" not found',
    "the ServiceAccount {name} does not exist in namespace {namespace}",
    "create it (kubectl create serviceaccount {name} -n {namespace}), or correct spec.job.serviceAccountName")  # fmt: skip
PRIORITY_CLASS = Cause("priority-class-missing", r"no PriorityClass with name (?P<name>\S+) was found",
    "the PriorityClass {name} does not exist",
    "correct spec.job.priorityClassName (kubectl get priorityclasses), or leave it out")  # fmt: skip
RUNTIME_CLASS = Cause("runtime-class-missing", r'RuntimeClass "(?P<name>[^"]+)" not found',
    "the RuntimeClass {name} does not exist",
    "correct spec.job.runtimeClassName (kubectl get runtimeclasses), or leave it out")  # fmt: skip


def missing_reference(evidence: Evidence, message: str) -> Finding | None:
    """What the kubelet says of a Secret or ConfigMap that a pod names and that is not there, or lacks a key."""
    view = evidence.view
    if f'configmap "{view.name}" not found' in message and RUN in view.labels:
        return Finding(
            cause="config-map-missing",
            sentence=f"the ConfigMap {view.name}, which holds the spec, is gone",
            remedy="specbatch submit FILE again puts it back",
        )
    return recognise(_MESSAGES, message, namespace=evidence.namespace_name, has="kubectl describe lists them")


def secrets(evidence: Evidence, pod: Object) -> Iterator[Finding]:
    """Secrets of a pod that are missing, and keys. Values are never looked at."""
    for name, wanted in _secrets(pod["spec"]).items():
        secret = evidence.cluster.find(SECRETS, name)
        if secret is None:
            yield _SECRET.finding(name=name, namespace=evidence.namespace_name)
            continue
        has = sorted({*(secret.get("data") or {}), *(secret.get("stringData") or {})})
        for key in sorted(wanted - {"", *has}):
            yield _KEY.finding(kind="Secret", name=name, key=key, has=f"it has: {', '.join(has) or 'none'}")


def service_account(evidence: Evidence, pod: Object) -> Iterator[Finding]:
    """Of a pod."""
    name = pod["spec"].get("serviceAccountName")
    if name and evidence.cluster.find(SERVICE_ACCOUNTS, name) is None:
        yield SERVICE_ACCOUNT.finding(name=name, namespace=evidence.namespace_name)


def classes(evidence: Evidence, pod: Object) -> Iterator[Finding]:
    """The PriorityClass and the RuntimeClass of a pod."""
    priority, runtime = pod["spec"].get("priorityClassName"), pod["spec"].get("runtimeClassName")
    if priority and evidence.cluster.find(PRIORITY_CLASSES, priority) is None:
        yield PRIORITY_CLASS.finding(name=priority)
    if runtime and evidence.cluster.find(RUNTIME_CLASSES, runtime) is None:
        yield RUNTIME_CLASS.finding(name=runtime)


def _secrets(spec: Object) -> dict[str, set[str]]:
    """The Secrets that a pod cannot start without, each with the keys that it takes; "" for the whole."""
    wanted: dict[str, set[str]] = {}

    def add(reference: Object | None, name: str = "name", key: str = "") -> None:
        if reference and not reference.get("optional"):
            wanted.setdefault(str(reference[name]), set()).add(key)

    for container in [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]:
        for variable in container.get("env") or ():
            reference = (variable.get("valueFrom") or {}).get("secretKeyRef")
            add(reference, key=(reference or {}).get("key", ""))
        for source in container.get("envFrom") or ():
            add(source.get("secretRef"))
    for reference in spec.get("imagePullSecrets") or ():
        add(reference)
    for volume in spec.get("volumes") or ():
        add(volume.get("secret"), "secretName")
        add((volume.get("csi") or {}).get("nodePublishSecretRef"))
    return wanted
