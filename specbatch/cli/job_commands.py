"""Commands about Jobs that are there: list, suspend, resume, cancel, retry, delete."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Literal

import typer

from specbatch.cli.cluster_options import ContextOption, KubeconfigOption, NameArgument, NamespaceOption, connect
from specbatch.cli.output import show
from specbatch.cli.waiting_display import say


def list_runs(
    *,
    all_namespaces: Annotated[
        bool, typer.Option("--all-namespaces", "-A", help="Of every namespace that may be read.")
    ] = False,
    output: Annotated[
        Literal["text", "json", "name"], typer.Option("--output", "-o", help="text, json or name.")
    ] = "text",
    context: ContextOption = None,
    namespace: NamespaceOption = None,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """List the runs of a namespace: state, shards done and failed, age. A run and its retries are one line.

    Example: specbatch list -n ml

    Exit codes: 0, also where there is none; 71 the cluster cannot be reached, or refuses.

    --output json: a list of run, namespace, state, job, shards, shards_done, shards_failed, tries, queue, created.
    """
    from specbatch.cluster.jobs.listing import run_document, runs, runs_text
    from specbatch.cluster.jobs.messages import name_text

    cluster, _ = connect(None, context, namespace, kubeconfig)
    found = runs(cluster, all_namespaces=all_namespaces)
    if output == "json":
        show(json.dumps([run_document(run) for run in found], indent=2))
    elif not found:
        say(f"no runs in {'any namespace' if all_namespaces else f'namespace {cluster.namespace}'}")
    elif output == "name":
        show(name_text([run.newest.name for run in found]))
    else:
        show(runs_text(found, all_namespaces=all_namespaces))


def suspend(
    name: NameArgument = None,
    *,
    context: ContextOption = None,
    namespace: NamespaceOption = None,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """Stop a run's pods until `resume`; every finished row is saved.

    Example: specbatch suspend nightly -n ml

    Exit codes: 0, also where it is suspended or has ended; 71 there is no such run, it is Kueue's to suspend, or the cluster refuses.
    """
    from specbatch.cluster.jobs.suspend import suspend as done
    from specbatch.cluster.status.stop import stop

    cluster, run = connect(name, context, namespace, kubeconfig)
    show(stop(cluster, run, done))


def resume(
    name: NameArgument = None,
    *,
    context: ContextOption = None,
    namespace: NamespaceOption = None,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """Set a suspended or cancelled run going again, with the rows that are not finished.

    Example: specbatch resume nightly -n ml

    Exit codes: 0, also where it is not suspended or complete; 71 there is no such run, it has failed (see retry), it is Kueue's to resume,
    or the cluster refuses.
    """
    from specbatch.cluster.jobs.lookup import find_job
    from specbatch.cluster.jobs.suspend import resume as done

    cluster, run = connect(name, context, namespace, kubeconfig)
    show(done(cluster, find_job(cluster, run)))


def cancel(
    name: NameArgument = None,
    *,
    context: ContextOption = None,
    namespace: NamespaceOption = None,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """End a run: its pods save what they have and stop, the Job's record and the results stay.

    The Job is suspended and marked as cancelled, so `wait` and `submit --wait` end with 1; `resume` undoes it, `delete` removes it. A Job of
    Kueue's, which alone may suspend it, gets a deadline of one second instead: it fails, and `retry` goes on with it.

    Example: specbatch cancel nightly -n ml

    Exit codes: 0, also where it has ended before; 71 there is no such run, or the cluster refuses.
    """
    from specbatch.cluster.jobs.suspend import cancel as done
    from specbatch.cluster.status.stop import stop

    cluster, run = connect(name, context, namespace, kubeconfig)
    show(stop(cluster, run, done))


def retry(
    name: NameArgument = None,
    *,
    output: Annotated[Literal["text", "name"], typer.Option("--output", "-o", help="text or name.")] = "text",
    context: ContextOption = None,
    namespace: NamespaceOption = None,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """Start a Job for the shards of a run that failed or were not finished, and for nothing else.

    The spec comes from the ConfigMap of the Job before: no file is needed. Rows that a shard has finished stay finished.

    Example: specbatch retry nightly -n ml

    Exit codes: 0, also where nothing is left to do; 71 there is no such run, its Job has not ended, or the cluster refuses.
    """
    from specbatch.cluster.jobs.job_view import JobView
    from specbatch.cluster.jobs.lookup import find_job
    from specbatch.cluster.jobs.messages import Flags, name_text, next_commands
    from specbatch.cluster.jobs.retry import retry as done

    cluster, run = connect(name, context, namespace, kubeconfig)
    retried = done(cluster, find_job(cluster, run))
    if retried.warning:
        say(f"warning: {retried.warning}")
    view = JobView(retried.job)
    if output == "name":
        show(name_text([view.name]))
        return
    show(retried.done)
    if retried.shards:
        show("\n".join(next_commands(view.run, Flags(context, namespace, kubeconfig))))


def delete(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A run (metadata.name), a Job, or a spec file.")],
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    context: ContextOption = None,
    namespace: NamespaceOption = None,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """Delete a run's Jobs, ConfigMaps and pods; never its results. The name of one Job deletes that one.

    Example: specbatch delete nightly -n ml --yes

    Exit codes: 0, also where nothing is there; 1 where the question was answered by no; 2 where nobody can be asked, and --yes is missing; 71
    the Job is Helm's, or the cluster refuses.
    """
    from specbatch.cluster.jobs.deletion import delete as done
    from specbatch.cluster.jobs.deletion import run_objects

    cluster, run = connect(name, context, namespace, kubeconfig)
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
