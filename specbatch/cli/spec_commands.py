"""Commands about the spec itself: explain, schema, init. They need no model, no GPU and no cluster."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from specbatch.cli.field_completion import complete_field
from specbatch.cli.output import show, show_document
from specbatch.errors import Problem, SpecError


def explain(
    path: Annotated[
        str, typer.Argument(metavar="PATH", help="A field, such as placement.ratio.", autocompletion=complete_field)
    ] = "",
    *,
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Show the fields within fields, too.")] = False,
) -> None:
    """Show what a field means, and the fields in it.

    Example: specbatch explain placement.strategy
    """
    from specbatch.api.explain import explain as explanation

    show(explanation(path, recursive=recursive), nl=False)


def schema() -> None:
    """Print the JSON schema of a spec, for editors.

    Example: specbatch schema > specbatchjob.schema.json
    """
    import json

    from specbatch.api.schema import json_schema

    show_document(json.dumps(json_schema(), indent=2, ensure_ascii=False))


def init(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write it. Default: my-job.yaml.")] = Path(
        "my-job.yaml"
    ),
    *,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing FILE; never its prompts.")] = False,
) -> None:
    """Write a spec that runs on any machine, and its prompts.

    The prompts go into prompts.jsonl beside FILE, unless there is such a file.

    Example: specbatch init my-job.yaml
    """
    from specbatch.api.starter import PROMPTS_NAME, starter, starter_prompts

    prompts = file.with_name(PROMPTS_NAME)
    _write_new(file, starter(file), force=force)
    if prompts.exists():
        show(f"wrote {file}; {prompts} is there already, and its prompts are the dataset")
    else:
        _write_new(prompts, starter_prompts())
        show(f"wrote {file} and {prompts}")
    show(
        f"next: specbatch run {shlex.quote(str(file))}; then put in models and prompts of your own, as its comments say"
    )


def _write_new(file: Path, text: str, *, force: bool = False) -> None:
    try:
        with file.open("w" if force else "x", encoding="utf-8") as opened:
            opened.write(text)
    except FileExistsError:
        problem = Problem("file", "exists already", "give another name, or --force to overwrite it")
        raise SpecError([problem], source=str(file)) from None
    except OSError as error:
        reason = error.strerror or str(error)
        remedy = "" if file.parent.is_dir() else f"make its folder first: mkdir -p {shlex.quote(str(file.parent))}"
        raise SpecError([Problem("file", f"cannot be written: {reason}", remedy)], source=str(file)) from None
