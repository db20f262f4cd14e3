"""Jobs that Kueue holds back, or would.

Source: https://github.com/kubernetes-sigs/kueue (pkg/controller/core, pkg/scheduler/flavorassigner): the words of its conditions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from specbatch.cluster.client.kinds import Object
from specbatch.cluster.client.kueue import JOB_UID
from specbatch.cluster.diagnose.evidence import Evidence
from specbatch.cluster.diagnose.finding import Cause, Finding, Said, by_name, listed
from specbatch.cluster.jobs.job_view import condition

_GONE = r"(doesn't exist|does not exist|is terminating or missing|not found)"
_CAUSES = by_name(
    Cause("kueue-missing", "",
        "the Job waits for Kueue's queue {name}, but this cluster has no Kueue: nothing starts it",
        "take spec.job.queueName out and submit again, or install Kueue"),
    Cause("cluster-queue-missing", rf"ClusterQueue \S+ {_GONE}|ClusterQueueDoesNotExist",
        "the queue {name} belongs to a ClusterQueue that does not exist",
        "ask an admin to create it, or name another queue in spec.job.queueName ({kubectl} get localqueues)"),
    Cause("queue-missing", rf"LocalQueue \S+ {_GONE}",
        "the queue {name} does not exist in namespace {namespace}: the Job stays suspended",
        "correct spec.job.queueName (there is: {names}) and submit again, or ask an admin to create it"),
    Cause("queue-stopped", r"(LocalQueue|ClusterQueue) \S+ is stopped",
        "the queue {name} is stopped (stopPolicy): it admits no Jobs",
        "ask an admin to start it again (stopPolicy: None); the Job then goes on by itself", "warning"),
    Cause("queue-inactive", r"(LocalQueue|ClusterQueue) \S+ is inactive",
        "the queue {name} is not active: it admits no Jobs",
        "ask an admin: {kubectl_all} describe clusterqueue says what is missing (a flavor, an admission check); the Job then goes on by itself", "warning"),
    Cause("queue-silent", "", "Kueue has not taken the Job into queue {name} yet",
        "wait a minute; if it stays so, Kueue's controller does not run, or does not manage batch/job: ask an admin", "warning"),
    Cause("queue-evicted", "", "Kueue has stopped the Job ({reason}), and it waits in queue {name} again{among}",
        "wait: it starts again by itself and keeps its finished rows; a higher PriorityClass comes first; one that is deactivated needs {kubectl} edit workload {workload} (spec.active: true)", "warning"),
)  # fmt: skip
# What Kueue says of a Workload. More that is needed now comes first: another flavor would do.
_WORKLOAD = (
    *(_CAUSES[name] for name in ("cluster-queue-missing", "queue-missing", "queue-stopped", "queue-inactive")),
    Cause("queue-waiting", r"quota for (?P<resource>\S+) in flavor \S+?( in \w+)?, (?P<more>\S+) more needed",
        "the Job waits in Kueue's queue {name}{among}; missing now: {more} {resource}",
        "wait: it starts by itself; ask for less at once (job.parallelism, placement.gpus) or take a higher PriorityClass to start sooner", "warning"),
    Cause("queue-too-small", r"insufficient quota for (?P<resource>\S+) in flavor \S+?,.*?\((?P<asked>[^()]+)\) > maximum capacity \((?P<most>[^()]+)\)",
        "the Job asks for {asked} {resource} at once, and its queue has {most} in all: it will never start",
        "lower spec.job.parallelism (pods at once) or spec.placement.gpus, or ask an admin for more quota"),
    Cause("queue-unsuitable", r"^\w*: (couldn't assign flavors to pod set \S+: )?(?P<why>.*(unavailable in ClusterQueue|flavor|doesn't match ClusterQueue).*)",
        "the queue {name} is not for these pods, or not for namespace {namespace}: {why}",
        "make spec.job.tolerations and spec.job.nodeSelector fit a flavor of the queue ({kubectl_all} get resourceflavors), take another queue, or ask an admin to add the resource or the namespace to the ClusterQueue"),
    Cause("queue-waiting", "", "the Job waits in Kueue's queue {name}{among}",
        "wait: it starts by itself once Kueue admits it; what it waits for is below", "warning"),
)  # fmt: skip


def queue(evidence: Evidence, _: Object) -> Iterator[Finding]:
    """What keeps the queue of a Job from admitting it, by the queue's own objects; of a Job that exists, by Kueue's words as well."""
    name, job = evidence.view.queue, evidence.view.job
    exists = "uid" in job["metadata"]
    if name is None or (exists and not evidence.view.suspended):
        return
    there = local_queues(evidence)
    if name not in there and evidence.kueue_readable:
        cause = _CAUSES["queue-missing" if evidence.kueue else "kueue-missing"]
        yield evidence.found(cause, name=name, names=listed(sorted(there)) or "none")
        return
    of = (there.get(name, {}).get("spec") or {}).get("clusterQueue")
    behind = evidence.find(evidence.kueue.cluster_queues, of) if exists and of and evidence.kueue else None
    if problem := queue_problem(evidence, name, there.get(name, {}), behind or {}):
        yield problem
    if exists:
        yield _held(evidence, name, behind or {})


def local_queues(evidence: Evidence) -> Mapping[str, Object]:
    """Kueue's LocalQueues of the namespace, by name."""
    return evidence.by_name(evidence.kueue.local_queues) if evidence.kueue else {}


