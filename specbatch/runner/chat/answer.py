"""What a generated text holds: the answer, the reasoning before it, and calls of tools, in OpenAI's form."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple, NoReturn

from specbatch.runner.chat.options import NO_CHAT, ChatOptions

_HERMES = re.compile(r"<tool_call>\s*(.*?)\s*(?:</tool_call>|\Z)", re.DOTALL)  # Qwen's too
_MISTRAL = "[TOOL_CALLS]"
_LLAMA = "<|python_tag|>"
_HEAD = re.compile(r"\s*(?:\[TOOL_CALLS\])?\s*(?P<name>[^\s\[\]{}]+)\s*(?:\[CALL_ID\]\w*)?\s*(?:\[ARGS\])?\s*(?=\{)")
_THINK, _END = "<think>", "</think>"
_MARK = re.compile(r"<[|\uff5c][^<>|\uff5c]{1,64}[|\uff5c]>")  # of a turn; not all tokenizers call these tokens special


def _no_json(name: str) -> NoReturn:
    raise ValueError(name)


_DECODER = json.JSONDecoder(parse_constant=_no_json)  # Python's would take NaN and Infinity for numbers


class Answer(NamedTuple):
    """Of one completion; `generated` is the whole text where it was taken apart."""

    text: str
    reasoning: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    generated: str | None = None


def answer_in(
    text: str, chat: ChatOptions = NO_CHAT, *, split: bool = False, in_reasoning: bool = False, row_id: str = ""
) -> Answer:
    """Takes a text apart.

    Args:
        text: as it was generated.
        chat: of the row: its tools.
        split: whether reasoning is to stand apart.
        in_reasoning: whether the prompt ends within reasoning, so that the text goes on with it.
        row_id: from which the calls get their ids.
    """
    rest, reasoning = _split(text, in_reasoning=in_reasoning) if split else (text, None)
    found = _calls(rest, chat) if chat.tools else None
    if found is None and reasoning is None:
        return Answer(text)
    content, called = found or (rest, [])
    kept = called if chat.parallel else called[:1]
    calls: list[dict[str, Any]] = [
        {"id": _id(row_id, number), "type": "function", "function": call} for number, call in enumerate(kept)
    ]
    return Answer(content, reasoning, calls or None, text)


def ends_in_reasoning(prompt: str, control_tokens: Collection[str], *, begins_turn: bool) -> bool:
    """Whether a prompt ends within a <think> that is not closed; one in an earlier turn, which is only spoken of, counts for nothing.

    Args:
        prompt: as the model sees it.
        control_tokens: of the tokenizer: one behind the <think> ends its turn.
        begins_turn: whether a chat template begins the answer in it, and nothing of the answer is given.
    """
    before, opened, rest = prompt.rpartition(_THINK)
    if not opened or _END in rest or _has_mark(rest, control_tokens):
        return False
    # Without control tokens nothing but the end of the prompt tells the template's <think> from a user's.
    return not begins_turn or not rest.strip() or _has_mark(before, control_tokens)


def _has_mark(text: str, control_tokens: Collection[str]) -> bool:
    return _MARK.search(text) is not None or any(token in text for token in control_tokens)


def _split(text: str, *, in_reasoning: bool) -> tuple[str, str | None]:
    """The answer, and the reasoning: up to </think>, whose beginning may stand in the prompt; all of a text that is cut within it."""
    before, end, after = text.partition(_END)
    if end:
        return after.lstrip("\n"), before.lstrip().removeprefix(_THINK).strip("\n")
    beginning = text.lstrip()
    if in_reasoning or beginning.startswith(_THINK):
        return "", beginning.removeprefix(_THINK).strip("\n")
    return text, None


def _calls(text: str, chat: ChatOptions) -> tuple[str, list[dict[str, str]]] | None:
    """The text beside the calls, and the calls; None where there is none that can be read."""
    if chat.named:
        value = _json(text)
        return ("", [_call(chat.choice, value)]) if isinstance(value, dict) else None
    if "<tool_call>" in text:
        values = [_json(part) for part in _HERMES.findall(text)]
        content = text[: text.index("<tool_call>")].strip()
    else:
        content, mark, after = text.partition(_MISTRAL)
        if not mark:
            content, mark, after = text.partition(_LLAMA)
        content, after = (content.strip(), after) if mark else ("", text)
        value = _json(after)
        if value is None:
            value = _named_calls(after, chat.names) or list(_several(after))
        values = value if isinstance(value, list) else [value]
    calls = [_read(value, chat.names) for value in values]
    known = [call for call in calls if call is not None]
    return (content, known) if known and len(known) == len(calls) else None


def _several(text: str) -> Iterator[Any]:
    """Llama's way to call several times: objects with a semicolon between them."""
    parts = text.split(";")
    if len(parts) > 1:
        yield from map(_json, parts)


def _named_calls(text: str, names: Collection[str]) -> list[Any]:
    """Mistral's newer way: a function's name before its arguments, `f[ARGS]{...}` or `f{...}`, one call after the other; [] where anything else stands there."""
    found, at = [], 0
    while (head := _HEAD.match(text, at)) is not None and head["name"] in names:
        try:
            arguments, at = _DECODER.raw_decode(text, head.end())
        except (ValueError, RecursionError):
            return []
        found.append({"name": head["name"], "arguments": arguments})
    return [] if text[at:].strip() else found


def _read(value: Any, names: Collection[str]) -> dict[str, str] | None:
    if not isinstance(value, dict) or not isinstance(value.get("name"), str) or value["name"] not in names:
        return None
    arguments = value.get("arguments", value.get("parameters", {}))
    return _call(value["name"], arguments) if isinstance(arguments, dict | str) else None


def _call(name: str, arguments: Any) -> dict[str, str]:
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return {"name": name, "arguments": text}


def _json(text: str) -> Any:
    try:
        return _DECODER.decode(text)
    except (ValueError, RecursionError):
        return None


def _id(row_id: str, number: int) -> str:
    """The same on every start: a restart's line is the same bytes."""
    return f"call_{hashlib.blake2b(f'{row_id}/{number}'.encode('utf-8', 'surrogatepass'), digest_size=12).hexdigest()}"
