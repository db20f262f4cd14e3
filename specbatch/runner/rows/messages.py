"""The messages of a conversation in the form that chat templates take: text only, tool calls as objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from specbatch.results.rows import ErrorCode
from specbatch.runner.dataset.bad_rows import RowError, shown

Message = dict[str, Any]

_ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})
_TEXT_PARTS = frozenset({"text", "input_text", "output_text"})
_PART_FIELDS = frozenset({"type", "text", "cache_control", "annotations"})
_NOT_TEXT = ("images", "audio", "refusal", "function_call")  # beside content: templates would leave them out
_PREFILL = ("prefix", "partial")  # DeepSeek's, Mistral's and Moonshot's way to have an answer continued


def read_messages(value: Any, name: str, *, ends_with_answer: bool = False) -> list[Message]:
    """The messages.

    Args:
        value: of a row.
        name: where it stands, for messages to people.
        ends_with_answer: whether the assistant's turn may be the last, for `without_answer` to take away.

    Raises:
        RowError: not a conversation that asks for an answer, or a part of it that would be lost.
    """
    if not isinstance(value, list):
        raise RowError(ErrorCode.INVALID_FIELD, f"{name} must be a list of messages, found {shown(value)}")
    if not value:
        raise RowError(ErrorCode.EMPTY_PROMPT, f"{name} is empty")
    messages = [_message(message, name, at) for at, message in enumerate(value)]
    if not any(message["content"].strip() for message in messages):
        raise RowError(ErrorCode.EMPTY_PROMPT, f"{name} holds no text")
    if messages[-1]["role"] == "assistant" and not ends_with_answer:
        raise RowError(
            ErrorCode.UNSUPPORTED_REQUEST,
            f"{name} end with the assistant's own turn: nothing is asked; end with the user's turn, or set continue_final_message: true to have it continued",
        )
    return messages


def continues_answer(fields: Mapping[str, Any]) -> bool:
    """Whether a row asks to have the assistant's last turn continued.

    Raises:
        RowError: it says so in another way than by true or false.
    """
    flag = fields.get("continue_final_message")
    if flag is not None and not isinstance(flag, bool):
        raise RowError(ErrorCode.INVALID_FIELD, f"continue_final_message must be true or false, found {shown(flag)}")
    return flag is True


def without_answer(messages: list[Message], name: str) -> tuple[list[Message], str | None]:
    """The messages up to the assistant's turn at the end, and the text of that turn; None where another's is the last.

    Raises:
        RowError: there is no other turn.
    """
    end = len(messages)
    while end and messages[end - 1]["role"] == "assistant":
        end -= 1
    if not any(message["content"].strip() for message in messages[:end]):
        raise RowError(ErrorCode.EMPTY_PROMPT, f"{name} hold no text before the assistant's last turn")
    return messages[:end], messages[-1]["content"] if end < len(messages) else None


def with_system(messages: Sequence[Message], system: str, name: str) -> list[Message]:
    """The messages, the system prompt before them.

    Raises:
        RowError: they have another one.
    """
    first = messages[0]
    if first["role"] != "system":
        return [{"role": "system", "content": system}, *messages]
    if first["content"] != system:
        raise RowError(ErrorCode.INVALID_FIELD, f"{name} begin with another system prompt than the row's: give one")
    return list(messages)


def _message(value: Any, messages: str, at: int) -> Message:
    if not isinstance(value, dict):
        raise RowError(ErrorCode.INVALID_FIELD, f"{messages}[{at}] must be an object, found {shown(value)}")
    role, content = value.get("role"), value.get("content")
    if type(content) is str and len(value) == 2 and role in ("user", "assistant", "system"):
        return value
    name = f"{messages}[{at}]"
    if not isinstance(role, str) or role not in _ROLES:
        raise RowError(ErrorCode.INVALID_FIELD, f"{name}.role must be one of {sorted(_ROLES)}, found {shown(role)}")
    _refuse_lost(value, name)
    message = {**value, "role": "system" if role == "developer" else role}  # templates know no "developer"
    if value.get("tool_calls"):
        message["tool_calls"] = _tool_calls(value["tool_calls"], role, f"{name}.tool_calls")
        content = "" if content is None else content  # of a turn that does nothing but call
    message["content"] = _content(content, f"{name}.content")
    return message


def _refuse_lost(value: Mapping[str, Any], name: str) -> None:
    for key in _NOT_TEXT:
        if value.get(key):
            raise RowError(ErrorCode.UNSUPPORTED_REQUEST, f"{name}.{key} is not supported: the template would lose it")
    for key in _PREFILL:
        if value.get(key):
            raise RowError(
                ErrorCode.UNSUPPORTED_REQUEST, f"{name}.{key}: set continue_final_message: true beside the messages"
            )


def _content(value: Any, name: str) -> str:
    """The text of a message; a list of text parts is joined."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise RowError(ErrorCode.INVALID_FIELD, f"{name} must be a string or text parts, found {shown(value)}")
    return "".join(part if isinstance(part, str) else _part(part, name) for part in value)


def _part(part: Any, name: str) -> str:
    kind = part.get("type", "text") if isinstance(part, dict) else part
    if not isinstance(part, dict) or not isinstance(kind, str) or kind not in _TEXT_PARTS:
        raise RowError(ErrorCode.UNSUPPORTED_REQUEST, f"{name}: only text parts are supported, found {shown(kind)}")
    others = [key for key in part if key not in _PART_FIELDS and part[key] is not None]
    if others:
        raise RowError(
            ErrorCode.UNSUPPORTED_REQUEST, f"{name}: only text is supported in a text part, found {shown(others)}"
        )
    if not isinstance(part.get("text"), str):
        raise RowError(ErrorCode.INVALID_FIELD, f"{name}: a text part needs a text, found {shown(part.get('text'))}")
    text: str = part["text"]
    return text


def _tool_calls(value: Any, role: str, name: str) -> list[dict[str, Any]]:
    if role != "assistant" or not isinstance(value, list):
        raise RowError(ErrorCode.INVALID_FIELD, f"{name} must be a list, and the assistant's, found {shown(value)}")
    return [_tool_call(call, f"{name}[{at}]") for at, call in enumerate(value)]


def _tool_call(value: Any, name: str) -> dict[str, Any]:
    function = value.get("function", value) if isinstance(value, dict) else None
    if not isinstance(value, dict) or not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise RowError(ErrorCode.INVALID_FIELD, f"{name} must name a function, found {shown(value)}")
    arguments = _arguments(function.get("arguments"), f"{name}.arguments")
    if function is value:  # without the wrapping, as some templates take it
        return {**value, "arguments": arguments}
    return {**value, "function": {**function, "arguments": arguments}}


def _arguments(value: Any, name: str) -> dict[str, Any]:
    """OpenAI's are JSON text, templates want the object."""
    if value is None or value == "":
        return {}
    if isinstance(value, str):
        try:
            value = msgspec.json.decode(value)
        except msgspec.DecodeError as error:
            raise RowError(ErrorCode.INVALID_FIELD, f"{name} must be the JSON text of an object: {error}") from None
    if not isinstance(value, dict):
        raise RowError(ErrorCode.INVALID_FIELD, f"{name} must be an object, found {shown(value)}")
    return value
