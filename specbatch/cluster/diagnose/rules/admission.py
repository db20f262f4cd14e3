"""What the API server refuses: quotas, limits, Pod Security, admission, a namespace that is not there, and names that do not exist."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

from specbatch.cluster.client.kinds import Object
from specbatch.cluster.diagnose.evidence import Evidence
from specbatch.cluster.diagnose.finding import Cause, Finding, recognise
from specbatch.cluster.diagnose.quantities import listed
from specbatch.cluster.diagnose.rules.references import PRIORITY_CLASS, RUNTIME_CLASS, SERVICE_ACCOUNT
from specbatch.cluster.jobs.timestamps import event_line, event_start, event_time
from specbatch.cluster.manifests.pod_requests import amount, requests

_LEVEL = "pod-security.kubernetes.io/enforce"  # label of a namespace
_QUOTA = re.compile(r"exceeded quota: ([^,\s]+), requested: (.*?), used: (.*?), limited: (.*)")
_NAMESPACE_DELETING = Cause("namespace-deleting", r"in namespace (?P<namespace>\S+) because it is being terminated",
    "the namespace {namespace} is being deleted: it takes no new pods",
    "submit to another namespace (-n); results on its claims go with it, those on object storage stay")  # fmt: skip
_POD_SECURITY = Cause("pod-security", r'violates PodSecurity "(?P<level>[^":]+)[^"]*": (?P<what>.*)',
    "the namespace refuses the pods (PodSecurity {level}, its label pod-security.kubernetes.io/enforce): {what}",
    "take a claim instead of hostPath in spec.job.volumes, and what it names out of spec.job.podTemplate: what specbatch makes by itself passes the restricted level")  # fmt: skip
_NAMESPACE_MISSING = Cause("namespace-missing", "",
    "the namespace {namespace} does not exist", "kubectl create namespace {namespace}, or name another with -n")  # fmt: skip
_QUOTA_SAYS = (
    "the quota {name} of the namespace allows {limit} {resource}; {used} are used, and a pod asks for {asked} more"
)
_QUOTA_NEVER = Cause("quota-exceeded", "", _QUOTA_SAYS, "{less}ask an admin to raise the quota")
_QUOTA_NOW = Cause("quota-exceeded", "", _QUOTA_SAYS,
    "wait until other pods of the namespace end (the Job controller tries again by itself), lower job.parallelism, or ask an admin to raise it", "warning")  # fmt: skip
_OTHER = Cause("creation-refused", "",
    "the control plane cannot make the pods",
    "the message below is the API server's; what it names is set in spec.job or by the cluster's admins")  # fmt: skip
_MESSAGES = (
    _NAMESPACE_DELETING,
    Cause("quota-wants-resources", r"failed quota: (?P<quota>[^:\s]+): must specify (?P<what>.*)",
        "the quota {quota} of the namespace asks every pod to specify {what}",
        "set them in spec.job.resources (requests and limits)"),
    _POD_SECURITY,
    SERVICE_ACCOUNT,
    PRIORITY_CLASS,
    RUNTIME_CLASS,
    Cause("admission-unreachable", r'failed calling webhook "(?P<name>[^"]+)"',
        "the admission webhook {name} does not answer, and without it no pod is made",
        "ask an admin to bring it back; the Job controller tries again by itself"),
    Cause("admission-denied", r"""(admission webhook "(?P<name>[^"]+)"|ValidatingAdmissionPolicy '(?P<policy>[^']+)'.*) denied (the )?request:?\s*(?P<why>.*)""",
        "the cluster's policy {name}{policy} refuses the pods: {why}",
        "change what it names in spec.job (podTemplate takes anything), or ask whoever runs that policy"),
    Cause("limit-range", r"(?P<what>(maximum|minimum) \S+ usage per \w+ is .*|\S+ max limit to request ratio per \w+ is .*)",
        "a LimitRange of the namespace refuses the pods: {what}",
        "set spec.job.resources within it (kubectl describe limitrange shows the bounds), or ask an admin"),
)  # fmt: skip


