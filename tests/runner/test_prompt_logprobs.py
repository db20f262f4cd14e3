"""Rows that ask for the log probabilities of their prompts, or for their prompts back: in every form, collected and verified."""

import csv
import json

import pytest
from openai.types import Completion
from openai.types.chat import ChatCompletion

from specbatch.engine.logits.logprobs import Logprobs
from specbatch.results.collect.collect import collect
from specbatch.runner.job import run_job
from specbatch.runner.verify.verify import verify_run
from tests.runner.tiny import read_lines

pytestmark = pytest.mark.slow
CHAT = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
TEXT = {"prompt": "hello there", "max_tokens": 4}


def body(name, url, **asked):
    return {"custom_id": name, "method": "POST", "url": url, "body": asked}


ROWS = [
    {"id": "plain", **TEXT},
    {"id": "asked", **TEXT, "prompt_logprobs": 2},
    {"id": "two", **TEXT, "prompt_logprobs": 1, "n": 2, "temperature": 1.0},
    {"id": "in a template", **TEXT, "echo": True},
    body("as it is", "/v1/completions", **TEXT),
    body("text", "/v1/completions", **TEXT, echo=True),
    body("echo", "/v1/completions", **TEXT, echo=True, logprobs=1, prompt_logprobs=0),
    body("chat", "/v1/chat/completions", **CHAT, prompt_logprobs=1),
    body("chat echo", "/v1/chat/completions", **CHAT, echo=True),
]


def test_every_form_has_them_where_its_readers_look_and_verify_replays_them(make_job, tmp_path, monkeypatch):
    summary = run_job(make_job(ROWS))
    assert (summary.totals.results, summary.totals.errors) == (7, 2)
    directory = tmp_path / "results" / "tiny"
    lines = {line.get("custom_id") or line["id"]: line for line in read_lines(directory)}
    plain, asked, two = lines["plain"], lines["asked"], lines["two"]
    assert "prompt_logprobs" not in plain
    assert asked["text"] == plain["text"]
    content = asked["prompt_logprobs"]["content"]
    assert len(content) == plain["usage"]["prompt_tokens"]
    assert "hello there" in "".join(one["token"] for one in content)
    assert (content[0]["logprob"], content[0]["top_logprobs"]) == (None, [])
    assert all(one["logprob"] < 0 and len(one["top_logprobs"]) == 2 for one in content[1:])
    assert len(two["choices"]) == 2
    assert [one["logprob"] for one in two["prompt_logprobs"]["content"]] == [one["logprob"] for one in content]

    bodies = {name: lines[name]["response"]["body"] for name in ("as it is", "text", "echo", "chat")}
    usual, text = (Completion.model_validate(bodies[name]) for name in ("as it is", "text"))
    # As OpenAI's client reads it: its types know no null, its server does.
    echo = Completion.construct(**bodies["echo"])
    assert text.choices[0].text == echo.choices[0].text == "hello there" + usual.choices[0].text
    assert text.choices[0].logprobs is None
    assert lines["text"]["specbatch"]["generated"] == [usual.choices[0].text]
    found, tokens = echo.choices[0].logprobs, echo.usage.prompt_tokens
    assert (found.token_logprobs[0], found.top_logprobs[0]) == (None, None)
    assert found.token_logprobs[:tokens] == echo.prompt_logprobs["token_logprobs"]
    assert echo.prompt_logprobs["top_logprobs"] == [None] + [{}] * (tokens - 1)
    assert all(len(top) == 1 for top in found.top_logprobs[1:])
    assert "".join(found.tokens) == echo.choices[0].text
    assert found.text_offset[-1] == len(echo.choices[0].text) - len(found.tokens[-1])
    chat = ChatCompletion.model_validate(bodies["chat"])
    assert len(chat.prompt_logprobs["content"]) == chat.usage.prompt_tokens
    checked = verify_run(directory)
    assert (checked.exact, checked.unexplained) == (7, 0)
    of_prompts = 2 * (len(content) - 1) + tokens - 1 + chat.usage.prompt_tokens - 1
    assert checked.logprobs == of_prompts + echo.usage.completion_tokens
    assert checked.logprobs_apart < 1e-4
    real = Logprobs.of
    monkeypatch.setattr(Logprobs, "of", lambda logits, tokens: real(logits, tokens.roll(1, -1)))
    assert verify_run(directory).logprobs_apart > 0.1


def test_tables_have_them_in_a_column(make_job, tmp_path):
    run_job(make_job(ROWS[:2]))
    collect(tmp_path / "results" / "tiny", tmp_path / "rows.csv")
    with (tmp_path / "rows.csv").open() as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    assert rows["plain"]["generated_prompt_logprobs"] == ""
    assert json.loads(rows["asked"]["generated_prompt_logprobs"])["content"][0]["logprob"] is None
