"""What the API server refuses: quotas, limits, Pod Security, admission, names that do not exist, and a namespace that is not there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from specbatch.cluster.client.kinds import NAMESPACES, Object
from specbatch.cluster.diagnose.evidence import Evidence
from specbatch.cluster.diagnose.finding import Cause, Finding, Said
from specbatch.cluster.manifests.pod_requests import amount

_QUOTA = r"exceeded quota: (?P<quota>[^,\s]+), (?P<what>requested: (?P<asked>.*), used: .*, limited: (?P<limited>.*))"
_AMOUNT = re.compile(r"([^\s,=]+)=([^\s,]+)")
_DELETING = Cause("namespace-deleting", r"in namespace \S+ because it is being terminated",
    "the namespace {namespace} is being deleted: it takes no new pods",
    "submit to another namespace (-n); results on its claims go with it, those on object storage stay")  # fmt: skip
_MISSING = Cause("namespace-missing", "", "the namespace {namespace} does not exist",
    "{kubectl_all} create namespace {namespace}, or name another with -n")  # fmt: skip
_QUOTA_NEVER = Cause("quota-exceeded", _QUOTA, "the quota {quota} of the namespace is smaller than a pod: {what}",
    "ask for no more than is limited, or ask an admin to raise the quota")  # fmt: skip
_QUOTA_NOW = Cause("quota-exceeded", _QUOTA, "the quota {quota} of the namespace has no room for a pod now: {what}",
    "wait until other pods of the namespace end (the Job controller tries again by itself), lower job.parallelism, or ask an admin to raise it", "warning")  # fmt: skip
_OTHER = Cause("creation-refused", "", "the control plane cannot make the pods",
    "the message below is the API server's; what it names is set in spec.job or by the cluster's admins")  # fmt: skip
_MESSAGES = (
    _DELETING,
    Cause("quota-wants-resources", r"failed quota: (?P<quota>[^:\s]+): must specify (?P<what>.*)",
        "the quota {quota} of the namespace asks every pod to specify {what}",
        "set them in spec.job.resources (requests and limits)"),
    Cause("pod-security", r'violates PodSecurity "(?P<level>[^":]+)[^"]*": (?P<what>.*)',
        "the namespace refuses the pods (PodSecurity {level}, its label pod-security.kubernetes.io/enforce): {what}",
        "take a claim instead of hostPath in spec.job.volumes, and what it names out of spec.job.podTemplate: what specbatch makes by itself passes the restricted level"),
    Cause("service-account-missing", r'serviceaccount "(?P<name>[^"]+)" not found',
        "the ServiceAccount {name} does not exist in namespace {namespace}",
        "create it ({kubectl} create serviceaccount {name}), or correct spec.job.serviceAccountName"),
    Cause("priority-class-missing", r"no PriorityClass with name (?P<name>\S+) was found",
        "the PriorityClass {name} does not exist",
        "correct spec.job.priorityClassName ({kubectl_all} get priorityclasses), or leave it out"),
    Cause("runtime-class-missing", r'RuntimeClass "(?P<name>[^"]+)" not found', "the RuntimeClass {name} does not exist",
        "correct spec.job.runtimeClassName ({kubectl_all} get runtimeclasses), or leave it out"),
    Cause("admission-unreachable", r'failed calling webhook "(?P<name>[^"]+)"',
        "the admission webhook {name} does not answer, and without it no pod is made",
        "ask an admin to bring it back; the Job controller tries again by itself"),
    Cause("admission-denied", r"""(admission webhook "(?P<name>[^"]+)"|ValidatingAdmissionPolicy '(?P<policy>[^']+)'.*) denied (the )?request:?\s*(?P<why>.*)""",
        "the cluster's policy {name}{policy} refuses the pods: {why}",
        "change what it names in spec.job (podTemplate takes anything), or ask whoever runs that policy"),
    Cause("limit-range", r"(?P<what>(maximum|minimum) \S+ usage per \w+ is .*|\S+ max limit to request ratio per \w+ is .*)",
        "a LimitRange of the namespace refuses the pods: {what}",
        "set spec.job.resources within it ({kubectl} describe limitrange shows the bounds), or ask an admin"),
)  # fmt: skip


def refusal(evidence: Evidence, said: Said) -> Finding | None:
    """What the API server says when a pod is to be made; None where its message is not known."""
    said = replace(said, text=" ".join(said.text.split()).rstrip("."))
    if quota := re.search(_QUOTA, said.text):
        asked, limits = (dict(_AMOUNT.findall(quota[part])) for part in ("asked", "limited"))
        never = any(amount(value) > amount(limits.get(name, value)) for name, value in asked.items())
        return evidence.recognise([_QUOTA_NEVER if never else _QUOTA_NOW], said)
    return evidence.recognise(_MESSAGES, said)


def refused(evidence: Evidence) -> Finding | None:
    """Why pods are missing, by the Job controller's newest words; None where it made pods since."""
    said = next(iter(evidence.said_of(evidence.view.job, "FailedCreate")), None)
    made = max((str(pod["metadata"].get("creationTimestamp", "")) for pod in evidence.view.pods), default="")
    if said is None or made > said.time:
        return None
    return refusal(evidence, said) or evidence.found(_OTHER).seen([said.line], said.since)


def without_pod(evidence: Evidence) -> list[int]:
    """The indexes that have no pod and are not done, as many as may run at once."""
    view = evidence.view
    ended = {*view.completed, *view.failed}
    waiting = [index for index in range(view.completions) if index not in ended and not view.pods_by_index.get(index)]
    active = sum(1 for pod in view.pods if pod.get("status", {}).get("phase") in {"Pending", "Running", None})
    parallelism = int(view.job["spec"].get("parallelism") or view.completions)
    return waiting[: max(0, parallelism - active)]


def namespace(evidence: Evidence, _: Object) -> Iterator[Finding]:
    """A namespace that is not there, or on its way out."""
    name = evidence.words["namespace"]
    if evidence.lacks(NAMESPACES, name):
        yield evidence.found(_MISSING)
    elif found := evidence.find(NAMESPACES, name):
        asked = found["metadata"].get("deletionTimestamp")
        if asked or (found.get("status") or {}).get("phase") == "Terminating":
            yield evidence.found(_DELETING).seen(since=asked)
