"""The forms a row may have: a prompt, messages, an OpenAI batch line, or a line of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from specbatch.api.dataset import DatasetSpec
from specbatch.api.decoding import DecodingSpec
from specbatch.api.models import TargetSpec
from specbatch.results.rows import Endpoint, ErrorCode
from specbatch.runner.dataset.bad_rows import RowError, shown
from specbatch.runner.rows.messages import Message, read_messages, with_system
from specbatch.runner.rows.openai_lines import CHAT, is_openai_line, read_request
from specbatch.runner.rows.options import NO_OPTIONS, Options, read_options


class Form(NamedTuple):
    """What a row asks: exactly one of prompt and messages is set.

    `raw` prompts get no chat template. `endpoint` is set on OpenAI batch lines, `model` on those that name one.
    """

    prompt: str | None = None
    messages: Sequence[Message] | None = None
    raw: bool = False
    options: Options = NO_OPTIONS
    endpoint: Endpoint | None = None
    model: Any = None


@dataclass(frozen=True)
class RowRules:
    """How rows are to be read.

    Args:
        decoding: of rows that set nothing else.
        dataset: spec.dataset: the form of a row, and what its fields are called.
        target: the model that a request may name; None: any.
        salt: stands for the models and the prompt's wrapping in the rows' fingerprints.
    """

    decoding: DecodingSpec
    dataset: DatasetSpec
    target: TargetSpec | None = None
    salt: str = ""

    @cached_property
    def known(self) -> frozenset[str]:
        """The fields that have a meaning of their own beside the prompt's: id and answer."""
        return frozenset({self.dataset.id_field, self.dataset.answer_field or "", "custom_id"})


def read_form(fields: Mapping[str, Any], rules: RowRules) -> Form:
    """Finds the form of an object.

    Raises:
        RowError: no known form, not the form that the spec names, or it asks for what is not done here.
    """
    dataset, ignored = rules.dataset, rules.dataset.ignore_fields
    fields = {name: value for name, value in fields.items() if name not in ignored} if ignored else fields
    if dataset.format == "openai" or (dataset.format == "auto" and is_openai_line(fields)):
        return _openai(fields, rules)
    form = _plain(fields, dataset)
    known = rules.known | {dataset.prompt_field, "messages"}
    others = {name: value for name, value in fields.items() if name not in known}
    return _with_options(form, read_options(others, ignored=ignored), "messages") if others else form


def _plain(fields: Mapping[str, Any], dataset: DatasetSpec) -> Form:
    name = dataset.prompt_field
    prompt, messages = fields.get(name), fields.get("messages")  # null is absent: so tables hold both
    if dataset.format == "auto" and prompt is not None and messages is not None and name != "messages":
        remedy = f"set dataset.format to jsonl or messages, or dataset.ignoreFields: [{shown(name)}]"
        raise RowError(ErrorCode.INVALID_ROW, f"the row has both {shown(name)} and messages; {remedy}")
    if dataset.format == "messages" or (dataset.format == "auto" and messages is not None):
        return Form(messages=read_messages(messages, "messages"))
    if prompt is None:
        found = sorted(name for name, value in fields.items() if value is not None)
        raise RowError(ErrorCode.MISSING_PROMPT, f"no {shown(name)} among the fields {shown(found, limit=200)}")
    if isinstance(prompt, list):
        return Form(messages=read_messages(prompt, name))
    return Form(prompt=_prompt(prompt, name))


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
    if endpoint == CHAT:
        form = Form(messages=read_messages(asked, "body.messages"))
    else:
        prompt = asked[0] if isinstance(asked, list) and len(asked) == 1 else asked
        if isinstance(prompt, list):
            raise RowError(ErrorCode.UNSUPPORTED_REQUEST, "body.prompt: one string a request, not a list")
        form = Form(prompt=_prompt(prompt, "body.prompt"), raw=True)
    form = form._replace(endpoint=endpoint, model=fields["body"].get("model"))
    return _with_options(form, options, "body.messages")


def _prompt(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise RowError(ErrorCode.INVALID_FIELD, f"{name} must be a string, found {shown(value)}")
    if not value.strip():
        raise RowError(ErrorCode.EMPTY_PROMPT, f"{name} is empty")
    return value
