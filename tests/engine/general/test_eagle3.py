"""An EAGLE-3 head drafts what the paper says, and changes no token."""

import copy
import itertools

import pytest

from specbatch.engine.general.model import CausalLM
from specbatch.engine.request import Request, SamplingParams
from tests.engine import heads, tiny
from tests.engine.test_engine_greedy import Scripted

CONFIGS = {
    "SafeAILab": heads.safeailab(),
    "SafeAILab, named layers": heads.safeailab(eagle_config={"eagle_aux_hidden_state_layer_ids": [0, 2]}),
    "speculators": heads.speculators({"model_type": "qwen3"}),
    "speculators, normed": heads.speculators(norm_before_residual=True, norm_before_fc=True),
    "the whole vocabulary": heads.safeailab(draft_vocab_size=tiny.VOCAB),
}


@pytest.fixture(scope="module")
def target():
    """Seven layers, so that low, middle and high are not the same."""
    model = tiny.qwen3(layers=7)
    rows = tiny.prompts(12)
    expected = tiny.greedy_reference(model, rows, tiny.NEW)
    return CausalLM(copy.deepcopy(model)), rows, expected, model


def made(tmp_path, target, config, **kwargs):
    joined = len(config.get("eagle_config", {}).get("eagle_aux_hidden_state_layer_ids", [1, 2, 3]))
    tensors = heads.weights(config, joined=joined, **kwargs)
    return tensors, heads.load(heads.write(tmp_path, config, tensors), target)


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_every_draft_is_the_papers(name, target, tmp_path, monkeypatch):
    lm, prompts, expected, model = target
    config = CONFIGS[name]
    tensors, drafter = made(tmp_path, lm, config)
    layers = (1, 3) if "named" in name else (2, 3, 4)
    assert drafter.target_layers == layers
    seen = []
    propose = drafter.propose

    def spied(batch, k, rule, vocab_size):
        proposal = propose(batch, k, rule, vocab_size)
        for row, drafts in zip(batch.rows, proposal.tokens.tolist(), strict=True):
            seen.append(([*row.request.prompt_token_ids, *row.token_ids], drafts))
        return proposal

    monkeypatch.setattr(drafter, "propose", spied)
    rows = [Request(str(i), prompt, 8) for i, prompt in enumerate(prompts)]
    out, _ = tiny.decode(lm, drafter, rows, max_sequences=5, num_speculative_tokens=3)
    assert tiny.tokens(out, len(rows)) == [row[:8] for row in expected]
    paper = heads.Paper(config, tensors, model, layers)
    compared = [(paper.drafts(tokens, 3), drafts) for tokens, drafts in seen if len(tokens) > 1]
    assert len(compared) > 50
    assert all(wanted == drafts for wanted, drafts in compared)


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["coupled", "rejection"])
@pytest.mark.parametrize("k", [0, 1, 2, 3, 4, None])
def test_a_head_that_is_mostly_wrong_changes_no_token(rule, k, target, tmp_path):
    lm, prompts, expected, _ = target
    _, drafter = made(tmp_path, lm, CONFIGS["SafeAILab"])
    rows = [Request(str(i), prompt, 12) for i, prompt in enumerate(prompts[:8])]
    sizes = {"max_sequences": 5, "num_speculative_tokens": k, "max_speculative_tokens": 3}
    out, engine = tiny.decode(lm, drafter, rows, acceptance_rule=rule, **sizes)
    assert tiny.tokens(out, len(rows)) == [row[:12] for row in expected[:8]]
    assert engine.stats.acceptance_rate < 0.5


@pytest.mark.slow
def test_sampled_rows_get_the_tokens_of_the_target_alone(target, tmp_path):
    lm, prompts, *_ = target
    _, drafter = made(tmp_path, lm, CONFIGS["speculators"])
    params = [SamplingParams(0.8), SamplingParams(1.2, top_k=8), SamplingParams(0.7, top_p=0.9)]
    rows = [Request(str(i), prompt, 12, sampling=params[i % 3], seed=3) for i, prompt in enumerate(prompts)]
    alone, _ = tiny.decode(lm, None, rows, max_sequences=4)
    out, engine = tiny.decode(lm, drafter, rows, max_sequences=4, num_speculative_tokens=3)
    assert tiny.tokens(out, len(rows)) == tiny.tokens(alone, len(rows))
    assert engine.stats.drafted > 0


@pytest.mark.slow
def test_drafts_do_not_depend_on_rounds_without_drafts_slots_or_refills(target, tmp_path):
    """A row's drafts at a position are the same whatever went before: stale KV would show."""
    lm, prompts, *_ = target
    _, drafter = made(tmp_path, lm, CONFIGS["SafeAILab"])
    rows = [Request(str(i), prompt, 20) for i, prompt in enumerate(prompts) if len(prompt) > 1]
    proposed = {}
    propose = drafter.propose

    def spied(batch, k, rule, vocab_size):
        proposal = propose(batch, k, rule, vocab_size)
        for row, drafts in zip(batch.rows, proposal.tokens.tolist(), strict=True):
            key = row.request.id, row.length
            assert proposed.setdefault(key, drafts)[:k][: len(drafts)] == drafts[: len(proposed[key])]
        return proposal

    drafter.propose = spied
    for batch, ks in ((len(rows), (3,)), (3, (0, 3, 0, 0, 1)), (2, (2, 0, 3))):
        engine = tiny.general_engine(
            lm,
            drafter,
            tiny.config(3, max_sequences=batch, max_length=128, prefill_chunk=16),
            Scripted(itertools.cycle(ks)),
        )
        list(engine.generate(rows))
    assert len(proposed) > 60


def test_a_head_without_an_embedding_takes_the_targets(target, tmp_path):
    lm, *_ = target
    _, drafter = made(tmp_path, lm, CONFIGS["SafeAILab"], embedding=False)
    assert drafter.head.embed_tokens.weight.data_ptr() == lm.model.get_input_embeddings().weight.data_ptr()


def test_a_target_without_a_head_keeps_nothing_of_its_layers(target, tmp_path):
    lm, prompts, *_ = target
    _, drafter = made(tmp_path, lm, CONFIGS["SafeAILab"])
    rows = [Request("0", prompts[3], 3)]
    tiny.decode(lm, drafter, rows, max_sequences=1, num_speculative_tokens=1)
    assert all(len(layer._forward_pre_hooks) for layer in [lm.model.model.layers[i] for i in drafter.target_layers])
    tiny.decode(lm, None, rows, max_sequences=1)
    assert not any(layer._forward_pre_hooks for layer in lm.model.model.layers)
