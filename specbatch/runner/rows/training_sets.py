"""Rows of training sets as conversations: Alpaca's instruction and input, ShareGPT's turns of from and value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from specbatch.results.rows import ErrorCode
from specbatch.runner.dataset.bad_rows import RowError, shown

# As github.com/tatsu-lab/stanford_alpaca, LLaMA-Factory and axolotl write them.
ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "system": "system",
    "tool": "tool",
    "observation": "tool",
    "function_response": "tool",
}
_TURN = frozenset({"from", "value"})
_PASSED_OVER = frozenset({"weight", "train", "loss"})  # of a turn: they weigh what a training learns


def is_sharegpt(value: Any) -> bool:
    """Whether a conversation has ShareGPT's notation."""
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict) and not _TURN.isdisjoint(value[0])


def sharegpt_messages(value: list[Any], name: str) -> list[Any]:
    """The conversation in the notation of chat templates, still to be checked.

    Raises:
        RowError: a turn of nobody known, or with more in it than who says what.
    """
    return [_turn(turn, f"{name}[{at}]") for at, turn in enumerate(value)]


def _turn(turn: Any, name: str) -> dict[str, Any]:
    if not isinstance(turn, dict) or not turn.keys() >= _TURN:
        raise RowError(ErrorCode.INVALID_FIELD, f"{name} must hold from and value, found {shown(turn)}")
    role = ROLES.get(turn["from"]) if isinstance(turn["from"], str) else None
    if role is None:
        raise RowError(
            ErrorCode.INVALID_FIELD, f"{name}.from must be one of {', '.join(ROLES)}, found {shown(turn['from'])}"
        )
    others = [key for key in turn if key not in _TURN | _PASSED_OVER and turn[key] is not None]
    if others:
        raise RowError(ErrorCode.UNSUPPORTED_REQUEST, f"{name}: only from and value are read, found {shown(others)}")
    return {"role": role, "content": turn["value"]}


def alpaca_prompt(fields: Mapping[str, Any], instruction: str, context: str) -> str:
    """The instruction, an empty line and the input, where there is one.

    Raises:
        RowError: one of them is no text, there is nothing to do, or there are earlier turns.
    """
    texts = [_text(fields, name) for name in (instruction, context)]
    if not any(text.strip() for text in texts):
        raise RowError(ErrorCode.EMPTY_PROMPT, f"{instruction} is empty")
    if fields.get("history"):
        remedy = "write the turns as messages, or name it in dataset.ignoreFields"
        raise RowError(ErrorCode.UNSUPPORTED_REQUEST, f"history: earlier turns are not read in this form; {remedy}")
    return "\n\n".join(text for text in texts if text.strip())


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    if value is not None and not isinstance(value, str):
        raise RowError(ErrorCode.INVALID_FIELD, f"{name} must be a string, found {shown(value)}")
    return value or ""
