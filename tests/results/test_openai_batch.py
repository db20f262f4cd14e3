"""The OpenAI batch form against the form's own definition: the types of OpenAI's client, and lines as its guide prints them."""

import json

import pytest
from openai.types import Completion
from openai.types.chat import ChatCompletion

from specbatch.api.decoding import DecodingSpec
from specbatch.results.rows import OpenAIForm
from specbatch.results.wire import encode_error, encode_result
from specbatch.runner.dataset.lines import RawRow
from specbatch.runner.rows.row import Row
from specbatch.runner.rows.row_reader import RowReader
from tests.results.builders import make_error, make_row
from tests.runner.tiny import row_rules

# The documented output line (platform.openai.com/docs/guides/batch), its values replaced.
DOCUMENTED = json.loads(
    '{"id": "batch_req_1", "custom_id": "request-2", "response": {"status_code": 200, "request_id": "req_1", "body": {"id": "chatcmpl-1", '
    '"object": "chat.completion", "created": 1711652795, "model": "gpt-4o", "choices": [{"index": 0, "message": {"role": "assistant", '
    '"content": "Hi."}, "logprobs": null, "finish_reason": "stop"}], "usage": {"prompt_tokens": 22, "completion_tokens": 2, '
    '"total_tokens": 24}, "system_fingerprint": "fp_1"}}, "error": null}'
)


def keys(value, path=""):
    """Every key of nested objects and lists with its path."""
    if isinstance(value, dict):
        return {f"{path}.{key}" for key in value}.union(*(keys(part, f"{path}.{key}") for key, part in value.items()))
    return set().union(*(keys(part, f"{path}[]") for part in value)) if isinstance(value, list) else set()


def line(row):
    return json.loads((encode_result if hasattr(row, "text") else encode_error)(row))


def test_a_result_has_every_key_of_a_documented_line():
    made = line(make_row(0, openai=OpenAIForm(model="Qwen/Qwen3-8B", created=1711652795)))
    assert keys(DOCUMENTED) <= keys(made)
    assert made.keys() - DOCUMENTED.keys() == {"specbatch"}, "what is ours stands under one key"


def test_equal_requests_under_different_ids_have_ids_of_their_own():
    form = OpenAIForm(model="m", created=5)
    rows = [make_row(0, id=name, fingerprint="f", openai=form) for name in ("a", "b")]
    rows.append(make_error(0, id="c", fingerprint="f", openai=form))
    lines = [line(row) for row in rows]
    assert len({one["id"] for one in lines}) == 3
    assert len({one["response"]["body"]["id"] for one in lines[:2]}) == 2
    assert line(rows[0]) == lines[0]


@pytest.mark.parametrize("finish_reason", ["stop", "length"])
def test_the_bodies_are_what_openais_client_reads(finish_reason):
    chat = line(make_row(0, finish_reason=finish_reason, openai=OpenAIForm(model="m", created=5)))["response"]["body"]
    plain = line(
        make_row(0, finish_reason=finish_reason, openai=OpenAIForm(model="m", created=5, endpoint="/v1/completions"))
    )["response"]["body"]
    read = ChatCompletion.model_validate(chat, strict=True)
    assert (read.choices[0].message.content, read.choices[0].finish_reason) == (make_row(0).text, finish_reason)
    assert read.usage.total_tokens == read.usage.prompt_tokens + read.usage.completion_tokens
    assert Completion.model_validate(plain, strict=True).choices[0].text == make_row(0).text
    assert set(chat) <= set(ChatCompletion.model_fields)
    assert set(plain) <= set(Completion.model_fields)


def test_an_error_line_has_no_response_and_a_code_with_a_message():
    made = line(make_error(0, openai=OpenAIForm(model="m")))
    assert made["response"] is None
    assert set(made["error"]) == {"code", "message"}
    assert {"id", "custom_id"} <= set(made)


INPUT = [  # as guides and providers print them: OpenAI's, Azure's path, max_completion_tokens, text parts, completions
    (
        '{"custom_id": "request-1", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "gpt-3.5-turbo-0125", '
        '"messages": [{"role": "system", "content": "Be brief."},{"role": "user", "content": "Hello world!"}],"max_tokens": 1000}}'
    ),
    (
        '{"custom_id": "task-0", "method": "POST", "url": "/chat/completions", "body": {"model": "REPLACE-WITH-MODEL-DEPLOYMENT-NAME", '
        '"messages": [{"role": "user", "content": "When was Microsoft founded?"}]}}'
    ),
    (
        '{"custom_id": "3", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "m", "temperature": 0, "n": 1, "stream": false, '
        '"max_completion_tokens": 9, "messages": [{"role": "developer", "content": [{"type": "text", "text": "Hi"}]}]}}'
    ),
    '{"custom_id": "4", "method": "POST", "url": "/v1/completions", "body": {"model": "m", "prompt": "Once", "max_tokens": 7, "stop": "\\n"}}',
]


@pytest.mark.parametrize(("text", "endpoint"), list(zip(INPUT, ["chat/", "chat/", "chat/", ""], strict=True)))
def test_input_lines_as_providers_print_them_are_rows(text, endpoint):
    row = RowReader(row_rules(DecodingSpec())).read(RawRow(0, 1, text.encode()))
    assert isinstance(row, Row), row
    assert row.id == json.loads(text)["custom_id"]
    assert row.endpoint == f"/v1/{endpoint}completions"
