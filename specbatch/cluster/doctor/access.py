"""What is permitted: everything that the commands do, and what would make answers better."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from specbatch.cluster.client.kueue import kueue_kinds
from specbatch.cluster.doctor.checkup import Result, Visit
from specbatch.cluster.preflight.permissions import HELPFUL, OF_KUEUE, Permission, all_needed, commands_with, listed
from specbatch.errors import ClusterError

_AT_ONCE = 8


def check_permissions(visit: Visit) -> Iterator[Result]:
    """By SelfSubjectAccessReview, which everybody may ask."""
    needed = [*all_needed(), *(OF_KUEUE if _has_kueue(visit) else ())]
    answers = _asked(visit, needed)
    missing = [one for one, answer in zip(needed, answers, strict=True) if answer is False]
    namespace = visit.cluster.namespace
    if None in answers:
        yield Result("permissions", "not checked", "the cluster does not say what is permitted")
    elif missing:
        commands = list(dict.fromkeys(name for one in missing for name in commands_with(one)))
        yield Result(
            "permissions",
            "failed",
            f"not permitted in namespace {namespace}: {listed(missing)} (for {', '.join(commands) or 'queues'})",
            f"ask whoever runs the cluster for the Role of k8s/: kubectl apply -n {namespace} -f k8s/submitter.yaml",
        )
    else:
        yield Result("permissions", "ok", f"every command may do its work in namespace {namespace}")
    answers = _asked(visit, HELPFUL)
    unseen = [one for one, answer in zip(HELPFUL, answers, strict=True) if answer is False]
    if unseen:
        yield Result(
            "cluster-wide",
            "ok",
            f"not permitted, and not needed: {listed(unseen)}",
            "why and doctor say more with it: kubectl apply -k k8s/components/cluster-reader",
        )
    elif None not in answers:
        yield Result("cluster-wide", "ok", "nodes, storage classes and the like may be read")


def _asked(visit: Visit, permissions: Sequence[Permission]) -> list[bool | None]:
    def ask(one: Permission) -> bool | None:
        return visit.cluster.can(one.verb, one.kind, subresource=one.subresource, all_namespaces=one.all_namespaces)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(ask, permissions))


def _has_kueue(visit: Visit) -> bool:
    """Whether there are queues to be read; a refusal means that there may be."""
    try:
        return kueue_kinds(visit.cluster) is not None
    except ClusterError as error:
        return error.status == 403 and visit.job is not None and visit.job.spec.job.queue_name is not None
