"""Commands about Jobs that are there: list, suspend, resume, cancel, retry, delete."""

from __future__ import annotations

import sys
from typing import Annotated, Literal

import typer

from specbatch.cli.cluster.cluster_options import ClusterOptions, NameArgument, with_cluster_options
from specbatch.cli.output import say, show, show_json


@with_cluster_options
def list_runs(
    *,
    all_namespaces: Annotated[
        bool, typer.Option("--all-namespaces", "-A", help="Of every namespace that may be read.")
    ] = False,
    output: Annotated[
        Literal["text", "json", "name"], typer.Option("--output", "-o", help="text, json or name.")
    ] = "text",
    options: ClusterOptions,
) -> None:
    """List the runs of a namespace: state, shards, age.

    A run and its retries are one line.

    Example: specbatch list -n ml

    Exit codes: 0, also where there is none; 71 the cluster cannot be reached, or refuses.

    --output json: a list of run, namespace, state, job, shards, shards_done, shards_failed, tries, queue, created.
    """
    from specbatch.cluster.jobs.listing import run_document, runs, runs_text
    from specbatch.cluster.jobs.messages import name_text

    cluster, _ = options.connect()
    found = runs(cluster, all_namespaces=all_namespaces)
    if output == "json":
        show_json([run_document(run) for run in found])
    elif not found:
        say(f"no runs in {'any namespace' if all_namespaces else f'namespace {cluster.namespace}'}")
    elif output == "name":
        show(name_text([run.newest.name for run in found]))
    else:
        show(runs_text(found, all_namespaces=all_namespaces))


@with_cluster_options
def suspend(name: NameArgument = None, *, options: ClusterOptions) -> None:
    """Stop a run's pods until `resume`; finished rows are saved.

    Example: specbatch suspend nightly -n ml

    Exit codes: 0, also where it is suspended or has ended; 71 there is no such run, it is Kueue's to suspend, or the cluster refuses.
    """
    from specbatch.cluster.jobs.suspend import suspend as done
    from specbatch.cluster.status.stop import stop

    cluster, run = options.connect(name)
    show(stop(cluster, run, done))


@with_cluster_options
def resume(name: NameArgument = None, *, options: ClusterOptions) -> None:
    """Set a suspended or cancelled run going again.

    Rows that are finished stay finished.

    Example: specbatch resume nightly -n ml

    Exit codes: 0, also where it is not suspended or complete; 71 there is no such run, it has failed (see retry), it is Kueue's to resume,
    or the cluster refuses.
    """
    from specbatch.cluster.jobs.suspend import resume as done

    show(done(*options.find_job(name)))


@with_cluster_options
def cancel(name: NameArgument = None, *, options: ClusterOptions) -> None:
    """End a run; its results and its Job's record stay.

    Its pods save what they have and stop. The Job is suspended and marked as cancelled, so `wait` and `submit --wait` end with 1; `resume` undoes it, `delete` removes it. A Job of
    Kueue's, which alone may suspend it, gets a deadline of one second instead: it fails, and `retry` goes on with it.

    Example: specbatch cancel nightly -n ml

    Exit codes: 0, also where it has ended before; 71 there is no such run, or the cluster refuses.
    """
    from specbatch.cluster.jobs.suspend import cancel as done
    from specbatch.cluster.status.stop import stop

    cluster, run = options.connect(name)
    show(stop(cluster, run, done))


@with_cluster_options
def retry(
    name: NameArgument = None,
    *,
    output: Annotated[Literal["text", "name"], typer.Option("--output", "-o", help="text or name.")] = "text",
    options: ClusterOptions,
) -> None:
    """Run again the shards that failed or were not finished.

    A new Job runs them, and nothing else. The spec comes from the ConfigMap of the Job before: no file is needed. Rows that a shard has finished stay finished.

    Example: specbatch retry nightly -n ml

    Exit codes: 0, also where nothing is left to do; 71 there is no such run, its Job has not ended, or the cluster refuses.
    """
    from specbatch.cluster.jobs.job_view import JobView
    from specbatch.cluster.jobs.messages import name_text, next_commands
    from specbatch.cluster.jobs.retry import retry as done

    cluster, job = options.find_job(name)
    retried = done(cluster, job)
    if retried.warning:
        say(f"warning: {retried.warning}")
    view = JobView(retried.job)
    if output == "name":
        show(name_text([view.name]))
        return
    show(retried.done)
    if retried.shards:
        show("\n".join(next_commands(view.run, cluster.flags)))


@with_cluster_options
def delete(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A run (metadata.name), a Job, or a spec file.")],
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    options: ClusterOptions,
) -> None:
    """Delete a run's Jobs, ConfigMaps and pods, never its results.

    The name of one Job deletes that one.

    Example: specbatch delete nightly -n ml --yes

    Exit codes: 0, also where nothing is there; 1 where the question was answered by no; 2 where nobody can be asked, and --yes is missing; 71
    the Job is Helm's, or the cluster refuses.
    """
    from specbatch.cluster.jobs.deletion import delete as done
    from specbatch.cluster.jobs.deletion import run_objects

    cluster, run = options.connect(name)
    assert run is not None
    found = run_objects(cluster, run)
    if not found:
        show(f"nothing to delete: there is no run and no Job named {run} in namespace {cluster.namespace}")
        return
    if not yes:
        if not sys.stdin.isatty():
            raise typer.BadParameter("needed where nobody can be asked", param_hint="--yes")
        typer.confirm(
            f"delete {found.text} in namespace {cluster.namespace}?{' Results stay' if found.wrote else ''}", abort=True
        )
    done(cluster, found)
    stay = f"results stay: {found.results}" if found.results else "results stay where they are"
    stay = stay if found.wrote else "it had never started, and has no results"
    show(f"deleted {found.text} in namespace {cluster.namespace}; {stay}")
