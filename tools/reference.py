"""The pages of docs/reference, from the types and the exit codes."""

from __future__ import annotations

from collections.abc import Iterator

from specbatch.api.explain import FieldDoc, documentation, yaml_value
from specbatch.errors import ExitCode

_MADE = "<!-- Made by `python -m tools.generate`; do not edit. -->"


def spec_reference() -> str:
    """Every field of a SpecBatchJob, section by section."""
    lines = [
        _MADE,
        "",
        "# The spec: SpecBatchJob v1alpha1",
        "",
        documentation().description,
        "",
        (
            "`specbatch explain PATH` shows any of this in a terminal, `specbatch validate FILE` checks a file, "
            "`specbatch init` writes a starter. [specbatchjob.schema.json](specbatchjob.schema.json) teaches it to an editor."
        ),
        "",
        (
            "Keys are camelCase, unknown keys are refused, and `null` is the same as leaving a field out. Every command that reads a spec takes "
            "`--set path=value`."
        ),
        "",
    ]
    for doc in documentation().walk():
        if doc.children:
            lines += _section(doc)
    return "\n".join(lines)


def _section(doc: FieldDoc) -> Iterator[str]:
    if doc.path:
        yield from (f"## {doc.path}", "", doc.description, "")
    yield from ("| Field | Type | Default | What it is |", "|---|---|---|---|")
    for child in doc.children:
        shown = child.default_words if child.required or child.default in (None, {}, []) else f"`{child.default_words}`"
        if child.is_section:
            shown = "required" if child.required else "section" if child.default is not None else "none"
            kind = f"[section](#{_anchor(child.path)})"
        else:
            kind = child.type_words
        example = f" Example: `{child.name}: {yaml_value(child.example)}`"
        yield f"| `{child.name}` | {_cell(kind)} | {_cell(shown)} | {_cell(child.description + example)} |"
    yield ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def _anchor(path: str) -> str:
    """The anchor that GitHub makes of a heading."""
    return "".join(letter for letter in path.lower() if letter.isalnum() or letter in "-_")


def exit_codes() -> str:
    """The exit codes of the runner and of the commands."""
    lines = [
        _MADE,
        "",
        "# Exit codes",
        "",
        "Scripts and Kubernetes' podFailurePolicy may rely on them. The table is made from `specbatch.errors.ExitCode`.",
        "",
        "| Code | Name | Meaning | May another attempt succeed? |",
        "|---|---|---|---|",
        *(f"| {code.value} | `{code.name}` | {code.meaning} | {_retry(code)} |" for code in ExitCode),
        "",
        (
            "Besides: 1 the answer is no (`collect`: rows are missing; `wait`, `submit --wait`: the Job failed, was cancelled or deleted; `doctor`: a check failed), the "
            "reader of the output went away, or a bug (with a traceback); 2 wrong usage of a command; 124 `--timeout` has passed; 130 Ctrl-C."
        ),
        "",
    ]
    return "\n".join(lines)


def _retry(code: ExitCode) -> str:
    if code is ExitCode.DONE:
        return "not needed"
    return "yes" if code.retryable else "no, change something first"
