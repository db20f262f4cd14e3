"""Help as plain text of 80 columns: commands in groups, each with one whole sentence; `specbatch help`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from specbatch.cli.output import show

_OPTIONS = "Options"


class Command(TyperCommand):
    """A command whose arguments are shown by the names that its text uses: FILE where it is required, [FILE] where not."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """The words after the command's name in the usage line."""
        arguments = (one for one in self.get_params(ctx) if one.param_type_name == "argument")
        return ["[OPTIONS]", *(str(one.metavar) if one.required else f"[{one.metavar}]" for one in arguments)]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parses; an option that there is not, but a field, or a flag of another engine, says what to do instead."""
        try:
            return super().parse_args(ctx, args)
        except Exception as error:
            # Typer's NoSuchOption, which is public in no version of it
            name = getattr(error, "option_name", "").lstrip("-")
            of_spec = any("--set" in one.opts for one in self.get_params(ctx))
            advice = _instead_of_option(name) if of_spec and type(error).__name__ == "NoSuchOption" else None
            if advice is not None:
                error.message = f"{error.message.rstrip('.')}; {advice}"  # type: ignore[attr-defined]  # as above
                error.possibilities = None  # type: ignore[attr-defined]  # as above
            raise

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Writes the arguments, then the options in their groups."""
        groups: dict[str, list[tuple[str, str]]] = {"Arguments": [], _OPTIONS: []}
        for one in self.get_params(ctx):
            record = one.get_help_record(ctx)
            if record is not None and one.param_type_name == "argument":
                groups["Arguments"].append((str(one.metavar), getattr(one, "help", None) or ""))
            elif record is not None:
                groups.setdefault(getattr(one, "rich_help_panel", None) or _OPTIONS, []).append(record)
        _write(formatter, groups.items())


class Commands(TyperGroup):
    """The commands by group, in the order in which they were registered, before the options."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Writes the commands, then the options."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for name, command in self.commands.items():
            groups.setdefault(str(getattr(command, "rich_help_panel", "")), []).append((name, command.short_help or ""))
        records = (one.get_help_record(ctx) for one in self.get_params(ctx))
        _write(formatter, [*groups.items(), (_OPTIONS, [record for record in records if record is not None])])


def _instead_of_option(name: str) -> str | None:
    from specbatch.api.hints.nearest import is_same
    from specbatch.api.hints.other_engines import instead_of, meant_field
    from specbatch.api.job import SpecBatchJob
    from specbatch.api.paths import all_field_paths

    fields = [path for path in all_field_paths(SpecBatchJob) if path[0] == "spec" and is_same(name, str(path[-1]))]
    field = meant_field(name) or (".".join(map(str, fields[0][1:])) if fields else None)
    return instead_of(name) if field is None else f"fields of the spec are set by --set {field}=VALUE"


def _write(formatter: Any, groups: Iterable[tuple[str, list[tuple[str, str]]]]) -> None:
    """Sections whose texts all begin in the same column, where the names leave room for that."""
    groups = [(title, rows) for title, rows in groups if rows]
    width = max((len(name) for _, rows in groups for name, _ in rows), default=0)
    for title, rows in groups:
        with formatter.section(title):
            formatter.write_dl([(name.ljust(min(width, 30)), text) for name, text in rows])


def add_command(app: typer.Typer, name: str, function: Callable[..., None], group: str) -> None:
    """Registers a command. The first paragraph of its docstring is its line in the list; examples keep their line ends."""
    text = inspect.cleandoc(function.__doc__ or "")
    short = text.partition("\n\n")[0]
    whole = text.replace("\n\nExample", "\n\n\b\nExample")
    app.command(name, cls=Command, help=whole, short_help=short, rich_help_panel=group)(function)


def _names(ctx: typer.Context) -> list[tuple[str, str]]:
    commands = ctx.find_root().command.commands  # type: ignore[attr-defined]  # a Commands
    return [(name, one.short_help or "") for name, one in commands.items()]


def help_(
    ctx: typer.Context,
    command: Annotated[
        str | None,
        typer.Argument(metavar="COMMAND", help="Default: the list of commands.", autocompletion=_names),
    ] = None,
) -> None:
    """Show the help of a command.

    Example: specbatch help run
    """
    root = ctx.parent
    assert root is not None, "a command of the app"
    if command is None:
        show(root.get_help())
        return
    _, found, _ = root.command.resolve_command(root, [command])  # type: ignore[attr-defined]  # a Commands
    show(found.get_help(typer.Context(found, info_name=command, parent=root)))
