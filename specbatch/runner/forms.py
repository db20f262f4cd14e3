"""The forms a row may have: a prompt, messages, an OpenAI batch line, or a line of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from specbatch.results.rows import Endpoint, ErrorCode
from specbatch.runner.bad_rows import RowError, shown
from specbatch.runner.overrides import OVERRIDE_NAMES

Format = Literal["auto", "jsonl", "messages", "openai", "text"]
Message = dict[str, Any]

_ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})
_CHAT: Endpoint = "/v1/chat/completions"
_COMPLETIONS: Endpoint = "/v1/completions"
_ENDPOINTS = {
    _CHAT: _CHAT,
    _COMPLETIONS: _COMPLETIONS,
    "/chat/completions": _CHAT,
    "/completions": _COMPLETIONS,
}  # Azure's have no /v1
_BODY_IGNORED = frozenset(  # say nothing about the text
    {"model", "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "stream_options"}
)
_BODY_NEUTRAL: dict[str, tuple[Any, ...]] = {  # change the text unless they hold one of these
    "n": (1,),
    "best_of": (1,),
    "stream": (False,),
    "echo": (False,),
    "logprobs": (False, 0),
    "top_logprobs": (0,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "repetition_penalty": (1,),
    "min_p": (0,),
    "min_tokens": (0,),
    "logit_bias": ({},),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "suffix": ("",),
}


class Form(NamedTuple):
    """What a row asks: exactly one of prompt and messages is set.

    `raw` prompts get no chat template. `fields` may hold overrides of the decoding. `endpoint` is set on OpenAI batch lines.
    """

    prompt: str | None = None
    messages: Sequence[Message] | None = None
    raw: bool = False
    fields: Mapping[str, Any] = MappingProxyType({})
    enable_thinking: bool | None = None
    endpoint: Endpoint | None = None


def is_openai_line(fields: Mapping[str, Any]) -> bool:
    """Whether an object looks like a line of an OpenAI batch file."""
    return fields.get("body") is not None and ("custom_id" in fields or "url" in fields)


def read_form(fields: Mapping[str, Any], row_format: Format, prompt_field: str) -> Form:
    """Finds the form of an object.

    Raises:
        RowError: no known form, not the form that the spec names, or a part of it is wrong.
    """
    if row_format == "openai" or (row_format == "auto" and is_openai_line(fields)):
        return _openai(fields)
    prompt, messages = fields.get(prompt_field), fields.get("messages")  # null is absent: so tables hold both
    if row_format == "messages" or (row_format == "auto" and messages is not None and prompt is None):
        return Form(messages=_messages(messages, "messages"), fields=fields)
    if prompt is None:
        raise RowError(
            ErrorCode.MISSING_PROMPT, f"no {shown(prompt_field)} among the fields {shown(_filled(fields), limit=200)}"
        )
    if isinstance(prompt, list):
        return Form(messages=_messages(prompt, prompt_field), fields=fields)
    return Form(prompt=_prompt(prompt, prompt_field), fields=fields)


def _filled(fields: Mapping[str, Any]) -> list[str]:
    return sorted(name for name, value in fields.items() if value is not None)


def _prompt(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise RowError(ErrorCode.INVALID_FIELD, f"{name} must be a string, found {shown(value)}")
    if not value.strip():
        raise RowError(ErrorCode.EMPTY_PROMPT, f"{name} is empty")
    return value


def _messages(value: Any, name: str) -> list[Message]:
    if not isinstance(value, list):
        raise RowError(ErrorCode.INVALID_FIELD, f"{name} must be a list of messages, found {shown(value)}")
    if not value:
        raise RowError(ErrorCode.EMPTY_PROMPT, f"{name} is empty")
    messages = [_message(message, f"{name}[{at}]") for at, message in enumerate(value)]
    if not any(message["content"].strip() for message in messages):
        raise RowError(ErrorCode.EMPTY_PROMPT, f"{name} holds no text")
    return messages


def _message(value: Any, name: str) -> Message:
    if not isinstance(value, dict):
        raise RowError(ErrorCode.INVALID_FIELD, f"{name} must be an object, found {shown(value)}")
    role = value.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise RowError(ErrorCode.INVALID_FIELD, f"{name}.role must be one of {sorted(_ROLES)}, found {shown(role)}")
    # Templates know no "developer": OpenAI's newer word for system.
    return {**value, "role": "system" if role == "developer" else role, "content": _content(value.get("content"), name)}


def _content(value: Any, name: str) -> str:
    """The text of a message; a list of text parts is joined."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise RowError(ErrorCode.INVALID_FIELD, f"{name}.content must be a string or text parts, found {shown(value)}")
    parts = []
    for part in value:
        if not isinstance(part, dict) or not isinstance(part.get("text"), str):
            kind = part.get("type") if isinstance(part, dict) else part
            raise RowError(
                ErrorCode.UNSUPPORTED_REQUEST, f"{name}.content: only text parts are known, found {shown(kind)}"
            )
        parts.append(part["text"])
    return "".join(parts)


