"""The forms a row may have, and how each is read: what the prompt is, what is an option, what is data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any, NamedTuple

from specbatch.api.dataset import DatasetSpec
from specbatch.api.decoding import DecodingSpec
from specbatch.api.models import TargetSpec
from specbatch.results.rows import Endpoint, ErrorCode
from specbatch.runner.dataset.bad_rows import RowError, shown
from specbatch.runner.rows.messages import Message, continues_answer, read_messages, with_system, without_answer
from specbatch.runner.rows.openai_lines import COMPLETIONS, LINE_FIELDS, RESPONSES, is_openai_line, read_request
from specbatch.runner.rows.options import NO_OPTIONS, Options, read_options
from specbatch.runner.rows.prompt_template import TEXT, PromptTemplate
from specbatch.runner.rows.training_sets import alpaca_prompt, is_sharegpt, sharegpt_messages


class FormName(StrEnum):
    """What a row looks like."""

    REQUESTS = "requests"
    """Each row by itself one of the next three: forms in which requests are written, and which no row has by chance."""
    PROMPT = "prompt"
    MESSAGES = "messages"
    OPENAI = "openai"
    ALPACA = "alpaca"
    SHAREGPT = "sharegpt"
    TEMPLATE = "template"


@dataclass(frozen=True, slots=True)
class RowForm:
    """The form of a dataset's rows, the same for all of them.

    Attributes:
        name: which.
        columns: those that the prompt is made of.
        drops_answer: whether conversations may end with the assistant's turn, as those for training do: it is an answer, no part of the prompt.
    """

    name: FormName = FormName.REQUESTS
    columns: tuple[str, ...] = ("prompt", "messages")
    drops_answer: bool = False

    @property
    def title(self) -> str:
        """Where the prompt is, for people."""
        columns = " and ".join(self.columns)
        if self.name is FormName.TEMPLATE:
            return f"dataset.template over {columns}" if columns else "dataset.template, which names no column"
        titles = {
            FormName.OPENAI: "requests of OpenAI's batch API",
            FormName.ALPACA: f"{columns} (Alpaca)",
            FormName.SHAREGPT: f"{columns} (ShareGPT)",
        }
        return titles.get(self.name, columns)

    @classmethod
    def of(cls, dataset: DatasetSpec) -> RowForm:
        """What the spec alone says, without a look at the rows."""
        column = dataset.prompt_field
        if dataset.template is not None:
            return cls(FormName.TEMPLATE, tuple(sorted(PromptTemplate(dataset.template).columns)))
        if dataset.format == "messages":
            return cls(FormName.MESSAGES, (column or "messages",))
        if dataset.format == "sharegpt":
            return cls(FormName.SHAREGPT, (column or "conversations",), drops_answer=True)
        if dataset.format == "alpaca":
            return cls(FormName.ALPACA, ("instruction", "input"))
        if dataset.format == "openai":
            return cls(FormName.OPENAI, LINE_FIELDS)
        return cls() if column is None else cls(FormName.PROMPT, (column,))


class Form(NamedTuple):
    """What a row asks: exactly one of prompt and messages is set.

    `raw` prompts get no chat template. `endpoint` is set on OpenAI batch lines, `model` on those that name one. `answer` came along, for reference.
    """

    prompt: str | None = None
    messages: Sequence[Message] | None = None
    raw: bool = False
    options: Options = NO_OPTIONS
    endpoint: Endpoint | None = None
    model: Any = None
    answer: str | None = None


@dataclass(frozen=True)
class RowRules:
    """How rows are to be read.

    Args:
        decoding: of rows that set nothing else.
        dataset: spec.dataset: what a row's fields are called.
        target: the model that a request may name; None: any.
        salt: stands for the models and the prompt's wrapping in the rows' fingerprints.
        found: the form that was found in the dataset's first rows; None: as the spec says.
    """

    decoding: DecodingSpec
    dataset: DatasetSpec
    target: TargetSpec | None = None
    salt: str = ""
    found: RowForm | None = None

    @cached_property
    def form(self) -> RowForm:
        """The form of the rows."""
        return self.found or RowForm.of(self.dataset)

    @cached_property
    def template(self) -> PromptTemplate | None:
        """dataset.template."""
        return None if self.dataset.template is None else PromptTemplate(self.dataset.template)

    @cached_property
    def known(self) -> frozenset[str]:
        """The fields that have a meaning of their own beside the prompt's: id and answer."""
        return frozenset({self.dataset.id_field, self.dataset.answer_field or "", "custom_id"})


def own_columns(fields: Mapping[str, Any], form: RowForm) -> tuple[str, ...]:
    """The columns of a row that its prompt is made of."""
    return LINE_FIELDS if form.name is FormName.REQUESTS and is_openai_line(fields) else form.columns


def may_be_openai(fields: Mapping[str, Any], rules: RowRules) -> bool:
    """Whether a row of this dataset is to be taken for a line of OpenAI's batch API."""
    name = rules.form.name
    return name is FormName.OPENAI or (name is FormName.REQUESTS and is_openai_line(fields))


