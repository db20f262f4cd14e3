"""Rules about where the prompt of a row comes from: its form, its column, or a template over its columns."""

from __future__ import annotations

from collections.abc import Iterator

from specbatch.api.dataset import DatasetSpec
from specbatch.api.job import SpecBatchJob
from specbatch.api.rules.rule import rule
from specbatch.errors import Problem

_FORMS = frozenset({"messages", "openai", "alpaca", "sharegpt"})
_TEMPLATE = "spec.dataset.template"
_ONE = "one of them says what the prompt is: leave the other out"


@rule("dataset.format", "dataset.answerField")
def _text_rows_have_no_fields(job: SpecBatchJob) -> Iterator[Problem]:
    dataset = job.spec.dataset
    if dataset.format == "text" and dataset.answer_field is not None:
        yield Problem(
            "spec.dataset.answerField",
            "lines of plain text have no fields, but dataset.format is text",
            "leave answerField out, or give JSON lines and format jsonl",
        )


@rule("dataset.promptField", "dataset.answerField")
def _prompt_and_answer_differ(job: SpecBatchJob) -> Iterator[Problem]:
    dataset = job.spec.dataset
    prompt_field = dataset.prompt_field or "prompt"
    if dataset.answer_field == prompt_field:
        yield Problem(
            "spec.dataset.answerField",
            f"is the same key as promptField: {prompt_field}",
            "name the key of the reference answer",
        )


@rule("dataset.promptField", "dataset.format", "dataset.template")
def _the_prompt_has_one_source(job: SpecBatchJob) -> Iterator[Problem]:
    dataset = job.spec.dataset
    if dataset.prompt_field is not None and dataset.format in {"openai", "alpaca", "text"}:
        yield Problem("spec.dataset.promptField", f"has no place in rows of dataset.format {dataset.format}", _ONE)
    if dataset.template is None:
        return
    if dataset.prompt_field is not None:
        yield Problem(_TEMPLATE, "stands beside dataset.promptField", _ONE)
    if dataset.format in _FORMS:
        yield Problem(_TEMPLATE, f"stands beside dataset.format {dataset.format}, which is a form of rows", _ONE)


@rule("dataset.template", "dataset.systemPrompt", "dataset.chatTemplate")
def _a_template_makes_a_conversation(job: SpecBatchJob) -> Iterator[Problem]:
    dataset = job.spec.dataset
    if dataset.template is None or isinstance(dataset.template, str):
        return
    roles = [message.role for message in dataset.template]
    if "system" in roles[1:]:
        yield Problem(
            f"{_TEMPLATE}[{roles.index('system', 1)}].role", "the system's message stands first", "move it up"
        )
    if "user" not in roles:
        yield Problem(_TEMPLATE, "nothing is asked: it has no message of the user", "add one with role: user")
    if roles[-1] == "system":
        yield Problem(
            _TEMPLATE, "ends with the system's message", "end with the user's, or with a beginning of the answer"
        )
    if "system" in roles and dataset.system_prompt is not None:
        yield Problem("spec.dataset.systemPrompt", "dataset.template has a system message already", "give one of them")
    if dataset.chat_template == "none":
        yield Problem(
            _TEMPLATE, "messages need a chat template, and chatTemplate is none", "make it one text, not messages"
        )


@rule("dataset.template")
def _a_template_can_be_parsed(job: SpecBatchJob) -> Iterator[Problem]:
    texts = dict(_texts(job.spec.dataset))
    if not texts:
        return
    from specbatch.api.template_syntax import TemplateSyntaxError, parse_template  # noqa: PLC0415 - most specs have none

    for path, text in texts.items():
        try:
            random = parse_template(text).random
        except TemplateSyntaxError as error:
            yield Problem(path, f"cannot be parsed: {error}", "mend it: a column is written {{ column }}")
            continue
        if random:
            message = f"draws at random (`{random}`): a row's prompt would be another one in every attempt"
            yield Problem(path, message, "take that out")


def _texts(dataset: DatasetSpec) -> Iterator[tuple[str, str]]:
    if isinstance(dataset.template, str):
        yield _TEMPLATE, dataset.template
    for at, message in enumerate(() if isinstance(dataset.template, str) else dataset.template or ()):
        yield f"{_TEMPLATE}[{at}].content", message.content
