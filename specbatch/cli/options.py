"""Arguments and options that several commands share."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from specbatch.cli.field_completion import complete_change

SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="PATH=VALUE",
        autocompletion=complete_change,
        help="Change a field of the spec, such as decoding.maxNewTokens=64; the leading spec. may be left out. VALUE is YAML. Repeatable.",
    ),
]
"""`--set path=value`, on every command that reads a spec: pass it on as `load_spec(file, overrides or ())`."""

PriceOption = Annotated[
    float | None,
    typer.Option(
        min=0,
        metavar="AMOUNT",
        help="What one GPU costs for an hour, in any currency: shows what a million generated tokens cost. Default: as the run was given it.",
    ),
]
"""`--price`, on commands that read a run."""

OutputOption = Annotated[Literal["text", "json"], typer.Option("--output", "-o", help="For people, or for programs.")]

SpecArgument = Annotated[str, typer.Argument(metavar="FILE", help="The spec: a YAML file, or - for standard input.")]

RunArgument = Annotated[
    str,
    typer.Argument(
        metavar="DIR", help="The run: the directory that holds its part-*.jsonl, or the URI where it was published."
    ),
]
