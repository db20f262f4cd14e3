"""Rows that ask for several completions (n): one line each, in every form, and verified."""

import pytest
from openai.types import Completion

from specbatch.runner.job import run_job
from specbatch.runner.verify.verify import verify_run
from tests.runner.tiny import read_lines

pytestmark = pytest.mark.slow
CHAT = {"messages": [{"role": "user", "content": "hello"}], "n": 3, "temperature": 1.0, "max_tokens": 6}


def test_each_row_is_one_line_with_all_its_completions(make_job, tmp_path):
    rows = [
        {"id": "a", "prompt": "hello", "n": 3, "temperature": 1.0, "max_tokens": 6},
        {"id": "b", "prompt": "hello", "max_tokens": 6},
        {"custom_id": "c", "method": "POST", "url": "/v1/chat/completions", "body": CHAT},
        {"id": "d", "prompt": "hello", "n": 2},
        {"id": "e", "prompt": "hello", "max_tokens": 6, "logprobs": True, "top_logprobs": 2},
        {"custom_id": "f", "url": "/v1/completions", "body": {"prompt": "hello", "logprobs": 2, "max_tokens": 6}},
    ]
    job = make_job(rows)
    summary = run_job(job)
    assert (summary.totals.results, summary.totals.errors) == (5, 1)
    directory = tmp_path / "results" / "tiny"
    lines = {line.get("custom_id") or line["id"]: line for line in read_lines(directory)}
    choices = lines["a"]["choices"]
    assert [choice["id"] for choice in choices] == ["a#0", "a#1", "a#2"]
    assert lines["a"]["text"] == choices[0]["text"]
    assert len({choice["text"] for choice in choices}) > 1
    assert lines["a"]["usage"]["completion_tokens"] == sum(choice["completion_tokens"] for choice in choices)
    assert "choices" not in lines["b"]
    body = lines["c"]["response"]["body"]
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2]
    assert len({choice["message"]["content"] for choice in body["choices"]}) > 1
    content = lines["e"]["logprobs"]["content"]
    assert len(content) == lines["e"]["usage"]["completion_tokens"]
    assert all(len(one["top_logprobs"]) == 2 and one["logprob"] <= 0 for one in content)
    assert content[0]["top_logprobs"][0]["token"] == content[0]["token"], "greedy takes the likeliest"
    found = Completion.model_validate(lines["f"]["response"]["body"]).choices[0].logprobs
    assert len(found.tokens) == len(found.top_logprobs) == len(content)
    assert run_job(job).skipped == 6, "a restart knows the row again, whole"
    found = verify_run(directory)
    assert (found.exact, found.unexplained) == (5, 0)
