"""Commands about the spec itself: validate, explain, schema, init. They need no model, no GPU and no cluster."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from specbatch.cli.field_completion import complete_field
from specbatch.cli.options import SetOption
from specbatch.cli.output import show, show_document
from specbatch.errors import DatasetError, Problem, SpecError

if TYPE_CHECKING:
    from specbatch.api.dataset import DatasetSpec


def validate(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="YAML files, or - for standard input.")],
    overrides: SetOption = None,
) -> None:
    """Check spec files: everything wrong, at once.

    Every problem of every file comes with its path, its line, and the remedy. A dataset that is on this machine is looked at, too:
    whether its files are of a kind that can be read.

    Example: specbatch validate job/*.yaml

    Exit code 0 where all are right, 64 where a spec is wrong, 65 where only a dataset is.
    """
    from specbatch.api import load_spec

    codes = set()
    for file in files:
        try:
            job = load_spec(file, overrides or ())
            left_out = _look_at_dataset(job.spec.dataset)
        except (SpecError, DatasetError) as error:
            codes.add(error.exit_code)
            show(f"error: {error}" if isinstance(error, SpecError) else f"error: {file}: {error}", err=True)
        else:
            show(f"{file}: ok ({job.metadata.name}, hash {job.spec_hash()[:12]})")
            if left_out:
                show(f"{file}: {left_out}")
    if codes:
        raise typer.Exit(min(codes))


def _look_at_dataset(dataset: DatasetSpec) -> str:
    """What a folder leaves out, in words; nothing of a dataset that is elsewhere: in a store, in a pod's volume.

    Raises:
        DatasetError: it is here, and cannot be read.
    """
    from specbatch.runner.dataset.dataset import Dataset
    from specbatch.runner.dataset.sources import is_here

    if not is_here(dataset.uri):
        return ""
    found = Dataset(dataset)
    found.check_readable()
    return found.left_out


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
        raise SpecError([Problem("file", f"cannot be written: {reason}")], source=str(file)) from None
