"""The options of every command that talks to a cluster: --context, --namespace, --kubeconfig; and the connection that they ask for."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from specbatch.cluster.client.client import Cluster
    from specbatch.cluster.client.kinds import Object

_OPTIONS = {
    name: typer.Option(*flags, metavar=metavar, help=text, rich_help_panel="The cluster")
    for name, flags, metavar, text in (
        ("context", ("--context",), "NAME", "A context of the kubeconfig. Default: its current one."),
        ("namespace", ("--namespace", "-n"), "NAME", "The namespace. Default: the spec's, then the context's."),
        ("kubeconfig", ("--kubeconfig",), "FILE", "Default: KUBECONFIG, ~/.kube/config, the pod's own."),
    )
}
NameArgument = Annotated[
    str | None,
    typer.Argument(metavar="NAME", help="A run (metadata.name), a Job, or a spec file. Default: the newest."),
]


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """The options as given; None for one that was not."""

    context: str | None = None
    namespace: str | None = None
    kubeconfig: str | None = None

    @property
    def any_given(self) -> bool:
        """Whether a cluster is certainly meant."""
        return any(one is not None for one in (self.context, self.namespace, self.kubeconfig))

    def connect(self, name: str | None = None, *, namespace: str | None = None) -> tuple[Cluster, str | None]:
        """The connection, and the run that NAME means: a spec file stands for its metadata.name, and its namespace.

        Args:
            name: as typed.
            namespace: used where --namespace is not given.

        Raises:
            ClusterError: no cluster can be told from this.
            SpecError: NAME is a file, and no spec.
        """
        from specbatch.cluster.client.client import Cluster

        if name is not None and (name.endswith((".yaml", ".yml")) or Path(name).is_file()):
            from specbatch.api.loading.load import load_spec

            metadata = load_spec(name).metadata
            name, namespace = metadata.name, metadata.namespace
        if name is not None:
            name = name.removeprefix("job/").removeprefix("job.batch/")  # as kubectl prints them
        wanted = self.namespace or namespace
        return Cluster.connect(context=self.context, namespace=wanted, kubeconfig=self.kubeconfig), name

    def find_job(self, name: str | None) -> tuple[Cluster, Object]:
        """The connection, and the newest Job of the run that NAME means.

        Raises:
            ClusterError: there is none, or no cluster can be reached.
            SpecError: NAME is a file, and no spec.
        """
        from specbatch.cluster.jobs.lookup import find_job

        cluster, run = self.connect(name)
        return cluster, find_job(cluster, run)


def with_cluster_options(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the three options, in its argument `options`."""
    signature = inspect.signature(command, eval_str=True)
    parameters = [one for one in signature.parameters.values() if one.name != "options"]
    parameters += [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[str | None, option])
        for name, option in _OPTIONS.items()
    ]

    @functools.wraps(command)
    def call(**arguments: Any) -> None:
        options = ClusterOptions(**{name: arguments.pop(name) for name in _OPTIONS})
        command(**arguments, options=options)

    call.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]  # what Typer reads
    return call
