"""Bodies of requests to OpenAI's Responses API, as those of chat completions: the same messages and options by their names there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from specbatch.results.rows import ErrorCode
from specbatch.runner.dataset.bad_rows import RowError, shown


def as_chat(body: Mapping[str, Any]) -> dict[str, Any]:
    """The body of the chat completion that asks the same.

    Raises:
        RowError: a part of it has no place there.
    """
    chat = {name: value for name, value in body.items() if name not in {"input", "instructions", "text"}}
    if chat.get("n") not in (None, 1):
        raise RowError(ErrorCode.UNSUPPORTED_REQUEST, "body.n: a response is one; ask /v1/chat/completions for several")
    text = body.get("text")
    if text is not None:
        if not isinstance(text, dict):
            raise RowError(ErrorCode.INVALID_FIELD, f"body.text must be an object, found {shown(text)}")
        chat |= {"response_format" if name == "format" else name: value for name, value in text.items()}
    choice = body.get("tool_choice")
    if isinstance(choice, dict) and "name" in choice:
        chat["tool_choice"] = {"type": "function", "function": {"name": choice["name"]}}
    if body.get("instructions") is not None:
        chat["system"] = body["instructions"]
    if body.get("input") is not None:
        chat["messages"] = _messages(body["input"])
    return chat


def _messages(value: Any) -> Any:
    if isinstance(value, str):
        return [{"role": "user", "content": value}]
    return [_message(item, f"body.input[{at}]") for at, item in enumerate(value)] if isinstance(value, list) else value


def _message(item: Any, name: str) -> Any:
    """An item of the input: a message, a call, or what a call gave. What is none of known type is left to be refused as a message."""
    kind = item.get("type") if isinstance(item, dict) else None
    if kind == "function_call":
        function = {"name": item.get("name"), "arguments": item.get("arguments")}
        call = {"id": item.get("call_id"), "type": "function", "function": function}
        return {"role": "assistant", "content": None, "tool_calls": [call]}
    if kind == "function_call_output":
        return {"role": "tool", "tool_call_id": item.get("call_id"), "content": item.get("output")}
    if kind == "message":
        return {name: part for name, part in item.items() if name not in {"type", "id", "status"}}
    if kind is not None:
        message = f"{name}: an item of type {shown(kind)} has no place in a chat; leave it out"
        raise RowError(ErrorCode.UNSUPPORTED_REQUEST, message)
    return item
