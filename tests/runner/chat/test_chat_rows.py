"""Rows with tools, variables of the template, and an answer that is begun."""

import pytest

from specbatch.results.rows import ErrorCode
from specbatch.runner.dataset.bad_rows import RowError
from specbatch.runner.rows.prompts import PromptEncoder
from specbatch.runner.rows.row import BadRow
from tests.runner.chat.test_answer import tool
from tests.runner.rows.test_prompts import row_of

USER = [{"role": "user", "content": "hello"}]
BEGUN = [*USER, {"role": "assistant", "content": "It is"}]
TEMPLATE = (
    "{% if tools %}{% for tool in tools %}T:{{ tool.function.name }} {% endfor %}{% endif %}{{ style | default('') }}"
    "{% for m in messages %}{{ m.role }}:{{ m.content }}|{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
)


@pytest.fixture
def prompt_of(tokenizer):
    encoder = PromptEncoder(tokenizer, template=TEMPLATE, max_length=512)
    return lambda **fields: encoder._text(row_of({"messages": USER, **fields}))


def test_the_template_is_given_tools_and_variables(prompt_of):
    assert prompt_of() == "user:hello|assistant:"
    assert prompt_of(tools=[tool("add"), {"name": "find"}]) == "T:add T:find user:hello|assistant:"
    assert prompt_of(tools=[tool("add")], tool_choice="none") == "user:hello|assistant:"
    assert prompt_of(chat_template_kwargs={"style": "!"}) == "!user:hello|assistant:"
    assert prompt_of(add_generation_prompt=False) == "user:hello|"


def test_an_answer_that_is_begun_goes_on(prompt_of):
    assert (
        prompt_of(messages=BEGUN, continue_final_message=True, add_generation_prompt=False)
        == "user:hello|assistant:It is"
    )
    body = {"messages": BEGUN, "continue_final_message": True}
    assert row_of({"custom_id": "a", "url": "/v1/chat/completions", "body": body}).messages == BEGUN
    assert (
        "continue_final_message"
        in row_of({"custom_id": "a", "url": "/v1/chat/completions", "body": {"messages": BEGUN}}).message
    )
    with pytest.raises(RowError, match="not the assistant's"):
        prompt_of(continue_final_message=True)


def test_each_of_them_changes_the_rows_fingerprint():
    fields = [{}, {"tools": [tool("add")]}, {"tools": [tool("find")]}, {"chat_template_kwargs": {"a": 1}}, {"add_generation_prompt": False},
              {"tools": [tool("add")], "parallel_tool_calls": False}, {"tools": [tool("add")], "tool_choice": "required"}, {"reasoning": "split"}]  # fmt: skip
    assert len({row_of({"messages": USER, **one}).fingerprint for one in fields}) == len(fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [{"type": "web_search"}]}, {"tools": [3]}, {"tools": [{"type": "function"}]}, {"tool_choice": "required"}, {"tools": [tool("add")], "tool_choice": "sub"},
        {"tools": [tool("add")], "tool_choice": {"type": "function", "function": {"name": "sub"}}}, {"chat_template_kwargs": {"messages": []}},
        {"chat_template_kwargs": 3}, {"chat_template_kwargs": {"enable_thinking": True}, "enable_thinking": False}, {"parallel_tool_calls": 1},
        {"add_generation_prompt": True, "continue_final_message": True}, {"tools": [tool("add")], "tool_choice": "required", "response_format": {"type": "json_object"}},
        {"reasoning": {"effort": "high"}},
    ],
    ids=str,
)  # fmt: skip
def test_what_cannot_be_is_the_rows_error(fields):
    assert isinstance(row_of({"messages": USER, **fields}), BadRow)


@pytest.mark.parametrize("strict", ["yes", 1, {}])
def test_a_strict_that_is_neither_true_nor_false_is_refused_by_name(strict):
    inner = {"type": "function", "function": {"name": "add", "strict": strict}}
    for one in (inner, {"name": "add", "strict": strict}):
        bad = row_of({"messages": USER, "tools": [tool("add"), one]})
        assert bad.message.startswith("tools[1].strict must be true or false, found")
    assert row_of({"messages": USER, "tools": [{"name": "add", "strict": None}]}).chat.names == {"add"}


@pytest.mark.parametrize("flag", ["true", 1])
def test_a_wish_to_continue_that_is_neither_true_nor_false_is_refused_as_that(flag):
    for fields in ({"messages": BEGUN}, {"custom_id": "a", "body": {"messages": BEGUN}}):
        (fields.get("body") or fields)["continue_final_message"] = flag
        assert row_of(fields).message == f"continue_final_message must be true or false, found {flag!r}"


def test_a_template_without_tools_is_no_place_for_them(tokenizer):
    encoder = PromptEncoder(tokenizer, template="{{ messages[0].content }}", max_length=512)
    with pytest.raises(RowError, match="no place for tools") as caught:
        encoder.encode(row_of({"messages": USER, "tools": [tool("add")]}))
    assert caught.value.code is ErrorCode.CHAT_TEMPLATE
