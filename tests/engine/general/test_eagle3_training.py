"""A head is trained on what it drafts from, and a few steps of it teach it something."""

import argparse
import json

import pytest
import torch

from specbatch.engine.general.model import CausalLM
from tests.engine import heads, tiny
from tools.eagle3.loss import unrolled
from tools.eagle3.rows import Row, acceptance_length
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
        drafts = list(unrolled(drafter.head, hidden, tokens, 3))
        paper = heads.Paper(config, tensors, model, drafter.target_layers)
        joined = hidden[0] @ tensors["fc.weight"].T
        for j in range(tokens.shape[1] - 4):
            g = joined[: j + 1]
            for s, out in enumerate(drafts):
                a, logits = paper._forward(tokens[0, 1 : j + s + 2], g)
                torch.testing.assert_close(out[0, j], logits[-1], rtol=1e-4, atol=1e-4)
                g = torch.cat([g, a[-1:]])


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
