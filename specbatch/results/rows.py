"""A row that ended: in the results, or in the errors file. `wire` turns these into lines and back."""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import Any, Literal

import msgspec

Endpoint = Literal["/v1/chat/completions", "/v1/completions", "/v1/responses"]


class ErrorCode(StrEnum):
    """Why a row could not be decoded. The names are stable: scripts may count on them."""

    INVALID_JSON = "invalid_json"
    INVALID_ENCODING = "invalid_encoding"
    INVALID_ROW = "invalid_row"
    UNKNOWN_FIELD = "unknown_field"
    INVALID_FIELD = "invalid_field"
    MISSING_PROMPT = "missing_prompt"
    EMPTY_PROMPT = "empty_prompt"
    PROMPT_TOO_LONG = "prompt_too_long"
    LINE_TOO_LONG = "line_too_long"
    DUPLICATE_ID = "duplicate_id"
    UNSUPPORTED_OPTION = "unsupported_option"
    UNSUPPORTED_REQUEST = "unsupported_request"
    TEMPLATE = "template"
    CHAT_TEMPLATE = "chat_template"
    TOKENIZATION = "tokenization"
    DECODING = "decoding"

    @property
    def meaning(self) -> str:
        """One phrase, as shown to people."""
        return _MEANINGS[self]


_MEANINGS = {
    ErrorCode.INVALID_JSON: "the line is not valid JSON",
    ErrorCode.INVALID_ENCODING: "the line is not UTF-8, or holds half of a surrogate pair",
    ErrorCode.INVALID_ROW: "the line is JSON, but not an object of a known row form",
    ErrorCode.UNKNOWN_FIELD: "the row has a field that is not known",
    ErrorCode.INVALID_FIELD: "a field has the wrong type or a value out of range",
    ErrorCode.MISSING_PROMPT: "the row has no prompt",
    ErrorCode.EMPTY_PROMPT: "the prompt has no tokens",
    ErrorCode.PROMPT_TOO_LONG: "prompt and new tokens do not fit batching.maxLength",
    ErrorCode.LINE_TOO_LONG: "the line is longer than a row may be",
    ErrorCode.DUPLICATE_ID: "an earlier row has the same id",
    ErrorCode.UNSUPPORTED_OPTION: "the row sets an option that is not supported here",
    ErrorCode.UNSUPPORTED_REQUEST: "the batch request asks for something that is not supported",
    ErrorCode.TEMPLATE: "dataset.template could not be rendered over the row's columns",
    ErrorCode.CHAT_TEMPLATE: "the chat template refused the messages",
    ErrorCode.TOKENIZATION: "the tokenizer failed on the prompt",
    ErrorCode.DECODING: "the model failed on the row: its logits were not finite",
}


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Token counts of one row."""

    prompt_tokens: int
    completion_tokens: int


class Speculation(msgspec.Struct, frozen=True, kw_only=True):
    """One row's share of speculation; all zero where nothing was drafted."""

    rounds: int = 0
    drafted: int = 0
    accepted: int = 0


class OpenAIForm(msgspec.Struct, frozen=True, kw_only=True):
    """What the OpenAI batch output form needs beside the row itself: set it on rows that came in that form.

    `created` is a Unix time in seconds; one value for the whole run keeps a restart's bytes the same.
    """

    model: str
    created: int = 0
    endpoint: Endpoint = "/v1/chat/completions"


class Choice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One of the completions of a row that asked for several (n); its id is the row's with `#` and its number."""

    id: str
    text: str
    finish_reason: str
    completion_tokens: int
    reasoning: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    generated: str | None = None
    logprobs: dict[str, Any] | None = None


class ResultRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row that the target has answered; its line has the fields in this order, without those that are None.

    `index` is the row's position in the dataset from 0; `fingerprint` the rest of the resume key beside `id`.
    `prompt` (any JSON value) is kept where the spec says includePrompt; `answer` and `correct` where it has an answerField; `columns` are those
    of the input that are data (dataset.columns.carry), each the JSON value that it was there.
    `generated` is the whole text where reasoning or calls of tools were taken out of it, or its prompt was put before it. `choices` are all completions of a row that asked for several: `text`, `finish_reason` and so on are the first one's then, `usage` counts all.
    """

    id: str
    index: int
    text: str
    finish_reason: str
    reasoning: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    generated: str | None = None
    logprobs: dict[str, Any] | None = None
    prompt_logprobs: dict[str, Any] | None = None
    choices: list[Choice] | None = None
    usage: Usage
    speculation: Speculation | None = None  # the engine does not tell it
    prompt: Any = None
    answer: str | None = None
    correct: bool | None = None
    columns: dict[str, Any] | None = None
    fingerprint: str
    openai: OpenAIForm | None = None  # chooses the form of the line


class ErrorRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row that could not be decoded: a stable code, and a sentence for people. `line` counts from 1 in its file.

    Give a duplicate its own fingerprint (hash its index in), or a restart takes it for the row that it repeats.
    """

    id: str
    index: int
    line: int | None = None
    code: ErrorCode
    message: str
    columns: dict[str, Any] | None = None  # as above; None where the line could not be read
    fingerprint: str
    openai: OpenAIForm | None = None  # as above


def choices_of(row: ResultRow) -> list[Choice]:
    """All completions of a row: one, under the row's own id, where it did not ask for more."""
    one = Choice(
        id=row.id,
        text=row.text,
        finish_reason=row.finish_reason,
        completion_tokens=row.usage.completion_tokens,
        reasoning=row.reasoning,
        tool_calls=row.tool_calls,
        generated=row.generated,
        logprobs=row.logprobs,
    )
    return row.choices or [one]


def resume_key(row_id: str, fingerprint: str) -> bytes:
    """The 16 bytes by which a restart knows a finished row again."""
    # UTF-16: two surrogates in a row, and the one character that JSON readers make of them, are the same bytes.
    text = f"{len(row_id.encode('utf-16-le', 'surrogatepass'))}:{row_id}{fingerprint}"
    return hashlib.blake2b(text.encode("utf-16-le", "surrogatepass"), digest_size=16).digest()


def unique_name(row: ResultRow | ErrorRow) -> str:
    """Of 24 hexadecimal digits, the same in every run: rows that ask the same under other ids have others."""
    return resume_key(row.id, row.fingerprint).hex()[:24]
