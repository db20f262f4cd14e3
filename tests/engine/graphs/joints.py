"""Joint distributions of a row's first tokens: exact ones of a small model, and how far what was drawn is from them."""

import copy
import itertools

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from specbatch.engine.general.drafter import ModelDrafter
from specbatch.engine.general.model import CausalLM
from specbatch.engine.request import Request, SamplingParams
from specbatch.engine.sampling import RowSampling, distribution
from tests.engine import tiny
from tests.engine.goodness import chi_squared
from tests.engine.graphs import fast

VOCAB = 7
LENGTH = 3  # tokens of a joint
PASS = 0.001
KINDS = {
    "plain": [SamplingParams(1.0), SamplingParams(0.6), SamplingParams(1.3)],
    "filtered": [SamplingParams(1.3, top_k=3), SamplingParams(1.0, top_p=0.8), SamplingParams(0.9, top_k=4, top_p=0.9)],
    "top-k alone": [SamplingParams(1.3, top_k=3), SamplingParams(0.8, top_k=5)],
}


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


def exact(model, prompt, params) -> np.ndarray:
    """Probability of the first tokens after the prompt, by plain forwards.  # [VOCAB] * LENGTH"""
    row = RowSampling.of([Request("", [0], 1, sampling=params)], torch.device("cpu"))
    joint = np.ones(())
    for known in range(LENGTH):
        before = torch.tensor([[*prompt, *tokens] for tokens in itertools.product(range(VOCAB), repeat=known)])
        with torch.inference_mode():
            logits = model(before).logits[:, -1]
        step = distribution(logits[None], row).dense(VOCAB)[0].double().numpy()
        joint = joint[..., None] * step.reshape(*[VOCAB] * known, VOCAB)
    return joint


def p_value(tokens: np.ndarray, joint: np.ndarray) -> float:
    """Chi-squared p-value of the sequences [count, LENGTH]."""
    observed = np.zeros(joint.shape)
    np.add.at(observed, tuple(tokens.T), 1)
    return chi_squared(observed, joint * len(tokens))


def worst_p_value(device, kind: str, *, rule: str, k: int, rows: int, slots: int) -> float:
    """The smallest p-value over the kind's parameters, whose rows share batches."""
    model, params = small_llama(), KINDS[kind]
    plain = copy.deepcopy(model)
    drafter = ModelDrafter(CausalLM(tiny.noisy(model, 0.5).to(device)))
    prompts = [[1, 2, 3 + j] for j in range(len(params))]
    requests = (
        Request(f"{i}-{j}", prompts[j], LENGTH + k, sampling=one, seed=7)
        for i in range(rows // len(params))
        for j, one in enumerate(params)
    )
    sizes = {"max_sequences": slots, "num_speculative_tokens": k, "acceptance_rule": rule, "max_length": 16}
    out, engine = fast.decode(CausalLM(model.to(device)), drafter, requests, **sizes)
    assert 0.1 < engine.stats.acceptance_rate < 0.95
    found = []
    for j, one in enumerate(params):
        tokens = np.array([list(c.token_ids)[:LENGTH] for name, c in out.items() if name.endswith(f"-{j}")])
        found.append(p_value(tokens, exact(plain, prompts[j], one)))
    return min(found)
