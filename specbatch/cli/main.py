"""The `specbatch` command: every command is registered here, and SpecbatchError is caught here, once.

A command's module imports nothing heavy at its top: `specbatch --help` answers at once, without pydantic, and never with torch.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Annotated

import typer

from specbatch import __version__
from specbatch.cli import (
    collect_command,
    compare_command,
    doctor_command,
    events_command,
    fetch_command,
    job_commands,
    logs_command,
    plan_command,
    render_command,
    report_command,
    reshard_command,
    run_command,
    spec_commands,
    status_command,
    submit_command,
    verify_command,
    wait_command,
    why_command,
)
from specbatch.cli.output import show
from specbatch.errors import SpecbatchError

# No markup: paths and messages hold brackets that are meant as such.
app = typer.Typer(
    name="specbatch",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

# In the order of use, which is the order of `specbatch --help`.
app.command()(spec_commands.init)
app.command()(spec_commands.validate)
app.command()(spec_commands.explain)
app.command()(spec_commands.schema)
app.command()(plan_command.plan)
app.command()(fetch_command.fetch)
app.command()(run_command.run)
app.command()(render_command.render)
app.command()(doctor_command.doctor)
app.command()(submit_command.submit)
app.command("list")(job_commands.list_runs)
app.command()(status_command.status)
app.command()(why_command.why)
app.command()(logs_command.logs)
app.command()(events_command.events)
app.command()(wait_command.wait)
app.command()(job_commands.suspend)
app.command()(job_commands.resume)
app.command()(job_commands.cancel)
app.command()(job_commands.retry)
app.command()(job_commands.delete)
app.command()(collect_command.collect)
app.command()(reshard_command.reshard)
app.command()(report_command.report)
app.command()(verify_command.verify)
app.command()(compare_command.compare)


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
    """Batch inference by speculative decoding: a prompt dataset, a target, a drafter, one YAML file.

    Start with: specbatch init, then specbatch run spec.yaml; on a cluster: specbatch doctor, then specbatch submit spec.yaml
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code (docs/reference/exit-codes.md; 2 for wrong usage, 130 for Ctrl-C)."""
    sys.excepthook = _show_bug
    try:
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