def refusal(message: str, namespace: str) -> Finding | None:
    """What the API server said when a pod was to be made; None where its message is not known."""
    text = " ".join(message.split())
    if match := _QUOTA.search(text):
        asked, used, limits = (_amounts(part) for part in match.groups()[1:])
        if exceeded := _exceeded(match[1], asked, used, limits):
            return exceeded
    found = recognise(_MESSAGES, text, **({} if "in namespace" in text else {"namespace": namespace}))
    return found and replace(found, sentence=found.sentence.rstrip("."))


def refused(evidence: Evidence) -> Finding | None:
    """Why pods are missing, by the Job controller's newest words; None where it made pods since."""
    event = evidence.newest(evidence.view.job, "FailedCreate")
    made = max((str(pod["metadata"].get("creationTimestamp", "")) for pod in evidence.view.pods), default="")
    if event is None or made > event_time(event):
        return None
    found = refusal(str(event.get("message") or ""), evidence.namespace_name) or _OTHER.finding()
    return found.seen([event_line(event)], event_start(event))


def without_pod(evidence: Evidence) -> list[int]:
    """The indexes that have no pod and are not done, as many as may run at once."""
    view = evidence.view
    ended = {*view.completed, *view.failed}
    waiting = [index for index in range(view.completions) if index not in ended and not view.pods_by_index.get(index)]
    active = sum(1 for pod in view.pods if pod.get("status", {}).get("phase") in {"Pending", "Running", None})
    parallelism = int(view.job["spec"].get("parallelism") or view.completions)
    return waiting[: max(0, parallelism - active)]


def namespace(evidence: Evidence, pod: Object) -> Iterator[Finding]:
    """A namespace that is not there, or on its way out, or that refuses the pod's volumes."""
    name, found = evidence.namespace_name, evidence.namespace
    if found is None:
        if "the namespace" not in evidence.not_permitted:
            yield _NAMESPACE_MISSING.finding(namespace=name)
        return
    asked = found["metadata"].get("deletionTimestamp")
    if asked or (found.get("status") or {}).get("phase") == "Terminating":
        yield _NAMESPACE_DELETING.finding(namespace=name).seen(since=asked)
    level = (found["metadata"].get("labels") or {}).get(_LEVEL)
    folders = [one["hostPath"].get("path", "") for one in pod["spec"].get("volumes") or () if one.get("hostPath")]
    if level in {"restricted", "baseline"} and folders:
        yield _POD_SECURITY.finding(level=level, what=f"hostPath ({listed(folders)})")


def quotas(evidence: Evidence, pod: Object) -> Iterator[Finding]:
    """Quotas of the namespace that leave no room for a pod."""
    needs = {name: f"{value.normalize():f}" for name, value in requests(pod["spec"]).items()}
    asked = needs | {f"requests.{name}": value for name, value in needs.items()} | {"pods": "1"}
    for quota in evidence.quotas:
        status = quota.get("status") or {}
        limits = status.get("hard") or {}
        counted = {name: value for name, value in asked.items() if name in limits}
        if exceeded := _exceeded(quota["metadata"]["name"], counted, status.get("used") or {}, limits):
            yield exceeded


def _exceeded(
    name: str, asked: Mapping[str, str], used: Mapping[str, str], limits: Mapping[str, str]
) -> Finding | None:
    """A quota that a pod does not fit into: never, or not now."""
    over = [one for one in asked if amount(asked[one]) + amount(used.get(one, "0")) > amount(limits.get(one, "0"))]
    if not over:
        return None
    resource = over[0]
    limit = limits.get(resource, "0")
    never = any(amount(asked[one]) > amount(limits.get(one, "0")) for one in over)
    found = (_QUOTA_NEVER if never else _QUOTA_NOW).finding(
        name=name,
        limit=limit,
        resource=resource,
        used=used.get(resource, "0"),
        asked=asked[resource],
        less=f"ask for {limit} or less, or " if amount(limit) else "",
    )
    return replace(found, subject=f"quota {name}")


def _amounts(text: str) -> dict[str, str]:
    """`cpu=2,requests.nvidia.com/gpu=16`"""
    pairs = (part.partition("=") for part in text.split(","))
    return {name.strip(): value.strip() for name, _, value in pairs if value}
