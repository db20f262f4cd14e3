"""The OpenAI batch output form, for input that came in the batch form.

https://platform.openai.com/docs/guides/batch: one object a line with id, custom_id, response, error. What the form has no place
for (index, fingerprint, speculation, ...) stands under one key of ours, "specbatch", which readers of the form skip.
"""

from __future__ import annotations

from typing import Any

import msgspec

from specbatch.results.rows import ErrorCode, ErrorRow, OpenAIForm, ResultRow, Speculation, Usage

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
    return {
        "id": f"batch_req_{row.fingerprint}",
        "custom_id": row.id,
        "response": {"status_code": 200, "request_id": f"req_{row.fingerprint}", "body": _body(row, form)},
        "error": None,
        _OURS: ours,
    }


def error_to_json(row: ErrorRow) -> dict[str, Any]:
    """A line of the error file: no response, a code and a message."""
    form = _form(row)
    columns = {} if row.columns is None else {"columns": row.columns}
    return {
        "id": f"batch_req_{row.fingerprint}",
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
    choice = body["choices"][0]
    chat = body["object"] == "chat.completion"
    return ResultRow(
        id=str(value["custom_id"]),
        index=int(ours["index"]),
        fingerprint=str(ours["fingerprint"]),
        text=str(choice["message"]["content"] if chat else choice["text"]),
        finish_reason=str(choice["finish_reason"]),
        usage=msgspec.convert(body["usage"], Usage),
        speculation=msgspec.convert(ours["speculation"], Speculation | None),
        prompt=ours.get("prompt"),
        answer=ours.get("answer"),
        correct=ours.get("correct"),
        columns=ours.get("columns"),
        openai=OpenAIForm(
            model=str(body["model"]),
            created=int(body["created"]),
            endpoint="/v1/chat/completions" if chat else "/v1/completions",
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
    usage = {
        "prompt_tokens": row.usage.prompt_tokens,
        "completion_tokens": row.usage.completion_tokens,
        "total_tokens": row.usage.prompt_tokens + row.usage.completion_tokens,
    }
    choice: dict[str, Any] = {"index": 0, "finish_reason": row.finish_reason, "logprobs": None}
    if form.endpoint == "/v1/chat/completions":
        kind, prefix = "chat.completion", "chatcmpl"
        choice["message"] = {"role": "assistant", "content": row.text, "refusal": None}
    else:
        kind, prefix = "text_completion", "cmpl"
        choice["text"] = row.text
    return {
        "id": f"{prefix}-{row.fingerprint}",
        "object": kind,
        "created": form.created,
        "model": form.model,
        "choices": [choice],
        "usage": usage,
        "system_fingerprint": None,
    }