def queue_problem(evidence: Evidence, name: str, *queues: Object) -> Finding | None:
    """Why a LocalQueue, or the ClusterQueue behind it, admits no Jobs; None where both do."""
    for one in queues:
        conditions = (one.get("status") or {}).get("conditions")
        active: Object = next((found for found in conditions or () if found.get("type") == "Active"), {})
        stopped = (one.get("spec") or {}).get("stopPolicy", "None") != "None"
        if stopped or (conditions and active.get("status") != "True"):
            gone = active.get("reason") == "ClusterQueueDoesNotExist"
            cause = _CAUSES["queue-stopped" if stopped else "cluster-queue-missing" if gone else "queue-inactive"]
            lines = [f"{active.get('reason')}: {active.get('message')}"] if active else []
            return evidence.found(cause, name=name).seen(lines, active.get("lastTransitionTime"))
    return None


def _held(evidence: Evidence, name: str, behind: Object) -> Finding:
    """What Kueue says of the Job's Workload, with all its conditions and checks."""
    job, workloads = evidence.view.job, (evidence.every(evidence.kueue.workloads) if evidence.kueue else None) or ()
    labels = {JOB_UID: job["metadata"]["uid"]}
    owned = (one for one in workloads if labels.items() <= (one["metadata"].get("labels") or {}).items())
    mine: Object = next(owned, {})
    if not mine and evidence.kueue_readable:
        return evidence.found(_CAUSES["queue-silent"], name=name)
    status = mine.get("status") or {}
    conditions, checks = status.get("conditions") or (), status.get("admissionChecks") or ()
    lines = [f"workload: {one.get('type')}: {one.get('reason')}: {one.get('message')}" for one in conditions]
    lines += [f"{one.get('name')}: {one.get('state')}: {one.get('message', '')}" for one in checks]
    reserved: Object = next((one for one in conditions if one.get("type") == "QuotaReserved"), {})
    among = (behind.get("status") or {}).get("pendingWorkloads")
    fields = {"name": name, "among": f" ({among} wait in its ClusterQueue)" if among else ""}
    since = reserved.get("lastTransitionTime") or job["metadata"].get("creationTimestamp")
    found = evidence.recognise(_WORKLOAD, Said(Said.of(reserved).text), **fields)
    assert found is not None  # the last of them is of any text
    evicted = condition(mine, "Evicted") if mine else None
    if evicted is not None and found.cause == "queue-waiting":
        fields |= {"reason": str(evicted.get("reason")), "workload": mine["metadata"]["name"]}
        cause = "queue-preempted" if evicted.get("reason") == "Preempted" else "queue-evicted"
        found = replace(evidence.found(_CAUSES["queue-evicted"], **fields), cause=cause)
        since = evicted.get("lastTransitionTime")
    return found.seen(lines, since)
