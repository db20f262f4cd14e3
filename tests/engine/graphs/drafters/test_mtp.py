"""A model's own layer for drafting drafts what it says, in the general engine and in captured rounds, and changes no token."""

import copy

import pytest

from specbatch.engine.general.model import CausalLM
from specbatch.engine.request import Request
from specbatch.errors import ModelError
from tests.engine import mimo, tiny
from tests.engine.graphs import fast
from tests.engine.graphs.gpu.embedded import GPU, graphs_of


@pytest.fixture(scope="module")
def target():
    model, tensors = mimo.model(), mimo.weights()
    rows = [row for row in tiny.prompts(14, longest=90) if len(row) > 1]
    return CausalLM(copy.deepcopy(model)), rows, tiny.greedy_reference(model, rows, tiny.NEW), model, tensors


def made(tmp_path, target):
    lm, _, _, model, tensors = target
    return mimo.load(mimo.write(tmp_path, model, tensors), lm)


def test_every_draft_is_that_of_the_layer_written_anew(target, tmp_path, monkeypatch):
    lm, prompts, expected, model, tensors = target
    drafter, seen = made(tmp_path, target), []
    propose = drafter.propose

    def spied(batch, k, rule, vocab_size):
        proposal = propose(batch, k, rule, vocab_size)
        for row, drafts in zip(batch.rows, proposal.tokens.tolist(), strict=True):
            seen.append(([*row.request.prompt_token_ids, *row.token_ids], drafts))
        return proposal

    monkeypatch.setattr(drafter, "propose", spied)
    rows = [Request(str(i), prompt, 6) for i, prompt in enumerate(prompts[:8])]
    out, _ = tiny.decode(lm, drafter, rows, max_sequences=5, num_speculative_tokens=3)
    assert tiny.tokens(out, len(rows)) == [row[:6] for row in expected[:8]]
    written = mimo.Written(model, tensors)
    assert len(seen) > 25
    assert all(written.drafts(tokens, 3) == drafts for tokens, drafts in seen)


@pytest.mark.slow
def test_captured_rounds_have_the_drafts_of_the_general_engine(target, tmp_path):
    lm, prompts, expected, *_ = target
    drafter = made(tmp_path, target)
    lengths, sizes = [3, 17, 9, 21, 25], {"max_sequences": 3, "num_speculative_tokens": 3}
    out, engine = fast.decode(lm, drafter, fast.stopped(prompts, lengths), **sizes)
    general, _ = tiny.decode(lm, drafter, fast.stopped(prompts, lengths), **sizes)
    assert all(tokens == expected[i][: len(tokens)] for i, tokens in enumerate(tiny.tokens(out, len(prompts))))
    assert fast.counts(out) == fast.counts(general)
    assert engine.stats.catch_up_seconds == 0


@pytest.mark.gpu
def test_kernels_and_cuda_graphs_have_the_drafts_of_the_general_engine(target, tmp_path):
    _, prompts, expected, model, tensors = target
    lm = CausalLM(copy.deepcopy(model).to(GPU))
    drafter = mimo.load(mimo.write(tmp_path, model, tensors), lm, device=str(GPU))
    sizes = {"max_sequences": 3, "num_speculative_tokens": 3}
    out, engine = fast.decode(lm, drafter, fast.stopped(prompts, [17, 9, 21]), **sizes)
    general, _ = tiny.decode(lm, drafter, fast.stopped(prompts, [17, 9, 21]), **sizes)
    assert graphs_of(engine) == 1
    assert all(tokens == expected[i][: len(tokens)] for i, tokens in enumerate(tiny.tokens(out, len(prompts))))
    assert fast.counts(out) == fast.counts(general)


def test_a_layer_that_lacks_a_tensor_is_refused_by_its_name(target, tmp_path):
    lm, _, _, model, tensors = target
    some = {key: tensor for key, tensor in tensors.items() if key != "input_proj.weight"}
    with pytest.raises(ModelError, match=r"1 tensors missing \(fc.weight\)"):
        mimo.load(mimo.write(tmp_path, model, some), lm)
