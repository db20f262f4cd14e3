"""A head is trained on what it drafts from, and a few steps of it teach it something."""

import argparse
import json

import pytest
import torch

from specbatch.engine.general.model import CausalLM
from tests.engine import heads, tiny
from tools.eagle3.loss import unrolled
from tools.eagle3.prompts import read_prompts
from tools.eagle3.rows import Answers, Row, acceptance_length, bounded_rows, read_rows, write_rows
from tools.eagle3.train import head_config, new_head, save, train


@pytest.fixture(scope="module")
def model():
    return tiny.qwen3(layers=7)


def test_the_drafts_in_training_are_the_papers_from_every_position(model, tmp_path):
    config = heads.safeailab(draft_vocab_size=tiny.VOCAB)
    tensors = heads.weights(config)
    drafter = heads.load(heads.write(tmp_path, config, tensors), CausalLM(tiny.qwen3(layers=7)))
    tokens = torch.tensor([tiny.prompts(6)[4][:11]])
    with torch.no_grad():
        states = model(tokens, output_hidden_states=True).hidden_states
        hidden = torch.cat([states[layer] for layer in drafter.target_layers], -1)
        drafts = [drafter.head.logits(left) for left in unrolled(drafter.head, hidden, tokens, 3)]
        paper = heads.Paper(config, tensors, model, drafter.target_layers)
        joined = hidden[0] @ tensors["fc.weight"].T
        for j in range(tokens.shape[1] - 4):
            g = joined[: j + 1]
            for s, out in enumerate(drafts):
                a, logits = paper._forward(tokens[0, 1 : j + s + 2], g)
                torch.testing.assert_close(out[0, j], logits[-1], rtol=1e-4, atol=1e-4)
                g = torch.cat([g, a[-1:]])


class Words:
    """A tokenizer of words; a turn begins with "user"."""

    chat_template = "user {} assistant"

    def __init__(self):
        self.words = []

    def __call__(self, text, add_special_tokens=True):
        self.words += [word for word in text.split(" ") if word and word not in self.words]
        return {"input_ids": [self.words.index(word) for word in text.split(" ") if word]}

    def decode(self, tokens, skip_special_tokens):
        return " " + " ".join(self.words[token] for token in tokens)

    def apply_chat_template(self, turns, tokenize, add_generation_prompt=False):
        return f"user {turns[0]['content']}" + (" assistant" if add_generation_prompt else "")


def test_prompts_of_all_sources_are_turns_of_the_template_each_once(tmp_path):
    words = Words()
    ends = {place: words(f"end{place % 4} of it")["input_ids"] for place in range(20) if place != 3}
    (tmp_path / "own.jsonl").write_text('{"prompt": "Hello there"}\n\n{"prompt": "Hello there"}\n', encoding="utf-8")
    begun = []
    prompts = read_prompts(["own:20", "docs:5", str(tmp_path / "own.jsonl")], words, lambda b: begun.extend(b) or ends)
    texts = [" ".join(words.words[token] for token in prompt) for prompt in prompts]
    assert len(begun) == 20
    assert {begin[0] for begin in begun} == {words.words.index("user")}
    assert all(text.startswith("user ") and text.endswith(" assistant") for text in texts)
    assert len(set(texts)) == len(texts)
    assert "user Hello there assistant" in texts
    assert "user What is end0 of it assistant" in texts  # an opening of its own, and how the target went on
    own = [text for text in texts if "of it assistant" in text]
    assert len(own) == 16  # of 20: one did not end, three are there already
    assert len(texts) == len(own) + 5 + 1
    often = read_prompts(["own:20", f"{tmp_path / 'own.jsonl'}:3"], words, lambda _: ends)
    assert [" ".join(words.words[token] for token in prompt) for prompt in often].count(
        "user Hello there assistant"
    ) == 3
    assert len(often) == len(own) + 3


def test_answers_are_the_targets_where_they_fit_and_are_read_as_they_were_written(model, tmp_path):
    prompts = [*tiny.prompts(3, longest=12), [1] * 60]
    rows = Answers(CausalLM(tiny.qwen3(layers=7)), 64, 2).to(prompts, 6, [0.0, 0.7])
    greedy = tiny.greedy_reference(model, prompts[:3], 6)
    assert [row.tokens[: row.answer_at] for row in rows] == prompts[:3]
    assert [row.tokens[row.answer_at :] for row in (rows[0], rows[2])] == [greedy[0], greedy[2]]
    write_rows(rows, tmp_path / "rows.jsonl")
    assert read_rows(tmp_path / "rows.jsonl") == rows


def test_answers_that_do_not_end_in_time_are_left_out():
    answers = Answers(CausalLM(tiny.qwen3(layers=7)), 64, 1, minutes=0)
    assert len(answers.to(tiny.prompts(3, longest=12), 6, [0.0])) == 1


@pytest.mark.parametrize(
    ("prompts", "free", "rows"), [(8, float("inf"), 8), (9999, float("inf"), 512), (9999, 4000, 10), (9999, 10, 1)]
)
def test_rows_answered_at_once_are_bounded_by_prompts_and_a_quarter_of_free_memory(prompts, free, rows):
    assert bounded_rows(512, prompts, 100, free) == rows


@pytest.mark.slow
def test_a_trained_head_in_the_public_layout_is_accepted_more_than_a_new_one(model, tmp_path):
    """The target repeats itself on these rows: a head can learn that in seconds."""
    prompts = tiny.prompts(24, longest=12)
    rows = [Row([*p, *t], len(p)) for p, t in zip(prompts, tiny.greedy_reference(model, prompts, 40), strict=True)]
    target = CausalLM(tiny.qwen3(layers=7))
    config = head_config(target, 48, None)
    assert json.loads(json.dumps(config)) == config
    drafted = torch.arange(48)
    torch.manual_seed(1)
    head = new_head(config, target, drafted, torch.device("cpu"))
    lengths = []
    arguments = argparse.Namespace(learning_rate=1e-2, steps=120, minutes=5, tokens_per_step=600, depth=3, seed=1)
    for folder in ("new", "trained"):
        if folder == "trained":
            target.model.set_attn_implementation("sdpa")
            train(target, head, rows, drafted, arguments)
        save(head, config, drafted, tmp_path / folder)
        target = CausalLM(target.model)
        drafter = heads.load(tmp_path / folder, target)
        lengths.append(acceptance_length(target, drafter, prompts[:8], 3, 40))
    assert lengths[1] > lengths[0] + 0.2
