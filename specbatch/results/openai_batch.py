"""The OpenAI batch output form, for input that came in the batch form.

https://platform.openai.com/docs/guides/batch: one object a line with id, custom_id, response, error. What the form has no place
for (index, fingerprint, speculation, ...) stands under one key of ours, "specbatch", which readers of the form skip.
"""

from __future__ import annotations

from typing import Any

import msgspec

from specbatch.results.openai_responses import answer_from_response, response_body, usage_from_response
from specbatch.results.rows import (
    Choice,
    ErrorCode,
    ErrorRow,
    OpenAIForm,
    ResultRow,
    Speculation,
    Usage,
    choices_of,
    unique_name,
)

_OURS = "specbatch"


def result_to_json(row: ResultRow) -> dict[str, Any]:
    """A line of the output file: response.body is a chat.completion or text_completion object."""
    form = _form(row)
    ours: dict[str, Any] = {
        "index": row.index,
        "fingerprint": row.fingerprint,
        "speculation": msgspec.to_builtins(row.speculation),
    }
    optional = {"prompt": row.prompt, "answer": row.answer, "correct": row.correct, "columns": row.columns}
    ours |= {name: part for name, part in optional.items() if part is not None}
    if row.choices:
        ours["completion_tokens"] = [choice.completion_tokens for choice in row.choices]
    if any(choice.generated is not None for choice in choices_of(row)):
        ours["generated"] = [choice.generated for choice in choices_of(row)]
    return {
        "id": f"batch_req_{unique_name(row)}",
        "custom_id": row.id,
        "response": {"status_code": 200, "request_id": f"req_{unique_name(row)}", "body": _body(row, form)},
        "error": None,
        _OURS: ours,
    }


def error_to_json(row: ErrorRow) -> dict[str, Any]:
    """A line of the error file: no response, a code and a message."""
    form = _form(row)
    columns = {} if row.columns is None else {"columns": row.columns}
    return {
        "id": f"batch_req_{unique_name(row)}",
        "custom_id": row.id,
        "response": None,
        "error": {"code": row.code.value, "message": row.message},
        _OURS: {
            "index": row.index,
            "fingerprint": row.fingerprint,
            "line": row.line,
            "model": form.model,
            "created": form.created,
            "endpoint": form.endpoint,
            **columns,
        },
    }


def result_from_json(value: dict[str, Any]) -> ResultRow:
    """The row of such a line; KeyError, TypeError, ... where it is none."""
    ours, body = value[_OURS], value["response"]["body"]
    kind = body["object"]
    response, chat = kind == "response", kind == "chat.completion"
    if response:
        found, usage, created = [answer_from_response(body)], usage_from_response(body), body["created_at"]
    else:
        found = [_choice_from(one, chat=chat) for one in body["choices"]]
        usage, created = msgspec.convert(body["usage"], Usage), body["created"]
    generated = ours.get("generated", [None] * len(found))
    choices = [one | {"generated": text} for one, text in zip(found, generated, strict=True)]
    several = [
        Choice(id=f"{value['custom_id']}#{number}", completion_tokens=int(count), **choices[number])
        for number, count in enumerate(ours.get("completion_tokens", []))
    ]
    return ResultRow(
        id=str(value["custom_id"]),
        **choices[0],
        choices=several or None,
        index=int(ours["index"]),
        fingerprint=str(ours["fingerprint"]),
        usage=usage,
        prompt_logprobs=body.get("prompt_logprobs"),
        speculation=msgspec.convert(ours["speculation"], Speculation | None),
        prompt=ours.get("prompt"),
        answer=ours.get("answer"),
        correct=ours.get("correct"),
        columns=ours.get("columns"),
        openai=OpenAIForm(
            model=str(body["model"]),
            created=int(created),
            endpoint="/v1/responses" if response else "/v1/chat/completions" if chat else "/v1/completions",
        ),
    )


def error_from_json(value: dict[str, Any]) -> ErrorRow:
    """The row of such a line; KeyError, TypeError, ... where it is none."""
    ours = value[_OURS]
    return ErrorRow(
        id=str(value["custom_id"]),
        index=int(ours["index"]),
        fingerprint=str(ours["fingerprint"]),
        code=ErrorCode(value["error"]["code"]),
        message=str(value["error"]["message"]),
        line=ours["line"],
        columns=ours.get("columns"),
        openai=OpenAIForm(model=ours["model"], created=ours["created"], endpoint=ours["endpoint"]),
    )


def _form(row: ResultRow | ErrorRow) -> OpenAIForm:
    assert row.openai is not None
    return row.openai


def _body(row: ResultRow, form: OpenAIForm) -> dict[str, Any]:
    of_prompt = {} if row.prompt_logprobs is None else {"prompt_logprobs": row.prompt_logprobs}  # where vLLM has them
    if form.endpoint == "/v1/responses":
        return response_body(row, form) | of_prompt
    usage = {
        "prompt_tokens": row.usage.prompt_tokens,
        "completion_tokens": row.usage.completion_tokens,
        "total_tokens": row.usage.prompt_tokens + row.usage.completion_tokens,
    }
    chat = form.endpoint == "/v1/chat/completions"
    kind, prefix = ("chat.completion", "chatcmpl") if chat else ("text_completion", "cmpl")
    return {
        "id": f"{prefix}-{unique_name(row)}",
        "object": kind,
        "created": form.created,
        "model": form.model,
        "choices": [_choice(one, number, chat=chat) for number, one in enumerate(choices_of(row))],
        "usage": usage,
        "system_fingerprint": None,
        **of_prompt,
    }


def _choice(choice: Choice, number: int, *, chat: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"index": number, "finish_reason": choice.finish_reason, "logprobs": choice.logprobs}
    if not chat:
        return found | {"text": choice.text}
    message: dict[str, Any] = {"role": "assistant", "content": choice.text, "refusal": None}
    if choice.tool_calls is not None:
        message |= {"content": choice.text or None, "tool_calls": choice.tool_calls}
    if choice.reasoning is not None:
        message["reasoning_content"] = choice.reasoning
    return found | {"message": message}


def _choice_from(value: dict[str, Any], *, chat: bool) -> dict[str, Any]:
    """The fields that a row and a Choice have of it."""
    message = value["message"] if chat else {"content": value["text"]}
    return {
        "text": str(message["content"] or ""),
        "finish_reason": str(value["finish_reason"]),
        "reasoning": message.get("reasoning_content"),
        "tool_calls": message.get("tool_calls"),
        "logprobs": value.get("logprobs"),
    }
