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
    network_policy: Annotated[
        bool,
        typer.Option("--network-policy", help="NetworkPolicies first, with the ports of the addresses in the spec."),
    ] = False,
    ports: Annotated[
        list[int] | None,
        typer.Option("--port", min=1, max=65535, metavar="PORT", help="With --network-policy: one more. Repeatable."),
    ] = None,
) -> None:
    """Print the Kubernetes manifests of a spec.

    A ConfigMap and an Indexed Job, as submit and Helm make them.

    Example: specbatch render job/quickstart.yaml | kubectl apply -f -

    Example: specbatch render job/quickstart.yaml --network-policy --port 9000

    Exit code 0, or 64 where the spec is wrong, or is one for this machine only.
    """
    from specbatch.cluster.manifests.job import render as rendered
    from specbatch.cluster.manifests.network_policy import policies_of
    from specbatch.cluster.manifests.spec_files import load_for_cluster
    from specbatch.cluster.manifests.yaml_text import manifests_text

    job, files = load_for_cluster(file, overrides or (), name=name, namespace=namespace, folder=Path.cwd())
    objects = rendered(job, files).objects
    if network_policy:
        objects = [*policies_of(job, ports or ()), *objects]
    elif ports:
        raise typer.BadParameter("goes with --network-policy", param_hint="--port")
    show_document(manifests_text(objects, output), nl=False)
