"""`specbatch validate`: specs and what they name, before anything runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from specbatch.cli.cluster.cluster_options import ClusterOptions, with_cluster_options
from specbatch.cli.options import SetOption
from specbatch.cli.output import show
from specbatch.errors import SpecbatchError, SpecError
from specbatch.formatting import format_facts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from specbatch.api.job import SpecBatchJob


@with_cluster_options
def validate(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="YAML files, or - for standard input.")],
    overrides: SetOption = None,
    target: Annotated[
        Literal["here", "cluster"],
        typer.Option("--for", help="Where it is to run. cluster: also all that submit would say."),
    ] = "here",
    *,
    options: ClusterOptions,
) -> None:
    """Check specs, prompts and models: everything wrong, at once.

    Every problem of every file comes with its path, its line, and the remedy. What the spec names on this machine is looked at: the
    dataset and its first rows, folders of models (config, weights, tokenizer), the template. Models of the hub that are not here, and
    datasets in stores, are not checked, and that is said.

    With --for cluster it is also all that submit would say of the spec; where a cluster is reached, of its claims, Secrets, queues, nodes
    and Jobs, too. Nothing is written.

    Example: specbatch validate my-job.yaml

    Example: specbatch validate my-job.yaml --for cluster -n ml

    Exit codes: 0 where all are right; 64 a spec is wrong, 65 only a dataset is, 66 only a model, 71 the cluster would refuse it.
    """
    codes = [_validate(file, overrides or (), target, options) for file in files]
    wrong = [code for code in codes if code]
    if wrong:
        raise typer.Exit(min(wrong))


def _validate(file: str, overrides: Sequence[str], target: str, options: ClusterOptions) -> int:
    """Looks at one file; returns the exit code."""
    from specbatch.api.loading.local_paths import load_spec_here
    from specbatch.cli.input_checks import check_inputs

    in_pods = target == "cluster"
    if in_pods and options.namespace is not None:
        overrides = [*overrides, f"metadata.namespace={json.dumps(options.namespace)}"]
    try:
        job = load_spec_here(file, overrides)
        found, wrong = check_inputs(job, in_pods=in_pods)
    except SpecError as error:
        return _show_errors(file, [error])
    if in_pods:
        wrong += _offline(job)
    if wrong:
        return _show_errors(file, wrong)
    show(f"{file}: ok ({job.metadata.name}, hash {job.spec_hash()[:12]})")
    show("\n".join(format_facts(found)))
    return _on_cluster(file, job, options) if in_pods else 0


def _show_errors(file: str, wrong: Sequence[SpecbatchError]) -> int:
    """Shows them, and returns the exit code."""
    for error in wrong:
        show(f"error: {error}" if isinstance(error, SpecError) else f"error: {file}: {error}", err=True)
    return min(int(error.exit_code) for error in wrong)


def _offline(job: SpecBatchJob) -> list[SpecbatchError]:
    from specbatch.cluster.manifests.offline_checks import offline_problems

    problems = offline_problems(job, Path.cwd())
    return [SpecError(problems, source=job.metadata.name)] if problems else []


def _on_cluster(file: str, job: SpecBatchJob, options: ClusterOptions) -> int:
    """What a dry run of submit says, where a cluster can be reached."""
    from specbatch.cli.cluster.submit_command import dry_run_on_cluster
    from specbatch.cluster.manifests.bundled_files import read_files
    from specbatch.errors import ClusterError

    named = options.context is not None or options.kubeconfig is not None
    try:
        dry_run_on_cluster(job, read_files(job, Path.cwd()), options)
    except ClusterError as error:
        if error.status is None and error.reason != "Refused" and not named:
            show(f"no cluster was reached, so claims, Secrets, queues and nodes are not checked: {error.message}")
            return 0
        show(f"error: {file}: {error}", err=True)
        return int(error.exit_code)
    return 0
