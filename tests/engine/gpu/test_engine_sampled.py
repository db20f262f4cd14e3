"""Sampled rows of the fast path: the text of the general engine, and the target's distribution."""

import copy

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from specbatch.engine.drafter import ModelDrafter
from specbatch.engine.gpu import machine as machines
from specbatch.engine.model import CausalLM
from specbatch.engine.ngram import NGramDrafter
from specbatch.engine.request import Request, SamplingParams
from specbatch.engine.sampling import RowSampling, distribution
from tests.engine import tabular, tiny
from tests.engine.gpu import fast

PASS = 0.001


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["coupled", "rejection"])
@pytest.mark.parametrize(("batch", "k"), [(1, 4), (8, 0), (8, 1), (8, 6), (32, 3)])
def test_mixed_rows_draw_what_the_general_engine_draws(pair, batch, k, rule):
    """Exactly, in float32: no two candidates of these races are nearer than its roundings."""
    prompts = pair.prompts[:6] if batch == 1 else pair.prompts
    sizes = {"max_sequences": batch, "num_speculative_tokens": k, "acceptance_rule": rule}
    for drafter in (pair.noisy, NGramDrafter()):
        rows = fast.stopped(prompts, [25, 19], fast.MIXED, seed=3)
        out, _ = fast.decode(pair.target, drafter, rows, **sizes)
        general, _ = tiny.decode(pair.target, drafter, fast.stopped(prompts, [25, 19], fast.MIXED, seed=3), **sizes)
        assert tiny.tokens(out, len(rows)) == tiny.tokens(general, len(rows))
        assert fast.counts(out) == fast.counts(general)


@pytest.mark.parametrize("params", [*fast.MIXED, SamplingParams(1.0, top_k=100)], ids=str)
def test_rows_of_one_kind_draw_what_the_general_engine_draws(pair, params):
    rows = fast.requests(pair.prompts[2:6], 8, [params])
    sizes = {"max_sequences": 4, "num_speculative_tokens": 2}
    out, _ = fast.decode(pair.target, pair.noisy, rows, **sizes)
    general, _ = tiny.decode(pair.target, pair.noisy, rows, **sizes)
    assert tiny.tokens(out, 4) == tiny.tokens(general, 4)


@pytest.mark.slow
def test_coupled_text_depends_on_neither_batch_nor_k_nor_drafter(pair):
    rows = fast.requests(pair.prompts, 25, fast.MIXED)
    texts = set()
    for batch, k, drafter in ((1, 0, None), (8, 4, pair.noisy), (20, 2, NGramDrafter()), (7, None, pair.twin)):
        out, _ = fast.decode(pair.target, drafter, rows[::-1], max_sequences=batch, num_speculative_tokens=k)
        texts.add(str(tiny.tokens(out, 20)))
    assert len(texts) == 1


@pytest.mark.slow
def test_greedy_rows_beside_sampled_ones_stay_greedy(pair):
    for rule in ("coupled", "rejection"):
        rows = fast.requests(pair.prompts, 25, fast.MIXED)
        out, _ = fast.decode(
            pair.target, pair.noisy, rows, max_sequences=8, num_speculative_tokens=4, acceptance_rule=rule
        )
        assert all(list(out[str(i)].token_ids) == pair.expected[i][:25] for i in range(1, 20, 5))


# -- the distribution ----------------------------------------------------------------------------------------------------

VOCAB = 7
ROWS = 24_000


def small_llama():
    """A random Llama whose next token depends on all that stands before it."""
    torch.manual_seed(4)
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=64,
        initializer_range=0.4,
    )
    return LlamaForCausalLM(config).float().eval()


def exact_joint(model, prompt, params):
    """Probability of the two tokens after the prompt, by plain forwards.  # [VOCAB, VOCAB]"""
    row = RowSampling.of([Request("", [0], 1, sampling=params)], torch.device("cpu"))
    with torch.inference_mode():
        first = model(torch.tensor([prompt])).logits[:, -1]
        then = model(torch.tensor([[*prompt, token] for token in range(VOCAB)])).logits[:, -1]
    probs = distribution(torch.cat([first, then])[None], row).dense(VOCAB)[0].double().numpy()
    return probs[0][:, None] * probs[1:]


KINDS = {
    "plain": [SamplingParams(1.0), SamplingParams(0.6), SamplingParams(1.3)],
    "filtered": [SamplingParams(1.3, top_k=3), SamplingParams(1.0, top_p=0.8), SamplingParams(0.9, top_k=4, top_p=0.9)],
    "top-k alone": [SamplingParams(1.3, top_k=3), SamplingParams(0.8, top_k=5)],
}


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["coupled", "rejection"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", [1, 2])
def test_the_joint_of_two_tokens_is_the_targets(monkeypatch, rule, kind, k):
    monkeypatch.setattr(machines, "operations", lambda device: fast.BatchedOps())
    model = small_llama()
    plain, params = copy.deepcopy(model), KINDS[kind]
    drafter = ModelDrafter(CausalLM(tiny.noisy(model, 0.5)))
    prompts = [[1, 2, 3 + j] for j in range(len(params))]
    rows = (
        Request(f"{i}-{j}", prompts[j], 2, sampling=one, seed=7)
        for i in range(ROWS // len(params))
        for j, one in enumerate(params)
    )
    sizes = {"max_sequences": 512, "num_speculative_tokens": k, "acceptance_rule": rule, "max_length": 16}
    out, engine = fast.decode(CausalLM(model), drafter, rows, **sizes)
    assert 0.1 < engine.stats.acceptance_rate < 0.95
    for j, one in enumerate(params):
        tokens = np.array([list(c.token_ids) for name, c in out.items() if name.endswith(f"-{j}")])
        assert tabular.p_value(tokens, exact_joint(plain, prompts[j], one)) > PASS
