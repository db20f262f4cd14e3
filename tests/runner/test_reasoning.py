"""Runs whose chat template opens the reasoning in the prompt, as those of Qwen3's thinking models do."""

import pytest

from specbatch.runner.job import run_job
from specbatch.runner.verify.verify import verify_run
from tests.runner.tiny import read_lines

pytestmark = pytest.mark.slow
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% if enable_thinking %}<think>\n{% endif %}{% endif %}"
)
CHAT = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 6, "reasoning": "split"}


def test_a_text_that_is_cut_within_the_reasoning_of_the_prompt_is_never_delivered_as_the_answer(make_job, tmp_path):
    begun = [*CHAT["messages"], {"role": "assistant", "content": "<think>\nFirst"}]
    rows = [
        {"custom_id": "chat", "url": "/v1/chat/completions", "body": {**CHAT, "enable_thinking": True}},
        {"custom_id": "plain", "url": "/v1/chat/completions", "body": CHAT},
        {"id": "several", **CHAT, "enable_thinking": True, "n": 2, "temperature": 1.0},
        {"id": "begun", **CHAT, "messages": begun, "continue_final_message": True},
    ]
    template = tmp_path / "chat.jinja"
    template.write_text(TEMPLATE)
    run_job(make_job(rows, f"dataset.chatTemplate={template}"))
    directory = tmp_path / "results" / "tiny"
    lines = {line.get("custom_id") or line["id"]: line for line in read_lines(directory)}
    message = lines["chat"]["response"]["body"]["choices"][0]["message"]
    assert message["content"] == ""
    assert message["reasoning_content"]
    assert "reasoning_content" not in lines["plain"]["response"]["body"]["choices"][0]["message"]
    for one in (*lines["several"]["choices"], lines["begun"]):
        assert (one["finish_reason"], one["text"], one["reasoning"]) == ("length", "", one["generated"].strip("\n"))
    found = verify_run(directory)
    assert (found.exact, found.unexplained) == (4, 0)
