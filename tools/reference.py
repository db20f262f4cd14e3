"""The pages of docs/reference, from the types, the exit codes and the table of row options."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pydantic.alias_generators import to_camel

from specbatch.api.decoding import DecodingSpec
from specbatch.api.explain import FieldDoc, documentation, yaml_value
from specbatch.api.job import Spec
from specbatch.api.rules.engine import not_of_vllm
from specbatch.api.words import field_branches, words_of
from specbatch.errors import ExitCode
from specbatch.runner.rows.row_options import OPTIONS, RowOption

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


_SETS = {
    "top_k": "sets `topK`; -1 is 0",
    "logprobs": "true: sets `topLogprobs` to `top_logprobs` or 0; a number: to that",
    "echo": "sets `echo`; of a prompt without a chat template",
    "do_sample": "false: `temperature` 0; true: refused at temperature 0",
    "template_kwargs": "variables of the chat template",
    "structured_output": "sets `structuredOutput`",
    "tools": "for the chat template; calls in the text are read into `tool_calls`; `strict: true` holds a call to its schema only where `tool_choice` has one made",
    "tool_choice": "none: no tools; required, or a function: the text is held to a call's form; auto: it is held to none, with `strict: true` of a tool neither",
    "parallel_tool_calls": "false: one call at the most",
    "add_generation_prompt": "whether the template begins the assistant's turn",
    "continue_final_message": "the last message, the assistant's, is continued",
    "system_prompt": "a system message before the others, in place of `dataset.systemPrompt`; refused beside another one",
    "enable_thinking": "sets `dataset.enableThinking`",
}


def row_options() -> str:
    """Which fields of a row are options, and what becomes of each."""
    lines = [
        _MADE,
        "",
        "# Options of a row",
        "",
        (
            "A row may carry options by the names that OpenAI, vLLM, transformers, TGI and Ollama give them; so may the `body` of a request of OpenAI's batch "
            "API. An option of this page is honoured, or its row goes to the errors file with the code `unsupported_option`: no row is answered as if an "
            "option had not been there. Every other column of a row is data; in a body, where everything is an option, an unknown name is refused (`unknown_field`)."
        ),
        "",
        (
            "Names count in any case and with or without `_` and `-`: `ignoreEOS` is `ignore_eos`. Null and the values in the last column ask for nothing, and so does whatever is empty of "
            "an option that is refused here. Of the others empty text is as if they were left out, but in the place of a number, or of true or false, where it is refused; an empty list sets "
            "just that: `stop: []` takes the spec's stop strings away. A name that is nearly one of the first two tables' is refused, too (`unknown_field`). Where such a column is data, rename it, or list it: `dataset.ignoreFields: [system, tools]`."
        ),
        "",
    ]
    for title, options in OPTIONS.items():
        lines += [f"## {title}", "", "| Option | Other names | Here | No effect as |", "|---|---|---|---|"]
        lines += [_option_row(option) for option in options]
        lines.append("")
    return "\n".join(lines)


def _option_row(option: RowOption) -> str:
    others = ", ".join(f"`{name}`" for name in option.also)
    neutral = ", ".join(f"`{json.dumps(value)}`" for value in option.neutral)
    return f"| `{option.name}` | {others} | {_cell(_what_becomes_of(option))} | {_cell(neutral)} |"


def _what_becomes_of(option: RowOption) -> str:
    if option.harmless:
        return "passed over"
    if option.sets:
        what = _SETS.get(option.sets, f"sets `{to_camel(option.sets)}`") + _range(option.sets)
    elif option.holds:
        what = "options of this page" if option.holds == "options" else f"`{option.holds}` alone"
    else:
        what = f"refused: {option.remedy}" if option.remedy else "refused"
    return f"{what}; data unless it is {_kinds(option)}" if option.only else what


def _range(field: str) -> str:
    """What the decoding's field takes, and which engines do not have it."""
    if field not in DecodingSpec.model_fields:
        return ""
    known = DecodingSpec.model_fields[field]
    takes = field_branches(known)
    values = (
        "" if any(one.model is not None for one in takes) else f"; {words_of(takes)}"
    )  # each option has a part of it
    return f"{values}{_not_of_vllm(field, known.examples or [])}"


def _not_of_vllm(field: str, examples: list[Any]) -> str:
    """Where vLLM refuses a spec that asks for it, without a drafter or with one alone."""
    for drafter, where in (
        (None, "; not with engine vllm"),
        ({"model": "b"}, "; not with engine vllm beside a drafter"),
    ):
        for value in examples:
            asked = {"target": {"model": "a"}, "drafter": drafter, "dataset": {"uri": "d"}, "decoding": {field: value}}
            if any(
                problem.path == f"spec.decoding.{to_camel(field)}"
                for problem in not_of_vllm(Spec.model_validate(asked))
            ):
                return where
    return ""


def _kinds(option: RowOption) -> str:
    if option.holds:
        return "a mapping with a name of this page"
    words = {dict: "a mapping", list: "a list", bool: "true or false", int: "a whole number"}
    return " or ".join(f"`{json.dumps(kind)}`" if isinstance(kind, str) else words[kind] for kind in option.only)
