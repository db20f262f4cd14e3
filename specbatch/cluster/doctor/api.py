"""The API server: reachable, of a version that has what specbatch needs, and its clock."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from specbatch import __version__
from specbatch.cluster.client.kinds import CONFIG_MAPS, JOBS, Object
from specbatch.cluster.doctor.checkup import Result, Visit
from specbatch.cluster.jobs.timestamps import seconds_of
from specbatch.cluster.manifests.failure_policy import pod_failure_policy
from specbatch.cluster.manifests.names import CONTAINER
from specbatch.errors import ClusterError
from specbatch.formatting import rough_duration

_OLDEST_WORKING, _OLDEST_TESTED, _NEWEST_TESTED = (1, 29), (1, 30), (1, 37)
_SKEW_SECONDS = 30.0
_TRY_NAME = "specbatch-doctor"  # of objects that are never stored
_USE = "use Kubernetes 1.30 to 1.37: podFailurePolicy and backoffLimitPerIndex are needed"


def check_api(visit: Visit) -> Iterator[Result]:
    """The version, and what stands behind it."""
    cluster = visit.cluster
    said = cluster.version()
    where = f"{cluster.server} (context {cluster.context}, namespace {cluster.namespace})"
    yield Result("api", "ok", where)
    match = re.match(r"v?(\d+)\.(\d+)", said)
    served = (int(match[1]), int(match[2])) if match else None
    if served is None:
        yield Result("kubernetes", "warning", f"version {said or '?'} is of no known form", _USE)
    elif served < _OLDEST_TESTED:
        yield _old(visit, said, working=served >= _OLDEST_WORKING)
    else:
        newer = " (newer than what is tested: 1.30 to 1.37)" if served > _NEWEST_TESTED else ""
        yield Result("kubernetes", "ok", f"{said}{newer}")


def _old(visit: Visit, version: str, *, working: bool) -> Result:
    """A version that is older than what is tested is judged by whether it takes such a Job."""
    try:
        visit.cluster.create(JOBS, _job(), dry_run=True)
    except ClusterError as error:
        if error.status in {400, 422}:
            return Result("kubernetes", "failed", f"{version} is too old: {error.message}", _USE)
        if not working:
            return Result("kubernetes", "failed", f"{version} is too old", _USE)
    return Result("kubernetes", "warning", f"{version} is older than what is tested", _USE)


def _job() -> Object:
    """The least Job with what came last to Kubernetes of what specbatch needs."""
    pod = {"restartPolicy": "Never", "containers": [{"name": CONTAINER, "image": "none"}]}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": _TRY_NAME},
        "spec": {
            "suspend": True,
            "completionMode": "Indexed",
            "completions": 1,
            "parallelism": 1,
            "backoffLimitPerIndex": 1,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": pod_failure_policy(),
            "template": {"spec": pod},
        },
    }


def check_clock(visit: Visit) -> Iterator[Result]:
    """This machine's clock against the API server's, by an object that is never stored."""
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": _TRY_NAME}}
    before = time.time()
    try:
        made = visit.cluster.create(CONFIG_MAPS, body, dry_run=True)
    except ClusterError as error:
        yield Result("clock", "not checked", f"the API server does not tell its time ({error.message})")
        return
    there = seconds_of(made["metadata"].get("creationTimestamp"))
    if there is None:
        yield Result("clock", "not checked", "the API server does not tell its time")
        return
    # It tells whole seconds, and somewhere between asking and answer.
    skew = max(there - time.time(), before - there - 1.0, 0.0)
    if skew > _SKEW_SECONDS:
        yield Result(
            "clock",
            "warning",
            f"this machine and the API server are {rough_duration(skew)} apart",
            "set the clock (NTP): ages and times of logs are wrong",
        )
    else:
        yield Result("clock", "ok", "agrees with the API server's")


def check_versions(_: Visit) -> Iterator[Result]:
    """Of what runs here."""
    try:
        library = version("kubernetes")
    except PackageNotFoundError:
        library = "missing"
    python = ".".join(map(str, sys.version_info[:3]))
    yield Result("versions", "ok", f"specbatch {__version__}, Python {python}, kubernetes client {library}")
