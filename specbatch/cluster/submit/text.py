"""The result of a submit as text and as JSON."""

from __future__ import annotations

from typing import Any

from specbatch.cluster.client.flags import Flags
from specbatch.cluster.jobs.job_view import JobView, reason_text
from specbatch.cluster.jobs.messages import job_document, next_commands, results_text, shape_text
from specbatch.cluster.submit.checks import SubmitChecks
from specbatch.cluster.submit.submit import Submission


def submission_lines(checks: SubmitChecks, submission: Submission, flags: Flags) -> list[str]:
    """What was done, the shape of the Job, and the next commands."""
    view, cluster = JobView(submission.job), checks.cluster
    where = f"in namespace {view.namespace} (context {cluster.context})"
    lines = [f"deleted Job {name}" for name in submission.replaced]
    match submission.action:
        case "created":
            lines.append(f"created Job {view.name} {where}")
        case "completed":
            lines.append(f"started Job {view.name} {where}: an earlier submit had left it half-way")
        case "attached":
            return [
                *lines,
                f"Job {view.name} of the same spec {_found(submission, flags)}",
                *next_commands(view.run, flags),
            ]
    lines.append(f"  {shape_text(checks.job)}")
    results = results_text(checks.job)
    if results:
        lines.append(f"  results: {results}")
    if submission.state == "queued":
        lines.append(f"  it starts when queue {view.queue} admits it")
    return [*lines, *next_commands(view.run, flags)]


def submission_document(checks: SubmitChecks, submission: Submission) -> dict[str, Any]:
    """The same for --output json; keys may be added, none changes."""
    return {
        **job_document(JobView(submission.job)),
        "context": checks.cluster.context,
        "state": submission.state,
        "action": submission.action,
        "replaced": list(submission.replaced),
        "warnings": [str(finding) for finding in checks.findings if finding.severity == "warning"],
        "unchecked": unchecked(checks),
    }


def unchecked(checks: SubmitChecks) -> list[str]:
    """What could not be checked for lack of permissions."""
    return [finding.subject for finding in checks.findings if finding.severity == "unchecked"]


def _found(submission: Submission, flags: Flags) -> str:
    view = JobView(submission.job)
    reason = reason_text(view.failing)
    match submission.state:
        case "complete":
            return "is complete: nothing to do"
        case "failed":
            again = f"{flags.command('why', view.run)} says why; submit --force tries once more"
            if view.fatal_exit_code is None:
                again = f"{flags.command('retry', view.run)} runs what is not done; submit --force tries all of it once more"
            return f"has failed ({reason}); {again}" if reason else f"has failed; {again}"
        case "failing":
            return f"is failing ({reason}): its last pods are ending"
        case "cancelled":
            return f"was cancelled; {flags.command('resume', view.run)} goes on with it"
        case "suspended":
            return f"is suspended; {flags.command('resume', view.run)} goes on with it"
        case state:
            return f"is there already, {state}: attached to it"