def read_form(fields: Mapping[str, Any], rules: RowRules) -> Form:
    """What an object of the dataset's form asks.

    Raises:
        RowError: it has not that form, or asks for what is not done here.
    """
    ignored = rules.dataset.ignore_fields
    fields = {name: value for name, value in fields.items() if name not in ignored} if ignored else fields
    if may_be_openai(fields, rules):
        return _openai(fields, rules)
    form = _templated(fields, rules.template) if rules.template else _READERS[rules.form.name](fields, rules.form)
    known = rules.known | set(rules.form.columns)
    others = {name: value for name, value in fields.items() if name not in known}
    return _with_options(form, read_options(others, ignored=ignored), "messages") if others else form


def _templated(fields: Mapping[str, Any], template: PromptTemplate) -> Form:
    rendered = template.render(fields)
    return Form(prompt=rendered) if isinstance(rendered, str) else Form(messages=rendered)


def _requests(fields: Mapping[str, Any], form: RowForm) -> Form:
    prompt, messages = fields.get("prompt"), fields.get("messages")  # null is absent: so tables hold both
    if prompt is not None and messages is not None:
        remedy = "set dataset.promptField: prompt, or dataset.format: messages"
        raise RowError(ErrorCode.INVALID_ROW, f"the row has both 'prompt' and messages; {remedy}")
    return _one_column(fields, form, "prompt" if messages is None else "messages")


def _one_column(fields: Mapping[str, Any], form: RowForm, name: str = "") -> Form:
    """A prompt, or a conversation in either notation."""
    name = name or form.columns[0]
    value = fields.get(name)
    if value is None:
        raise _no_prompt(fields, name)
    if name == "messages" or isinstance(value, list):
        return _conversation(value, name, form, fields)
    return Form(prompt=_prompt(value, name))


def _messages(fields: Mapping[str, Any], form: RowForm) -> Form:
    return _conversation(fields.get(form.columns[0]), form.columns[0], form, fields)


def _conversation(value: Any, name: str, form: RowForm, fields: Mapping[str, Any]) -> Form:
    continues = continues_answer(fields)
    found = sharegpt_messages(value, name) if is_sharegpt(value) else value
    messages = read_messages(found, name, ends_with_answer=form.drops_answer or continues)
    if continues:
        return Form(messages=messages)
    messages, answer = without_answer(messages, name)
    return Form(messages=messages, answer=answer)


def _alpaca(fields: Mapping[str, Any], form: RowForm) -> Form:
    instruction, context = form.columns[:2]
    if fields.get(instruction) is None:
        raise _no_prompt(fields, instruction)
    return Form(prompt=alpaca_prompt(fields, instruction, context))


_READERS: Mapping[FormName, Callable[[Mapping[str, Any], RowForm], Form]] = {
    FormName.REQUESTS: _requests,
    FormName.PROMPT: _one_column,
    FormName.MESSAGES: _messages,
    FormName.SHAREGPT: _messages,
    FormName.ALPACA: _alpaca,
}


def _no_prompt(fields: Mapping[str, Any], name: str) -> RowError:
    found = sorted(name for name, value in fields.items() if value is not None)
    return RowError(ErrorCode.MISSING_PROMPT, f"no {shown(name)} among the fields {shown(found, limit=200)}")


def _with_options(form: Form, options: Options, name: str) -> Form:
    """A system prompt among the options is a message of the conversation."""
    system = options.system_prompt
    if system is None:
        return form._replace(options=options)
    if form.raw:
        raise RowError(ErrorCode.UNSUPPORTED_OPTION, "a system prompt has no place in a completion: it has no messages")
    messages = form.messages or [{"role": "user", "content": form.prompt}]
    return form._replace(prompt=None, messages=with_system(messages, system, name), options=options)


def _openai(fields: Mapping[str, Any], rules: RowRules) -> Form:
    endpoint, asked, options = read_request(fields, known=rules.known, ignored=rules.dataset.ignore_fields)
    name = "body.input" if endpoint == RESPONSES else "body.messages"
    if endpoint != COMPLETIONS:
        form = Form(messages=read_messages(asked, name, ends_with_answer=options.chat.continues))
    else:
        prompt = asked[0] if isinstance(asked, list) and len(asked) == 1 else asked
        if isinstance(prompt, list):
            raise RowError(ErrorCode.UNSUPPORTED_REQUEST, "body.prompt: one string a request, not a list")
        form = Form(prompt=_prompt(prompt, "body.prompt"), raw=True)
    form = form._replace(endpoint=endpoint, model=fields["body"].get("model"))
    return _with_options(form, options, name)


def read_text(text: str, rules: RowRules) -> Form:
    """What a line of text asks: itself, or what a template makes of it."""
    return _templated({TEXT: text}, rules.template) if rules.template else Form(prompt=text)


def _prompt(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise RowError(ErrorCode.INVALID_FIELD, f"{name} must be a string, found {shown(value)}")
    if not value.strip():
        raise RowError(ErrorCode.EMPTY_PROMPT, f"{name} is empty")
    return value
