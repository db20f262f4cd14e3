"""Text over KV in FP8 is that of the target whose keys and values are rounded as they are written, whoever drafts and however prompts are cut."""

import pytest
import torch
from transformers import DynamicCache

from specbatch.engine.fp8.w8a8 import FP8
from specbatch.engine.general.drafter import ModelDrafter
from specbatch.engine.general.model import CausalLM
from specbatch.engine.graphs.kv.paging import PAGE
from tests.engine import tiny
from tests.engine.graphs import fast
from tests.engine.graphs.kv.rounded_cache import RoundedCache

NEW = 25
DOCUMENT = torch.randint(0, tiny.VOCAB, (PAGE + 9,), generator=torch.Generator().manual_seed(1)).tolist()
PROMPTS = [*tiny.prompts(9), [*DOCUMENT, 3, 4], [*DOCUMENT, 5], [*DOCUMENT, 6, 7, 8]]
SIZES = {"max_length": 128, "max_sequences": 5}


@torch.inference_mode()
def by_transformers(model, prompt, cache):
    ids, tokens = torch.tensor([prompt]), []
    for _ in range(NEW):
        tokens.append(int(model(input_ids=ids, past_key_values=cache, use_cache=True).logits[0, -1].argmax()))
        ids = torch.tensor([tokens[-1:]])
    return tokens


class Models:
    def __init__(self):
        model = tiny.qwen3()
        self.expected = [by_transformers(model, prompt, RoundedCache()) for prompt in PROMPTS]
        self.plain = [by_transformers(model, prompt, DynamicCache()) for prompt in PROMPTS]
        self.target = CausalLM(model)
        self.target.fp8_kv = True
        self.noisy = ModelDrafter(CausalLM(tiny.noisy(tiny.qwen3())))


@pytest.fixture(scope="module")
def models():
    return Models()


def decoded(models, drafter=None, **config):
    out, engine = fast.decode(models.target, drafter, fast.requests(PROMPTS, NEW), **(SIZES | config))
    return tiny.tokens(out, len(PROMPTS)), engine


@pytest.mark.slow
@pytest.mark.parametrize("k", range(5))
def test_greedy_tokens_are_those_of_transformers_with_rounded_keys_and_values(models, k):
    tokens, engine = decoded(models, models.noisy if k else None, num_speculative_tokens=k)
    assert tokens == models.expected
    assert models.expected != models.plain
    assert (engine.stats.accepted > 0) is (k > 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [{"graphs_prefill_chunk": 16}, {"prefix_caching": False}, {"max_sequences": 1}, {"cascade_attention": True}],
    ids=str,
)
def test_chunks_shared_pages_and_batch_mates_change_no_token(models, config):
    assert decoded(models, models.noisy, num_speculative_tokens=3, **config)[0] == models.expected


@pytest.mark.slow
@pytest.mark.parametrize("k", [0, 3])
def test_the_general_engine_has_the_same_text(models, k):
    out, _ = tiny.decode(
        models.target, models.noisy if k else None, fast.requests(PROMPTS, NEW), num_speculative_tokens=k, **SIZES
    )
    assert tiny.tokens(out, len(PROMPTS)) == models.expected


@pytest.mark.slow
@pytest.mark.parametrize("target", [True, False])
def test_a_drafter_with_kv_in_fp8_changes_no_token_and_has_its_own_pages(models, monkeypatch, target):
    monkeypatch.setattr(models.target, "fp8_kv", target)
    monkeypatch.setattr(models.noisy.model, "fp8_kv", True)
    tokens, engine = decoded(models, models.noisy, num_speculative_tokens=3)
    pair = engine.runner.pair
    assert tokens == (models.expected if target else models.plain)
    assert pair.drafter.prefills[0].decoder.stages[0].kv.keys[0].dtype == FP8
    assert (pair.target.stages[0].kv.keys[0].dtype == FP8) is target
