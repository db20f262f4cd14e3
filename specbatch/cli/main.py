"""The `specbatch` command: every command is registered here, and SpecbatchError is caught here, once.

A command's module imports nothing heavy at its top: `specbatch --help` answers at once, without pydantic, and never with torch.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Annotated

import typer

from specbatch import __version__
from specbatch.cli import (
    collect_command,
    compare_command,
    fetch_command,
    peek_command,
    plan_command,
    report_command,
    reshard_command,
    run_command,
    spec_commands,
    status_command,
    validate_command,
    verify_command,
)
from specbatch.cli.cluster import (
    doctor_command,
    events_command,
    job_commands,
    logs_command,
    render_command,
    submit_command,
    wait_command,
    why_command,
)
from specbatch.cli.completion import COMPLETE_VARIABLE, candidates, completion
from specbatch.cli.help import Commands, add_command, help_
from specbatch.cli.output import show
from specbatch.errors import SpecbatchError

_ABOUT = """\
Batch inference by speculative decoding: a prompt dataset, a target, a drafter, one YAML file.

\b
Here:          specbatch init my-job.yaml, then specbatch run my-job.yaml
On a cluster:  specbatch doctor, then specbatch submit my-job.yaml
"""

# No markup: paths and messages hold brackets that are meant as such.
app = typer.Typer(
    name="specbatch",
    help=_ABOUT,
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

# In the order of use, which is the order of `specbatch --help`.
COMMANDS: dict[str, dict[str, Callable[..., None]]] = {
    "Write a spec": {
        "init": spec_commands.init,
        "peek": peek_command.peek,
        "validate": validate_command.validate,
        "explain": spec_commands.explain,
        "schema": spec_commands.schema,
        "plan": plan_command.plan,
    },
    "Run it": {
        "fetch": fetch_command.fetch,
        "run": run_command.run,
        "doctor": doctor_command.doctor,
        "submit": submit_command.submit,
        "render": render_command.render,
    },
    "Watch a run": {
        "list": job_commands.list_runs,
        "status": status_command.status,
        "why": why_command.why,
        "logs": logs_command.logs,
        "events": events_command.events,
        "wait": wait_command.wait,
    },
    "Steer a run": {
        "suspend": job_commands.suspend,
        "resume": job_commands.resume,
        "cancel": job_commands.cancel,
        "retry": job_commands.retry,
        "reshard": reshard_command.reshard,
        "delete": job_commands.delete,
    },
    "Take its results": {
        "collect": collect_command.collect,
        "report": report_command.report,
        "verify": verify_command.verify,
        "compare": compare_command.compare,
    },
    "Help": {"help": help_, "completion": completion},
}
for _group, _commands in COMMANDS.items():
    for _name, _function in _commands.items():
        add_command(app, _name, _function, _group)


def _show_version(wanted: bool) -> None:
    if wanted:
        show(f"specbatch {__version__}")
        raise typer.Exit


@app.callback()
def _specbatch(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Takes the options before a command."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code (docs/reference/exit-codes.md; 2 for wrong usage, 130 for Ctrl-C)."""
    sys.excepthook = _show_bug
    try:
        if arguments is None and COMPLETE_VARIABLE in os.environ:
            for word, text in candidates(app, os.environ[COMPLETE_VARIABLE]):
                show(f"{word}\t{text}")
            return 0
        code = _run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # `specbatch schema | head -1`: the reader has gone. Python's own flush at exit must not complain either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code


def _show_bug(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """A traceback, as Python prints it, without secrets: a driver's message may hold a signed URL."""
    import traceback

    show("".join(traceback.format_exception(kind, error, trace)), err=True, nl=False)


def _run(arguments: Sequence[str] | None) -> int:
    try:
        app(args=arguments, prog_name="specbatch")
    except SpecbatchError as error:
        show(f"error: {error}", err=True)
        return int(error.exit_code)
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else 0
    raise AssertionError("Typer ends every command with SystemExit")
