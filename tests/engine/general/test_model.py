"""Any architecture: it runs exactly, or is refused with a reason."""

import pytest
import torch
import transformers as tf

from specbatch.engine.general.model import CausalLM
from specbatch.engine.general.ngram import NGramDrafter
from specbatch.engine.request import Request
from specbatch.errors import ModelError
from tests.engine import architectures, tiny

SIZES = {
    "vocab_size": tiny.VOCAB,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
GROUPED = SIZES | {"num_key_value_heads": 2}
RUN = {
    "llama": (tf.LlamaForCausalLM, tf.LlamaConfig(**GROUPED, tie_word_embeddings=True)),
    "qwen2": (tf.Qwen2ForCausalLM, tf.Qwen2Config(**GROUPED)),
    "mistral, sliding window": (tf.MistralForCausalLM, tf.MistralConfig(**GROUPED, sliding_window=7)),
    "gemma3, two kinds of layers": (
        tf.Gemma3ForCausalLM,
        tf.Gemma3TextConfig(**GROUPED | {"num_hidden_layers": 6}, head_dim=8, sliding_window=7),
    ),
    "phi, partial rotary": (tf.PhiForCausalLM, tf.PhiConfig(**GROUPED)),
    "gpt-neox": (tf.GPTNeoXForCausalLM, tf.GPTNeoXConfig(**SIZES)),
    "gpt2, learned positions": (
        tf.GPT2LMHeadModel,
        tf.GPT2Config(
            vocab_size=tiny.VOCAB,
            n_embd=32,
            n_layer=2,
            n_head=4,
            n_positions=90,
            initializer_range=0.3,
            bos_token_id=None,
            eos_token_id=None,
        ),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", RUN)
def test_an_architecture_decodes_as_transformers_does(name):
    """Prompts longer than the sliding window and the prefill chunk; GPT-2's positions end where the longest row does."""
    kind, config = RUN[name]
    torch.manual_seed(0)
    model = kind(config).float().eval()
    rows = tiny.prompts(8, longest=60, seed=1)
    rows = [row[: 90 - 25] for row in rows]
    expected = tiny.greedy_reference(model, rows, 25)
    requests = [Request(str(i), row, 25) for i, row in enumerate(rows)]
    out, _ = tiny.decode(
        CausalLM(model),
        NGramDrafter(),
        requests,
        max_sequences=3,
        num_speculative_tokens=4,
        prefill_chunk=16,
        max_length=90,
    )
    assert tiny.tokens(out, len(rows)) == expected


def test_eos_token_ids_come_from_the_generation_config_first():
    model = tiny.qwen3()
    wrapped = CausalLM(model)
    model.config.eos_token_id = 5
    model.generation_config.eos_token_id = None
    assert wrapped.eos_token_ids == {5}
    model.generation_config.eos_token_id = [7, 8]
    assert wrapped.eos_token_ids == {7, 8}


def test_placement_is_read_back_from_every_parameter_and_buffer():
    wrapped = CausalLM(tiny.qwen3())
    placement = wrapped.placement()
    assert set(placement.values()) == {"cpu"}
    assert "model.layers.1.mlp.down_proj.weight" in placement
    assert "model.rotary_emb.inv_freq" in placement


@pytest.mark.slow
def test_bfloat16_runs(pair):
    model = tiny.qwen3().bfloat16()
    out, _ = tiny.decode(CausalLM(model), pair.noisy, [Request("0", pair.prompts[5], 20)], num_speculative_tokens=3)
    assert len(out["0"].token_ids) == 20


@pytest.mark.slow
@pytest.mark.parametrize("width", [tiny.VOCAB - 8, tiny.VOCAB + 8])
def test_a_drafter_whose_logits_have_another_width_changes_no_token(pair, width):
    """Models of one family pad their vocabularies to different widths."""
    from specbatch.engine.general.drafter import ModelDrafter

    torch.manual_seed(3)
    config = tf.Qwen3Config(**GROUPED | {"vocab_size": width}, head_dim=8)
    drafter = ModelDrafter(CausalLM(tf.Qwen3ForCausalLM(config).float()))
    if width < tiny.VOCAB:  # its embedding has no row for the last tokens
        rows = [i for i, row in enumerate(pair.prompts) if max(row + pair.expected[i]) < width]
    else:
        rows = range(len(pair.prompts))
    requests = [Request(str(i), pair.prompts[i], tiny.NEW) for i in rows]
    for rule in ("coupled", "rejection"):
        out, _ = tiny.decode(pair.target, drafter, requests, num_speculative_tokens=3, acceptance_rule=rule)
        assert all(list(out[str(i)].token_ids) == pair.expected[i] for i in rows)


def test_a_target_that_a_head_cannot_read_is_to_get_another_drafter_and_stays():
    target = CausalLM(architectures.build("gpt2"))
    with pytest.raises(ModelError, match="a head cannot draft for GPT2LMHeadModel") as refused:
        target.tap([0, 1])
    assert "no drafter" in refused.value.remedy
    assert "plain attention" not in refused.value.remedy
