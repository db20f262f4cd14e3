"""The other objects that a pod names: Secrets, a service account, classes, Kueue's queue."""

from __future__ import annotations

from collections.abc import Iterator

from specbatch.cluster.client.kinds import (
    LOCAL_QUEUES,
    PRIORITY_CLASSES,
    RUNTIME_CLASSES,
    SECRETS,
    SERVICE_ACCOUNTS,
    Object,
)
from specbatch.cluster.jobs.job_view import condition
from specbatch.cluster.preflight.findings import Case, Finding, error, warning
from specbatch.errors import ClusterError


def check_secrets(case: Case) -> Iterator[Finding]:
    """Every Secret by reference, and the key that is asked of it. Values are never looked at."""
    for name, wanted in _secrets(case.pod).items():
        secret = case.cluster.find(SECRETS, name)
        subject = f"Secret {name}"
        if secret is None:
            key = next(iter(sorted(filter(None, wanted))), "KEY")
            create = f"kubectl create secret generic {name} --from-literal={key}=... -n {case.cluster.namespace}"
            yield error(subject, f"does not exist in {case.namespace}", create)
            continue
        has = sorted({*(secret.get("data") or {}), *(secret.get("stringData") or {})})
        for key in sorted(wanted - {"", *has}):
            yield error(subject, f"has no key {key}", f"it has: {', '.join(has) or 'none'}")


def check_service_account(case: Case) -> Iterator[Finding]:
    """The pods' service account."""
    name = case.pod.get("serviceAccountName")
    if name and case.cluster.find(SERVICE_ACCOUNTS, name) is None:
        create = f"kubectl create serviceaccount {name} -n {case.cluster.namespace}"
        yield error(f"ServiceAccount {name}", f"does not exist in {case.namespace}", create)


def check_queue(case: Case) -> Iterator[Finding]:
    """Kueue's LocalQueue."""
    name = case.job.spec.job.queue_name
    if name is None:
        return
    subject = f"LocalQueue {name}"
    try:
        queues = {str(queue["metadata"]["name"]): queue for queue in case.cluster.list(LOCAL_QUEUES)}
    except ClusterError as problem:
        if problem.status != 404:
            raise
        yield error(
            subject,
            "this cluster has no Kueue: the Job would stay suspended",
            "install Kueue, or leave out job.queueName",
        )
        return
    queue = queues.get(name)
    if queue is None:
        there = f"there are: {', '.join(sorted(queues))}" if queues else "there is none: ask whoever runs the cluster"
        yield error(subject, f"does not exist in {case.namespace}: the Job would stay suspended", there)
    elif (queue.get("spec") or {}).get("stopPolicy", "None") != "None":
        yield warning(subject, "is stopped (stopPolicy): the Job waits until it goes on", "ask whoever runs the queue")
    elif (queue.get("status") or {}).get("conditions") and condition(queue, "Active") is None:
        yield warning(subject, "is not active: the Job waits until it is", "ask whoever runs the queue")


def check_classes(case: Case) -> Iterator[Finding]:
    """PriorityClass and RuntimeClass."""
    for kind, field in ((PRIORITY_CLASSES, "priorityClassName"), (RUNTIME_CLASSES, "runtimeClassName")):
        name = case.pod.get(field)
        if name and case.cluster.find(kind, name) is None:
            see = f"kubectl get {kind.plural} shows what there is; or leave out job.{field}"
            yield error(f"{kind.name} {name}", "does not exist in this cluster", see)


def _secrets(pod: Object) -> dict[str, set[str]]:
    """The Secrets that a pod cannot start without, each with the keys that it takes; "" for the whole."""
    wanted: dict[str, set[str]] = {}

    def add(reference: Object | None, name: str = "name", keys: tuple[str, ...] = ("",)) -> None:
        if reference and not reference.get("optional"):
            wanted.setdefault(str(reference[name]), set()).update(keys)

    for container in [*(pod.get("initContainers") or ()), *(pod.get("containers") or ())]:
        for variable in container.get("env") or ():
            reference = (variable.get("valueFrom") or {}).get("secretKeyRef")
            add(reference, keys=((reference or {}).get("key", ""),))
        for source in container.get("envFrom") or ():
            add(source.get("secretRef"))
    for reference in pod.get("imagePullSecrets") or ():
        add(reference)
    for volume in pod.get("volumes") or ():
        add(volume.get("secret"), "secretName")
        add((volume.get("csi") or {}).get("nodePublishSecretRef"))
    return wanted
