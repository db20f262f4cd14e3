"""A generated text taken apart: reasoning, calls of tools in the forms of several models, and what is neither."""

import json

import pytest

from specbatch.runner.chat.answer import answer_in
from specbatch.runner.chat.options import ChatOptions, chat_options


def tool(name):
    return {
        "type": "function",
        "function": {"name": name, "parameters": {"type": "object", "properties": {"x": {"type": "integer"}}}},
    }


TOOLS = ChatOptions(tools=[tool("add"), tool("find")])
ADD, FIND = ("add", {"x": 1}), ("find", {"x": 2})
CALLS = {
    "hermes": ('Let me see.\n<tool_call>\n{"name": "add", "arguments": {"x": 1}}\n</tool_call>', "Let me see.", [ADD]),
    "hermes, two": ('<tool_call>{"name": "add", "arguments": {"x": 1}}</tool_call>\n<tool_call>{"name": "find", "arguments": {"x": 2}}</tool_call>', "", [ADD, FIND]),
    "hermes, the end tag cut off": ('<tool_call>\n{"name": "add", "arguments": {"x": 1}}', "", [ADD]),
    "llama": ('{"name": "add", "parameters": {"x": 1}}', "", [ADD]),
    "llama, tagged": ('<|python_tag|>{"name": "add", "parameters": {"x": 1}}', "", [ADD]),
    "llama, two": ('{"name": "add", "parameters": {"x": 1}}; {"name": "find", "parameters": {"x": 2}}', "", [ADD, FIND]),
    "mistral": ('[TOOL_CALLS] [{"name": "add", "arguments": {"x": 1}}, {"name": "find", "arguments": {"x": 2}}]', "", [ADD, FIND]),
    "mistral, its token left out": ('[{"name": "add", "arguments": {"x": 1}}]', "", [ADD]),
    "mistral, by name": ('See.[TOOL_CALLS]add[ARGS]{"x": 1}[TOOL_CALLS]find[CALL_ID]a1b2c3d4e[ARGS]{"x": 2}', "See.", [ADD, FIND]),
    "mistral, by name, its tokens left out": ('add{"x": 1}find{"x": 2}', "", [ADD, FIND]),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_calls_are_read_in_each_form(name):
    text, content, calls = CALLS[name]
    found = answer_in(text, TOOLS, row_id="r")
    assert (found.text, found.generated) == (content, text)
    assert [(one["function"]["name"], json.loads(one["function"]["arguments"])) for one in found.tool_calls] == calls
    assert len({one["id"] for one in found.tool_calls}) == len(calls)
    assert found == answer_in(text, TOOLS, row_id="r"), "the same ids on every start"
    single = answer_in(text, ChatOptions(tools=TOOLS.tools, parallel=False), row_id="r")
    assert len(single.tool_calls) == 1


@pytest.mark.parametrize(
    "text",
    ["2 + 2 = 4", '{"name": "other", "parameters": {}}', '{"name": "add", "parameters": 3}', "<tool_call>{broken</tool_call>", "[1, 2]", "", '"add"', "[" * 100_000,
     '{"name": ["add"], "arguments": {}}', '{"name": "add", "arguments": {"x": NaN}}', 'add{"x": 1} or so', 'add{"x": 1}other{}', "add{", "a" * 100_000,
     '<tool_call>{"name": "add", "arguments": {}}</tool_call><tool_call>{"name": "other"}</tool_call>'],
    ids=lambda text: text[:20],
)  # fmt: skip
def test_what_is_no_call_of_a_known_tool_stays_text(text):
    assert answer_in(text, TOOLS) == (text, None, None, None)


def test_without_tools_nothing_is_read_as_a_call():
    text = CALLS["hermes"][0]
    assert answer_in(text).text == text


@pytest.mark.parametrize(
    ("text", "reasoning", "content"),
    [
        ("<think>\nwhy\n</think>\n\nso", "why", "so"),
        ("why\n</think>\nso", "why", "so"),
        ("<think>cut", "cut", ""),
        ("plain", None, "plain"),
    ],
)
def test_reasoning_stands_apart_where_that_is_asked(text, reasoning, content):
    assert answer_in(text).text == text
    found = answer_in(text, split=True)
    assert (found.reasoning, found.text) == (reasoning, content)
    both = answer_in(f"<think>hm</think>{CALLS['hermes'][0]}", TOOLS, split=True)
    assert (both.reasoning, both.text, len(both.tool_calls)) == ("hm", "Let me see.", 1)


@pytest.mark.parametrize(
    ("text", "reasoning", "content"), [("cut", "cut", ""), ("why</think>\n\nso", "why", "so"), ("", "", "")]
)
def test_a_text_that_goes_on_with_the_prompts_reasoning_is_no_answer_before_its_end(text, reasoning, content):
    found = answer_in(text, split=True, in_reasoning=True)
    assert (found.reasoning, found.text, found.generated) == (reasoning, content, text)
    assert answer_in(text, in_reasoning=True).text == text, "nothing is taken apart unasked"


def test_a_call_that_has_to_be_is_a_schema():
    named = chat_options({"tools": [tool("add")], "tool_choice": {"type": "function", "function": {"name": "add"}}})
    assert named.schema() == tool("add")["function"]["parameters"]
    assert answer_in('{"x": 3}', named).tool_calls[0]["function"] == {"name": "add", "arguments": '{"x": 3}'}
    required = chat_options({"tools": [tool("add")], "tool_choice": "required", "parallel_tool_calls": False})
    assert (required.schema()["minItems"], required.schema()["maxItems"]) == (1, 1)
    assert answer_in('[{"name": "add", "parameters": {"x": 3}}]', required).tool_calls[0]["function"]["name"] == "add"
    assert chat_options({"tools": [tool("add")], "tool_choice": "none"}).tools == ()
