"""What the argument of status and collect means: a run's folder, a URI, or a run on the cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from specbatch.cli.cluster.cluster_options import ClusterOptions

if TYPE_CHECKING:
    from specbatch.api.job import SpecBatchJob
    from specbatch.cluster.client.client import Cluster
    from specbatch.cluster.client.kinds import Object

SourceArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="SOURCE",
        help="A run's folder, a URI such as s3://bucket/runs/nightly; or, on the cluster, a run (metadata.name), a Job, "
        "a spec file. Default: the cluster's newest.",
    ),
]
_SPECS = (".yaml", ".yml", ".json")


def is_folder(source: str, options: ClusterOptions) -> bool:
    """Whether a folder or URI is meant: a URI, a folder that is there, or a path; with an option of the cluster only a URI.

    A file is a spec, and job/NAME a Job's name as kubectl prints it: those mean a run on the cluster.
    """
    if "://" in source or options.any_given:
        return "://" in source
    if Path(source).expanduser().is_dir():
        return True
    return "/" in source and not source.startswith(("job/", "job.batch/")) and not is_spec(source)


def is_spec(source: str) -> bool:
    """Whether a spec's file is meant."""
    return source.endswith(_SPECS)


@contextmanager
def nor_folder(source: str | None) -> Iterator[None]:
    """Adds to an error of the cluster that there is no such folder either."""
    from specbatch.errors import ClusterError

    try:
        yield
    except ClusterError as error:
        if source is not None and is_spec(source):
            raise
        said = "no folder was named" if source is None else f"there is no folder {Path(source).expanduser().absolute()}"
        ways = "name the run's folder, or a run on a cluster"
        raise ClusterError(
            f"{said}, and {error.message}",
            where=error.where,
            remedy=f"{ways}: {error.remedy}" if error.remedy else ways,
            status=error.status,
            reason=error.reason,
        ) from error


def run_on_cluster(source: str | None, options: ClusterOptions) -> tuple[Cluster, Object | None, SpecBatchJob]:
    """The Job and what it runs; without the Job where it is gone, and the spec's file is named."""
    from specbatch.api.loading.load import load_spec
    from specbatch.cluster.fetch.results_of_run import spec_of
    from specbatch.errors import ClusterError

    try:
        with nor_folder(source):
            cluster, job = options.find_job(source)
        return cluster, job, spec_of(cluster, job)
    except ClusterError as error:
        if error.status != 404 or source is None or not is_spec(source):
            raise
    return options.connect(source)[0], None, load_spec(source)
