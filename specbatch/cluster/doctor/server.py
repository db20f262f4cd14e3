"""The API server: reachable, of a version that has what specbatch needs, its clock, and what it permits."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version

from specbatch import __version__
from specbatch.cluster.client.kinds import CONFIG_MAPS, Object
from specbatch.cluster.diagnose.evidence import Evidence
from specbatch.cluster.diagnose.finding import Finding, Severity
from specbatch.cluster.jobs.timestamps import seconds_of
from specbatch.cluster.preflight.permissions import HELPFUL, OF_KUEUE, all_needed, check_permissions, listed, missing
from specbatch.errors import ClusterError
from specbatch.formatting import rough_duration

_OLDEST_WORKING, _OLDEST_TESTED, _NEWEST_TESTED = (1, 29), (1, 30), (1, 37)
_SKEW_SECONDS = 30.0


def versions(*_: object) -> Iterator[Finding]:
    """Of what runs here."""
    try:
        library = version("kubernetes")
    except PackageNotFoundError:
        library = "missing"
    python = ".".join(map(str, sys.version_info[:3]))
    yield found("versions", f"specbatch {__version__}, Python {python}, kubernetes client {library}")


def api(evidence: Evidence, _: Object) -> Iterator[Finding]:
    """The version of the API server."""
    cluster = evidence.cluster
    said = cluster.version()
    yield found("api", f"{cluster.server} (context {cluster.context}, namespace {cluster.namespace})")
    match = re.match(r"v?(\d+)\.(\d+)", said)
    served = (int(match[1]), int(match[2])) if match else None
    if served is not None and served >= _OLDEST_TESTED:
        newer = " (newer than what is tested: 1.30 to 1.37)" if served > _NEWEST_TESTED else ""
        yield found("kubernetes", f"{said}{newer}")
        return
    what = f"{said} is older than what is tested" if served else f"version {said or '?'} is of no known form"
    too_old = served is not None and served < _OLDEST_WORKING
    remedy = "use Kubernetes 1.30 to 1.37: podFailurePolicy and backoffLimitPerIndex are needed"
    yield found("kubernetes", f"{said} is too old" if too_old else what, remedy, "error" if too_old else "warning")


def clock(evidence: Evidence, _: Object) -> Iterator[Finding]:
    """This machine's clock against the API server's, by an object that is never stored."""
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "specbatch-doctor"}}
    before = time.time()
    try:
        made = evidence.cluster.create(CONFIG_MAPS, body, dry_run=True)
        there = seconds_of(made["metadata"].get("creationTimestamp"))
    except ClusterError:
        there = None
    if there is None:
        yield found("clock", "the API server does not tell its time", severity="unchecked")
        return
    # It tells whole seconds, and somewhere between asking and answer.
    skew = max(there - time.time(), before - there - 1.0, 0.0)
    if skew > _SKEW_SECONDS:
        said = f"this machine and the API server are {rough_duration(skew)} apart"
        yield found("clock", said, "set the clock (NTP): ages and times of logs are wrong", "warning")
    else:
        yield found("clock", "agrees with the API server's")


def permissions(evidence: Evidence, _: Object) -> Iterator[Finding]:
    """Everything that the commands do, and what would make answers better."""
    kueue = evidence.kueue is not None or (not evidence.kueue_readable and evidence.view.queue is not None)
    needed, unseen = [*all_needed(), *(OF_KUEUE if kueue else ())], missing(evidence.cluster, HELPFUL)
    lacking = [replace(one, subject="permissions") for one in check_permissions(evidence.cluster, needed)]
    if unseen is None:
        yield found("permissions", "the cluster does not say what is permitted", severity="unchecked")
        return
    yield from lacking or [
        found("permissions", f"every command may do its work in namespace {evidence.words['namespace']}")
    ]
    if unseen:
        more = (
            f"why and doctor say more with it: {evidence.words['kubectl_all']} apply -k k8s/components/cluster-reader"
        )
        yield found("cluster-wide", f"not permitted, and not needed: {listed(unseen)}", more)
    else:
        yield found("cluster-wide", "nodes, storage classes and the like may be read")


def found(subject: str, sentence: str, remedy: str = "", severity: Severity = "ok") -> Finding:
    """What one look has shown; its subject is the cause."""
    cause = subject.replace(" ", "-")
    return Finding(cause=cause, subject=subject, sentence=sentence, remedy=remedy, severity=severity)
