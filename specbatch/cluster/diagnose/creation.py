"""Pods that the control plane refuses to make: quotas, limits, Pod Security, admission, and names that do not exist."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from specbatch.cluster.client.kinds import Object
from specbatch.cluster.diagnose.evidence import Evidence
from specbatch.cluster.diagnose.finding import Finding, Mood
from specbatch.cluster.jobs.timestamps import event_line, event_start, event_time
from specbatch.cluster.manifests.pod_requests import amount

_QUOTA = re.compile(r"exceeded quota: ([^,\s]+), requested: (.*?), used: (.*?), limited: (.*)")
_UNSPECIFIED = re.compile(r"failed quota: ([^:\s]+): must specify (.*)")
_LIMITS = re.compile(
    r"((?:maximum|minimum) \S+ usage per \w+ is [^,\]]*(?:, but \w+ is \S+?)?|\S+ max limit to request ratio per \w+ is .*?)(?=[,\]]|\.?$)"
)
_SECURITY = re.compile(r'violates PodSecurity "([^"]+)": (.*)', re.DOTALL)
_WEBHOOK = re.compile(r'admission webhook "([^"]+)" denied the request:?\s*(.*)', re.DOTALL)
_POLICY = re.compile(r"ValidatingAdmissionPolicy '([^']+)' with binding '[^']+' denied request:?\s*(.*)", re.DOTALL)
_UNREACHABLE = re.compile(r'failed calling webhook "([^"]+)"')
_ACCOUNT = re.compile(r'serviceaccount "([^"]+)" not found|service account ([^\s:]+): ')
_PRIORITY = re.compile(r"no PriorityClass with name (\S+) was found")
_RUNTIME = re.compile(r'RuntimeClass "([^"]+)" not found')

_Said = tuple[str, str, str, bool]  # cause, sentence, remedy, whether it ends by itself
_Reader = Callable[[re.Match[str]], _Said]


def refused(evidence: Evidence) -> Finding | None:
    """Why pods are missing, by the Job controller's newest words; None where it made pods since."""
    event = evidence.newest(evidence.view.job, "FailedCreate")
    if event is None:
        return None
    made = max((str(pod["metadata"].get("creationTimestamp", "")) for pod in evidence.view.pods), default="")
    if made > event_time(event):
        return None
    return creation_finding(" ".join(str(event.get("message", "")).split()), (event_line(event),), event_start(event))


def creation_finding(message: str, lines: tuple[str, ...], since: str | None) -> Finding:
    """What the API server said when a pod, or a Job, was to be made."""
    for pattern, read in _READERS:
        match = pattern.search(message)
        if match:
            cause, sentence, remedy, passing = read(match)
            mood: Mood = "waiting" if passing else "problem"
            return Finding(cause=cause, sentence=sentence, remedy=remedy, evidence=lines, since=since, mood=mood)
    return Finding(
        cause="creation-refused",
        sentence="the control plane cannot make the pods",
        remedy="the message below is the API server's; what it names is set in spec.job or by the cluster's admins",
        evidence=lines,
        since=since,
    )


def _quota(match: re.Match[str]) -> _Said:
    name, asked, used, limits = match[1], _amounts(match[2]), _amounts(match[3]), _amounts(match[4])
    over = [one for one in asked if amount(asked[one]) + amount(used.get(one, "0")) > amount(limits.get(one, "0"))]
    resource = next(iter(over), next(iter(asked), ""))
    limit = limits.get(resource, "?")
    sentence = f"the quota {name} of the namespace allows {limit} {resource}; {used.get(resource, '0')} are used, and a pod asks for {asked.get(resource, '?')} more"
    never = any(amount(asked[one]) > amount(limits.get(one, "0")) for one in asked)
    if never:
        less = f"ask for {limit} or less, or " if amount(limit) else ""
        return "quota-exceeded", sentence, f"{less}ask an admin to raise the quota", False
    return (
        "quota-exceeded",
        sentence,
        "wait until other pods of the namespace end (the Job controller tries again by itself), lower job.parallelism, or ask an admin to raise it",
        True,
    )


