"""Options of every command that talks to a cluster, and the connection that they ask for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from specbatch.cluster.client.client import Cluster

ContextOption = Annotated[
    str | None, typer.Option("--context", help="A context of the kubeconfig. Default: its current one.")
]
NamespaceOption = Annotated[
    str | None, typer.Option("--namespace", "-n", help="The namespace. Default: the spec's, then the context's.")
]
KubeconfigOption = Annotated[
    str | None, typer.Option("--kubeconfig", help="The kubeconfig. Default: KUBECONFIG, ~/.kube/config, the pod's own.")
]
NameArgument = Annotated[
    str | None,
    typer.Argument(metavar="[NAME]", help="A run (metadata.name), a Job, or a spec file. Default: the newest."),
]


def connect(
    name: str | None, context: str | None, namespace: str | None, kubeconfig: str | None
) -> tuple[Cluster, str | None]:
    """The connection, and the run that NAME means: a spec file stands for its metadata.name, and its namespace.

    Raises:
        ClusterError: no cluster can be told from this.
        SpecError: NAME is a file, and no spec.
    """
    from specbatch.cluster.client.client import Cluster

    if name is not None and (name.endswith((".yaml", ".yml")) or Path(name).is_file()):
        from specbatch.api.loading import load_spec

        metadata = load_spec(name).metadata
        name, namespace = metadata.name, namespace or metadata.namespace
    if name is not None:
        name = name.removeprefix("job/").removeprefix("job.batch/")  # as kubectl prints them
    return Cluster.connect(context=context, namespace=namespace, kubeconfig=kubeconfig), name