def _openai(fields: Mapping[str, Any]) -> Form:
    body, url = fields.get("body"), fields.get("url", _CHAT)
    if not isinstance(body, dict):
        raise RowError(ErrorCode.INVALID_FIELD, f"body must be an object, found {shown(body)}")
    if fields.get("method", "POST") != "POST":
        raise RowError(ErrorCode.UNSUPPORTED_REQUEST, f"method must be POST, found {shown(fields['method'])}")
    endpoint = _ENDPOINTS.get(url) if isinstance(url, str) else None
    if endpoint is None:
        raise RowError(ErrorCode.UNSUPPORTED_REQUEST, f"url must be {_CHAT} or {_COMPLETIONS}, found {shown(url)}")
    asked = "messages" if endpoint == _CHAT else "prompt"
    _refuse_unsupported(body, known=frozenset({asked, "chat_template_kwargs"}))
    if asked not in body:
        raise RowError(ErrorCode.MISSING_PROMPT, f"body has no {asked}")
    if endpoint == _CHAT:
        messages = _messages(body["messages"], "body.messages")
        return Form(messages=messages, fields=body, endpoint=_CHAT, enable_thinking=_enable_thinking(body))
    prompt = body["prompt"]
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if isinstance(prompt, list):
        raise RowError(ErrorCode.UNSUPPORTED_REQUEST, "body.prompt: one string a request, not a list")
    return Form(prompt=_prompt(prompt, "body.prompt"), raw=True, fields=body, endpoint=_COMPLETIONS)


def _refuse_unsupported(body: Mapping[str, Any], known: frozenset[str]) -> None:
    """A request that asks for what is not done here must not get an answer that looks as if it was."""
    for name, value in body.items():
        if name in known or name in OVERRIDE_NAMES or name in _BODY_IGNORED or value is None:
            continue
        if name not in _BODY_NEUTRAL:
            raise RowError(ErrorCode.UNKNOWN_FIELD, f"body.{shown(name)} is not known")
        if value not in _BODY_NEUTRAL[name]:
            raise RowError(ErrorCode.UNSUPPORTED_REQUEST, f"body.{name}: {shown(value)} is not supported")


def _enable_thinking(body: Mapping[str, Any]) -> bool | None:
    options = body.get("chat_template_kwargs") or {}
    if not isinstance(options, dict) or options.keys() - {"enable_thinking"}:
        raise RowError(ErrorCode.UNSUPPORTED_REQUEST, "body.chat_template_kwargs: only enable_thinking is known")
    value = options.get("enable_thinking")
    if value is not None and not isinstance(value, bool):
        raise RowError(ErrorCode.INVALID_FIELD, "body.chat_template_kwargs.enable_thinking must be true or false")
    return value
