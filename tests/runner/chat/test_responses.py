"""Requests to OpenAI's Responses API: read as the chat that asks the same, answered in their own form."""

import pytest
from openai.types.responses import Response

from specbatch.results.rows import OpenAIForm, ResultRow, Speculation, Usage
from specbatch.results.wire import decode_object, decode_result, encode_result
from specbatch.runner.rows.row import BadRow
from tests.runner.rows.test_prompts import row_of

CALL = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"x": 1}'}}


def line(**body):
    return {"custom_id": "a", "method": "POST", "url": "/v1/responses", "body": body}


def test_a_body_means_the_chat_that_asks_the_same():
    row = row_of(line(input="hello", instructions="be kind", max_output_tokens=5, temperature=0, store=False,
                      text={"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}}))  # fmt: skip
    assert row.messages == [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hello"}]
    assert row.endpoint == "/v1/responses"
    assert (row.decoding.max_new_tokens, row.decoding.structured_output.json_schema) == (5, {"type": "object"})
    items = [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hello"}]},
        {"type": "function_call", "call_id": "c", "name": "add", "arguments": '{"x": 1}'},
        {"type": "function_call_output", "call_id": "c", "output": "2"},
    ]
    tools = [{"type": "function", "name": "add", "parameters": {"type": "object"}, "strict": True}]
    row = row_of(line(input=items, tools=tools, tool_choice={"type": "function", "name": "add"}))
    assert [message["role"] for message in row.messages] == ["user", "assistant", "tool"]
    assert row.messages[1]["tool_calls"][0]["function"] == {"name": "add", "arguments": {"x": 1}}
    assert (row.chat.choice, row.chat.named) == ("add", True)


@pytest.mark.parametrize(
    "body",
    [{}, {"input": 3}, {"input": []}, {"input": "x", "n": 2}, {"input": "x", "text": 3}, {"input": "x", "previous_response_id": "r"},
     {"input": [{"type": "item_reference", "id": "x"}]}, {"input": "x", "tools": [{"type": "web_search"}]}, {"input": "x", "max_tool_calls": 3}],
    ids=str,
)  # fmt: skip
def test_what_has_no_place_there_is_the_rows_error(body):
    assert isinstance(row_of(line(**body)), BadRow)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"input": ""}, "body.input holds no text"),
        ({"input": []}, "body.input is empty"),
        ({"input": 3}, "body.input must be a list"),
        ({"input": [{"role": "user", "content": "x"}, {"role": "robot"}]}, "body.input[1].role must be"),
        ({"input": [{"type": "reasoning", "id": "r", "summary": []}]}, "body.input[0]: an item of type 'reasoning'"),
        ({"input": [{"role": "system", "content": "a"}, {"role": "user", "content": "x"}], "instructions": "b"}, "body.input begin"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_by_the_name_that_the_writer_has_for_it(body, message):
    assert row_of(line(**body)).message.startswith(message)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"finish_reason": "length"},
        {"text": "", "tool_calls": [CALL], "finish_reason": "tool_calls", "generated": "<tool_call>"},
        {"reasoning": "why", "generated": "why</think>so"},
    ],
    ids=str,
)
def test_an_answer_is_what_openais_client_reads_and_comes_back_as_it_was(fields):
    row = ResultRow(
        **{"id": "a", "index": 3, "text": "so", "finish_reason": "stop", "usage": Usage(prompt_tokens=4, completion_tokens=5), "fingerprint": "f",
           "speculation": Speculation(), "openai": OpenAIForm(model="m", created=7, endpoint="/v1/responses"), **fields}
    )  # fmt: skip
    written = encode_result(row)
    found = Response.model_validate(decode_object(written)["response"]["body"])
    assert found.output_text == row.text
    assert found.usage.total_tokens == 9
    assert decode_result(written) == row
