"""transformers' causal LM types, as tiny models: each decodes exactly as a loop without cache, or is refused in a sentence that names the cause."""

import copy

import pytest
import torch

from specbatch.engine.general.drafter import ModelDrafter
from specbatch.engine.general.model import CausalLM
from specbatch.engine.make_engine import general_engine
from specbatch.engine.request import Request
from specbatch.errors import ModelError
from tests.engine import architectures, tiny
from tests.engine.test_engine_greedy import Scripted

PROMPTS = [1, 6, 11, 22]  # lengths on both sides of the window, and of the prefill chunk
NEW = 8
RUNS = [(1, (4,), 2), (5, (2, 0, 1), 8), (16, (4,), 16)]  # rows at once, k of the rounds in turn, rows

pytestmark = pytest.mark.slow


def rows():
    generator = torch.Generator().manual_seed(3)
    lengths = PROMPTS * 4
    return [torch.randint(3, architectures.VOCAB, (length,), generator=generator).tolist() for length in lengths]


@torch.inference_mode()
def loop(model, prompts, new_tokens=NEW):
    """Greedy tokens without a cache: the whole row again for every token. Rows of one length go together, so that none is padded."""
    done = {}
    for length in set(map(len, prompts)):
        group = [i for i, prompt in enumerate(prompts) if len(prompt) == length]
        ids = torch.tensor([prompts[i] for i in group])
        for _ in range(new_tokens):
            logits = model(input_ids=ids, use_cache=False).logits
            ids = torch.cat([ids, logits[:, -1:].argmax(-1)], dim=1)
        done |= zip(group, ids[:, length:].tolist(), strict=True)
    return [done[i] for i in range(len(prompts))]


def decoded(target, drafter, prompts, max_sequences, ks=(4,)):
    requests = [Request(str(i), prompt, NEW) for i, prompt in enumerate(prompts)]
    config = tiny.config(max(ks), max_sequences=max_sequences, prefill_chunk=8, max_length=40)
    engine = general_engine(target, drafter, config, Scripted(ks))
    return tiny.tokens({done.request.id: done for done in engine.generate(requests)}, len(prompts))


@pytest.mark.parametrize("kind", architectures.EXACT)
def test_a_type_decodes_as_a_loop_without_cache(kind):
    model = architectures.build(kind)
    expected = loop(model, rows())
    drafter = ModelDrafter(CausalLM(tiny.noisy(model), "drafter"), prefill_chunk=8)
    target = CausalLM(copy.deepcopy(model))
    assert len({tuple(row) for row in expected}) > 4, "rows all alike prove nothing"
    for rows_at_once, ks, count in RUNS:
        assert decoded(target, drafter, rows()[:count], rows_at_once, ks) == expected[:count], (rows_at_once, ks)


@pytest.mark.parametrize("kind", architectures.REFUSED)
def test_a_type_is_refused_in_a_sentence_that_names_the_cause(kind):
    cause = architectures.REFUSED[kind]
    model = architectures.build(kind)
    with pytest.raises(ModelError) as caught:
        CausalLM(model, "spec.target.model")
    assert caught.value.exit_code == 66
    assert f"{type(model).__name__} is not supported: it has {cause}" in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.remedy


def test_at_least_sixty_types_are_made():
    assert len({*architectures.EXACT, *architectures.REFUSED}) >= 60
    assert not set(architectures.EXACT) & set(architectures.REFUSED)


WINDOWED = {
    "phimoe": {},
    "qwen2_moe": {"max_window_layers": 2},
    "llama4_text": {},
    "mistral": {},
    "gemma3_text": {"layer_types": ["sliding_attention", "full_attention"], "query_pre_attn_scalar": 8},
    "starcoder2": {},
    "cohere2": {"layer_types": ["sliding_attention", "full_attention"]},
}


@pytest.mark.parametrize("kind", WINDOWED)
def test_a_window_is_kept_where_it_stands_in_the_mask_alone(kind):
    """Rows longer than the window; and the same weights without it would say something else."""
    model = architectures.build(kind, **WINDOWED[kind])
    wide = architectures.build(kind, **WINDOWED[kind] | {"sliding_window": 64, "attention_chunk_size": 64})
    prompts = rows()[:8]
    expected = loop(model, prompts)
    assert expected != loop(wide, prompts)
    assert decoded(CausalLM(model), None, prompts, 5) == expected


@pytest.mark.parametrize("name", ["sliding_window", "attention_chunk_size"])
def test_the_check_at_load_sees_a_window_that_is_longer_than_its_tokens(name, monkeypatch):
    """Masks without their window: as if an architecture kept it where we do not look."""
    from specbatch.engine.general import cache

    kind = "mistral" if name == "sliding_window" else "llama4_text"
    plain = cache.SlotView.mask
    monkeypatch.setattr(
        cache.SlotView, "mask", lambda view, device, _: plain(view, device, lambda _b, _h, q, k: k <= q)
    )
    with pytest.raises(ModelError, match="masks or a state"):
        CausalLM(architectures.build(kind, **{name: 4096}))


def test_the_check_at_load_leaves_the_config_as_it_was():
    target = CausalLM(architectures.build("llama4_text", attention_chunk_size=4096))
    assert target.config.attention_chunk_size == 4096
