"""Conversations: what a template can say of them, and what it would lose."""

from __future__ import annotations

import pytest

from specbatch.results.rows import ErrorCode
from specbatch.runner.dataset.bad_rows import RowError
from specbatch.runner.rows.messages import read_messages

ASK = {"role": "user", "content": "What is the weather in Oslo?"}
ANSWER = {"role": "tool", "tool_call_id": "c1", "content": "4 degrees"}


def call(arguments, **message):
    function = {"name": "get_weather", "arguments": arguments}
    return {"role": "assistant", "tool_calls": [{"id": "c1", "type": "function", "function": function}], **message}


@pytest.mark.parametrize(
    "message", [call('{"city": "Oslo"}', content=None), call('{"city": "Oslo"}'), call({"city": "Oslo"})]
)
def test_a_turn_that_only_calls_a_tool_has_no_text_and_its_arguments_are_an_object(message):
    turn = read_messages([ASK, message, ANSWER], "m")[1]
    assert turn["content"] == ""
    assert turn["tool_calls"][0]["function"]["arguments"] == {"city": "Oslo"}
    assert turn["tool_calls"][0]["id"] == "c1"


def test_a_call_without_arguments_has_none():
    assert read_messages([ASK, call(""), ANSWER], "m")[1]["tool_calls"][0]["function"]["arguments"] == {}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (["Convert 30 litres ", "to millilitres."], "Convert 30 litres to millilitres."),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b", "cache_control": {"type": "ephemeral"}}], "ab"),
        ([{"type": "input_text", "text": "a"}, {"text": "b"}], "ab"),
    ],
)
def test_text_parts_are_joined(content, text):
    assert read_messages([{"role": "user", "content": content}], "m")[0]["content"] == text


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}, "text": "a"}]}, ErrorCode.UNSUPPORTED_REQUEST),
        ({"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {}}]}, ErrorCode.UNSUPPORTED_REQUEST),
        ({"role": "user", "content": [{"type": "text", "text": "a", "image_url": {"url": "x"}}]}, ErrorCode.UNSUPPORTED_REQUEST),
        ({"role": "user", "content": "a", "images": ["x"]}, ErrorCode.UNSUPPORTED_REQUEST),
        ({"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}, ErrorCode.UNSUPPORTED_REQUEST),
        ({"role": "assistant", "content": None, "function_call": {"name": "f"}}, ErrorCode.UNSUPPORTED_REQUEST),
        ({"role": "assistant", "content": "a", "prefix": True}, ErrorCode.UNSUPPORTED_REQUEST),
        ({"role": "user", "content": [{"type": ["text"], "text": "a"}]}, ErrorCode.UNSUPPORTED_REQUEST),
        ({"role": "user", "content": [{"type": "text"}]}, ErrorCode.INVALID_FIELD),
        ({"role": "user", "content": None}, ErrorCode.INVALID_FIELD),
        (call("{"), ErrorCode.INVALID_FIELD),
        (call("[1]"), ErrorCode.INVALID_FIELD),
        ({"role": "assistant", "tool_calls": [{"id": "c"}]}, ErrorCode.INVALID_FIELD),
        ({"role": "user", "tool_calls": [{"id": "c"}], "content": "a"}, ErrorCode.INVALID_FIELD),
    ],
)  # fmt: skip
def test_what_the_template_would_lose_is_refused(message, code):
    with pytest.raises(RowError) as caught:
        read_messages([message, ASK], "m")
    assert caught.value.code is code


def test_a_conversation_that_ends_with_its_answer_asks_nothing():
    with pytest.raises(RowError) as caught:
        read_messages([ASK, {"role": "assistant", "content": "4 degrees"}], "messages")
    assert caught.value.code is ErrorCode.UNSUPPORTED_REQUEST
    assert "end with the user's turn" in caught.value.message
