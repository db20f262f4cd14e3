"""`specbatch render`: a spec as Kubernetes manifests, without a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from specbatch.cli.options import SetOption, SpecArgument
from specbatch.cli.output import show_document


def render(
    file: SpecArgument,
    *,
    overrides: SetOption = None,
    output: Annotated[
        Literal["yaml", "json"], typer.Option("--output", "-o", help="The form of the manifests.")
    ] = "yaml",
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Another metadata.name: another run of the same spec.")
    ] = None,
    namespace: Annotated[
        str | None,
        typer.Option(
            "--namespace", "-n", metavar="NAMESPACE", help="The namespace. Default: metadata.namespace, or none."
        ),
    ] = None,
) -> None:
    """Print the Kubernetes manifests of a spec.

    A ConfigMap and an Indexed Job, as submit and Helm make them.

    Example: specbatch render job/quickstart.yaml | kubectl apply -f -

    Exit code 0, or 64 where the spec is wrong, or is one for this machine only.
    """
    from specbatch.cluster.manifests.job import render as rendered
    from specbatch.cluster.manifests.spec_files import load_for_cluster
    from specbatch.cluster.manifests.yaml_text import manifests_text

    job, files = load_for_cluster(file, overrides or (), name=name, namespace=namespace, folder=Path.cwd())
    show_document(manifests_text(rendered(job, files).objects, output), nl=False)
