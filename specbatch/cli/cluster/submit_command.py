"""`specbatch submit`: a spec as a Job of the cluster."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from specbatch.cli.cluster.cluster_options import ClusterOptions, with_cluster_options
from specbatch.cli.cluster.waiting_display import INTERRUPTED, wait_for_job
from specbatch.cli.options import SetOption, SpecArgument
from specbatch.cli.output import say, show, show_document, show_json

if TYPE_CHECKING:
    from specbatch.api.job import SpecBatchJob
    from specbatch.cluster.client.kinds import Object
    from specbatch.cluster.preflight.permissions import Uses
    from specbatch.cluster.submit.checks import SubmitChecks

_Output = Literal["text", "json", "yaml", "name"]


@with_cluster_options
def submit(
    file: SpecArgument,
    *,
    overrides: SetOption = None,
    wait: Annotated[bool, typer.Option("--wait", help="Return when the Job has ended: 0 complete, 1 not.")] = False,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="As --wait, and print the logs of its pods.")] = False,
    timeout: Annotated[
        float | None, typer.Option(min=0, metavar="SECONDS", help="With --wait or --follow: not longer; exit code 124.")
    ] = None,
    dry_run: Annotated[
        Literal["client", "server"] | None,
        typer.Option(help="Create nothing. client: check the spec alone; server: let the cluster check it, too."),
    ] = None,
    diff: Annotated[bool, typer.Option("--diff", help="Show what would change, as a unified diff.")] = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Replace Jobs of another spec under this name, and one of this spec that has ended."
        ),
    ] = False,
    fresh: Annotated[
        bool,
        typer.Option(
            "--fresh",
            help="Start the run again from its first row, in a results folder of its own; Jobs of the run are replaced, results stay.",
        ),
    ] = False,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Another metadata.name: another run of the same spec.")
    ] = None,
    skip_checks: Annotated[
        bool, typer.Option("--skip-checks", help="Do not look at claims, Secrets, queues and nodes before.")
    ] = False,
    output: Annotated[
        _Output, typer.Option("--output", "-o", help="text, json, yaml or name; of a dry run the manifests.")
    ] = "text",
    options: ClusterOptions,
) -> None:
    """Run a spec as a Kubernetes Job, once every check has passed.

    The Job's name ends in a hash of the spec: the same spec again meets its own Job, and completes what an earlier submit that died
    half-way has left out. Another spec under the same metadata.name is refused, with what differs, unless --force replaces the Job.
    Where it would meet the results of another run, --force is refused as well: --fresh starts again from the first row, in the folder results.name, which
    a later submit of the same file goes on with as long as the Job is there. Results are never deleted. Ctrl-C leaves the Job alone.

    Example: specbatch submit job/quickstart.yaml -n ml --follow

    Exit codes: 0; with --wait and --follow 1 where the Job failed, was cancelled or deleted, and 124 where --timeout passed; without them 1
    where the Job of this spec has failed before; 64 bad spec; 71 the cluster cannot be reached, or refuses, or the name is
    another spec's; 130 Ctrl-C.

    --output json and yaml: run, job, namespace, context, state, shards, shards_done, shards_failed, action (created, completed, attached),
    replaced, warnings, unchecked; with --wait also end (complete, failed, cancelled, deleted, timeout) and reason.
    """
    from specbatch.cluster.manifests.job import render
    from specbatch.cluster.manifests.spec_files import load_for_cluster
    from specbatch.cluster.preflight.permissions import Uses
    from specbatch.cluster.submit.results_name import with_fresh_folder

    if dry_run == "client" and diff:
        raise typer.BadParameter("asks the cluster, and --dry-run=client does not", param_hint="--diff")
    job, files = load_for_cluster(file, overrides or (), name=name, namespace=options.namespace, folder=Path.cwd())
    if fresh:
        job, force = with_fresh_folder(job), True
    manifests = render(job, files)
    if dry_run == "client":
        _show(manifests.objects, f"{file}: ok; it would be Job {manifests.name}", output)
        return
    checks = _checks_of(job, files, options, Uses(wait=wait, follow=follow, force=force), skip=skip_checks)
    if dry_run == "server" or diff:
        _preview(checks, diff=diff, ends=dry_run is not None, output=output)
    if dry_run is None:
        _submit(checks, timeout=timeout, output=output)


def _checks_of(
    job: SpecBatchJob, files: dict[str, bytes], options: ClusterOptions, uses: Uses, *, skip: bool = False
) -> SubmitChecks:
    """The checks of a spec by the cluster of the options, in the namespace of its metadata."""
    from specbatch.cluster.manifests.job import render
    from specbatch.cluster.submit.checks import SubmitChecks
    from specbatch.cluster.submit.results_name import with_folder_of_run

    cluster, _ = replace(options, namespace=job.metadata.namespace).connect()
    job = with_folder_of_run(cluster, job)
    return SubmitChecks(cluster, job, render(job, files), uses, skip=skip)


def dry_run_on_cluster(job: SpecBatchJob, files: dict[str, bytes], options: ClusterOptions) -> None:
    """As `--dry-run server`: shows what the cluster says.

    Raises:
        ClusterError: it refuses, or cannot be asked.
    """
    from specbatch.cluster.preflight.permissions import Uses

    _preview(_checks_of(job, files, options, Uses()), diff=False, ends=True, output="text")


def _show(manifests: list[Object], sentence: str, output: _Output) -> None:
    """What a dry run came to."""
    from specbatch.cluster.jobs.messages import name_text
    from specbatch.cluster.manifests.yaml_text import manifests_text

    if output == "text":
        show(sentence)
    elif output == "name":
        show(name_text([manifests[-1]["metadata"]["name"]]))
    else:
        show_document(manifests_text(manifests, output), nl=False)


def _preview(checks: SubmitChecks, *, diff: bool, ends: bool, output: _Output) -> None:
    """The diff; and of a dry run, whether the submit would do."""
    from specbatch.cluster.submit.submit import refuse_others

    there, force = checks.look(), checks.uses.force
    if diff:
        text = checks.diff(there) or f"nothing would change: Job {checks.manifests.name} is of this spec"
        show(text, err=output != "text")
    if not ends:
        return
    refuse_others(checks.cluster, checks.manifests, there, force=force)
    found = there.attachable(force=force)
    if found is not None:
        assert there.same is not None
        _show(
            [found.job],
            f"Job {found.name} of the same spec is there ({there.same.state}): submit would attach to it",
            output,
        )
        return
    try:
        tried = checks.run()
    finally:
        _warn(checks)
    replaced = "".join(f", in place of Job {view.name}" for view in there.replaced(force=force))
    _show([tried.config_map, tried.job], f"the cluster accepts Job {checks.manifests.name}{replaced}", output)


def _warn(checks: SubmitChecks) -> None:
    from specbatch.cluster.submit.text import unchecked

    for finding in checks.findings:
        if finding.severity == "warning":
            say(f"warning: {finding}")
    unseen = unchecked(checks)
    if unseen:
        say(f"not checked, since reading them is not permitted: {', '.join(unseen)}")


def _submit(checks: SubmitChecks, *, timeout: float | None, output: _Output) -> None:
    from specbatch.cluster.submit.submit import submit as submit_manifests
    from specbatch.cluster.submit.text import submission_document, submission_lines

    def check() -> None:
        try:
            checks.run()
        finally:
            _warn(checks)  # also beside what is refused: everything at once

    uses = checks.uses
    try:
        submission = submit_manifests(
            checks.cluster, checks.manifests, checks.look(), force=uses.force, check=check, say=say, seconds=timeout
        )
    except KeyboardInterrupt:
        say("interrupted; the same command goes on from there")
        raise typer.Exit(INTERRUPTED) from None
    waits = uses.wait or uses.follow
    document = submission_document(checks, submission)
    if output == "text":
        show("\n".join(submission_lines(checks, submission, checks.cluster.flags)))
    elif output == "name" or not waits:
        _print(document, output)
    if waits:
        waited, code = wait_for_job(
            checks.cluster,
            submission.job,
            seconds=timeout,
            emit=show if output == "text" else say,
            follow=uses.follow,
        )
        if output in {"json", "yaml"}:
            _print({**document, **waited}, output)
        raise typer.Exit(code)
    if submission.state in {"failed", "failing", "cancelled"}:
        raise typer.Exit(1)


def _print(document: dict[str, Any], output: _Output) -> None:
    from specbatch.cluster.jobs.messages import name_text
    from specbatch.cluster.manifests.yaml_text import yaml_text

    if output == "json":
        show_json(document)
    elif output == "yaml":
        show_document(yaml_text([document]), nl=False)
    else:
        show(name_text([document["job"]]))