def _unspecified(match: re.Match[str]) -> _Said:
    wanted = match[2].rstrip(".")
    return (
        "quota-wants-resources",
        f"the quota {match[1]} of the namespace asks every pod to specify {wanted}",
        "set them in spec.job.resources (requests and limits)",
        False,
    )


def _limit_range(match: re.Match[str]) -> _Said:
    return (
        "limit-range",
        f"a LimitRange of the namespace refuses the pods: {match[1]}",
        "set spec.job.resources within it (kubectl describe limitrange shows the bounds), or ask an admin",
        False,
    )


def _security(match: re.Match[str]) -> _Said:
    level, rules = match[1].partition(":")[0], match[2].strip().rstrip(".")
    if "hostPath" in rules:
        remedy = "take a claim instead of hostPath in spec.job.volumes"
    elif level in {"restricted", "baseline"}:
        remedy = (
            "take what it names out of spec.job.podTemplate: what specbatch makes by itself passes the restricted level"
        )
    else:
        remedy = "take what it names out of spec.job.podTemplate"
    return "pod-security", f"the namespace's Pod Security level ({level}) refuses the pods: {rules}", remedy, False


def _denied(match: re.Match[str]) -> _Said:
    return (
        "admission-denied",
        f"the cluster's policy {match[1]} refuses the pods: {match[2].strip().rstrip('.')}",
        "change what it names in spec.job (podTemplate takes anything), or ask whoever runs that policy",
        False,
    )


def _unreachable(match: re.Match[str]) -> _Said:
    return (
        "admission-unreachable",
        f"the admission webhook {match[1]} does not answer, and without it no pod is made",
        "ask an admin to bring it back; the Job controller tries again by itself",
        False,
    )


def _account(match: re.Match[str]) -> _Said:
    name = match[1] or (match[2] or "").rpartition("/")[2]
    return (
        "service-account-missing",
        f"the ServiceAccount {name} does not exist",
        f"create it (kubectl create serviceaccount {name}), or correct spec.job.serviceAccountName",
        False,
    )


def _priority(match: re.Match[str]) -> _Said:
    return (
        "priority-class-missing",
        f"the PriorityClass {match[1]} does not exist",
        "correct spec.job.priorityClassName (kubectl get priorityclasses), or leave it out",
        False,
    )


def _runtime(match: re.Match[str]) -> _Said:
    return (
        "runtime-class-missing",
        f"the RuntimeClass {match[1]} does not exist",
        "correct spec.job.runtimeClassName (kubectl get runtimeclasses), or leave it out",
        False,
    )


def _namespace(match: re.Match[str]) -> _Said:
    return (
        "namespace-deleting",
        f"the namespace {match[1]} is being deleted: it takes no new pods",
        "submit to another namespace (-n); results on its claims go with it, those on object storage stay",
        False,
    )


_READERS: Sequence[tuple[re.Pattern[str], _Reader]] = (
    (re.compile(r"in namespace (\S+) because it is being terminated"), _namespace),
    (_QUOTA, _quota),
    (_UNSPECIFIED, _unspecified),
    (_SECURITY, _security),
    (_ACCOUNT, _account),
    (_PRIORITY, _priority),
    (_RUNTIME, _runtime),
    (_UNREACHABLE, _unreachable),
    (_WEBHOOK, _denied),
    (_POLICY, _denied),
    (_LIMITS, _limit_range),
)


def _amounts(text: str) -> dict[str, str]:
    """`cpu=2,requests.nvidia.com/gpu=16`"""
    pairs = (part.partition("=") for part in text.split(","))
    return {name.strip(): value.strip() for name, _, value in pairs if value}


def without_pod(evidence: Evidence) -> list[int]:
    """The indexes that have no pod and are not done, as many as may run at once."""
    view = evidence.view
    ended = {*view.completed, *view.failed}
    waiting = [index for index in range(view.completions) if index not in ended and not view.pods_by_index.get(index)]
    active = sum(1 for pod in view.pods if _active(pod))
    parallelism = int(view.job["spec"].get("parallelism") or view.completions)
    return waiting[: max(0, parallelism - active)]


def _active(pod: Object) -> bool:
    return pod.get("status", {}).get("phase") in {"Pending", "Running", None}
