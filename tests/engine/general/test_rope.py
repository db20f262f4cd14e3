"""Rotary embeddings that depend on the sequence's length: one rule for a run, whatever a forward holds."""

import copy

import pytest
import torch

from specbatch.engine.config import EngineConfig
from specbatch.engine.general.drafter import ModelDrafter
from specbatch.engine.general.model import CausalLM
from specbatch.engine.make_engine import describe, general_engine
from specbatch.engine.request import Request
from specbatch.errors import ModelError
from tests.engine import architectures, tiny
from tests.engine.general.test_architectures import loop

ORIGINAL = 24  # positions before stretching
LONG = [1.0 + 0.6 * i for i in range(4)]
SHORT = [1.0] * 4
NEW = 10


def longrope(kind, long=LONG, short=SHORT):
    rope = {"rope_type": "longrope", "rope_theta": 10000.0, "factor": 8.0, "long_factor": long, "short_factor": short}
    if kind == "phimoe":
        rope |= {"long_mscale": 1.3, "short_mscale": 1.3 if long == short else 1.0}
    rope |= {"original_max_position_embeddings": ORIGINAL}
    return architectures.build(kind, original_max_position_embeddings=ORIGINAL, rope_parameters=rope)


def dynamic(kind, theta=10000.0, **rope):
    rope = rope or {"rope_type": "dynamic", "factor": 4.0}
    return architectures.build(kind, max_position_embeddings=ORIGINAL, rope_parameters=rope | {"rope_theta": theta})


def stretched(kind, length):
    """Dynamic NTK as for `length` tokens is plain rotation with another base."""
    width = 8
    base = 10000.0 * (4.0 * length / ORIGINAL - 3.0) ** (width / (width - 2))
    return dynamic(kind, base, rope_type="default")


# The model, and one whose rotation is fixed as the rule says for rows of 60 tokens.
LENGTH = 60
MODELS = {
    "phi3": (lambda: longrope("phi3"), lambda: longrope("phi3", short=LONG)),
    "phimoe": (lambda: longrope("phimoe"), lambda: longrope("phimoe", long=SHORT)),  # transformers scales, but never takes its long factors
    "llama": (lambda: dynamic("llama"), lambda: stretched("llama", LENGTH)),
    "qwen3": (lambda: dynamic("qwen3"), lambda: stretched("qwen3", LENGTH)),
}  # fmt: skip


def rows():
    generator = torch.Generator().manual_seed(3)
    return [
        torch.randint(3, architectures.VOCAB, (length,), generator=generator).tolist() for length in (5, 45, 20, 12)
    ]


def decoded(target, drafter=None, prompts=None, max_length=LENGTH, **config):
    prompts = prompts or rows()
    requests = [Request(str(i), prompt, NEW) for i, prompt in enumerate(prompts)]
    out, _ = tiny.decode(target, drafter, requests, max_length=max_length, **config)
    return tiny.tokens(out, len(prompts))


@pytest.mark.slow
@pytest.mark.parametrize("kind", MODELS)
def test_a_row_depends_on_no_batch_mate_prefill_chunk_or_k(kind):
    model, fixed = (make() for make in MODELS[kind])
    expected = loop(fixed, rows(), NEW)
    assert loop(model, rows()[:1], NEW) != expected[:1], "short rows would say the same by either rule"
    target, drafter = CausalLM(copy.deepcopy(model)), ModelDrafter(CausalLM(tiny.noisy(model)), prefill_chunk=8)
    assert decoded(target, None, rows()[:1], max_sequences=1) == expected[:1]
    for rows_at_once, chunk, k in [(1, 512, 0), (4, 512, 0), (4, 8, 1), (3, 16, 4)]:
        sizes = {"max_sequences": rows_at_once, "prefill_chunk": chunk, "num_speculative_tokens": k}
        assert decoded(target, drafter, **sizes) == expected, sizes


@pytest.mark.slow
@pytest.mark.parametrize("kind", MODELS)
def test_rows_that_never_leave_the_original_length_are_not_stretched(kind):
    """Not by tokens drafted past their end, either."""
    model = MODELS[kind][0]()
    prompts = [rows()[0], rows()[3], rows()[2][:14]]
    expected = loop(model, prompts, NEW)
    target, drafter = CausalLM(copy.deepcopy(model)), ModelDrafter(CausalLM(copy.deepcopy(model)))
    for k in (0, 6):
        assert decoded(target, drafter, prompts, ORIGINAL, max_sequences=3, num_speculative_tokens=k) == expected


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["phi3", "llama"])
def test_a_later_run_of_other_length_finds_nothing_of_the_one_before(kind):
    """Dynamic NTK keeps the longest length that it has seen."""
    target = CausalLM(MODELS[kind][0]())
    prompts = [rows()[0]]
    first = {length: decoded(target, None, prompts, length) for length in (LENGTH, ORIGINAL, 40)}
    assert first == {length: decoded(target, None, prompts, length) for length in (40, ORIGINAL, LENGTH)}
    assert first[ORIGINAL] == loop(MODELS[kind][0](), prompts, NEW)


@pytest.mark.parametrize(
    ("kind", "length", "rule"),
    [
        ("phi3", LENGTH, "target: longrope's long factors for every row: rows may have 60 tokens, more than the original 24"),
        ("phi3", 24, "target: longrope's short factors for every row: rows may have 24 tokens, at most the original 24"),
        ("llama", LENGTH, "target: dynamic NTK as for 60 tokens for every row, the most that a row may have"),
        ("llama", 1000, "target: dynamic NTK as for 96 tokens for every row, the most that a row may have"),
        ("llama", 24, "target: dynamic NTK unstretched: rows may have 24 tokens, at most the original 24"),
    ],
)  # fmt: skip
def test_the_rule_is_told_with_the_engine(kind, length, rule):
    engine = general_engine(CausalLM(MODELS[kind][0]()), None, EngineConfig(max_length=length))
    assert describe(engine) == f"general; {rule}"


def test_a_plain_rotation_has_no_rule():
    assert describe(general_engine(CausalLM(architectures.build("llama")))) == "general"


SCALED = {
    "llama3": ("llama", {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}),
    "yarn": ("qwen3", {"rope_type": "yarn", "factor": 4.0}),
    "linear": ("mistral", {"rope_type": "linear", "factor": 4.0}),
    "yarn, scores scaled by position": ("ministral3", {"rope_type": "yarn", "factor": 4.0, "llama_4_scaling_beta": 0.5, "beta_fast": 32.0, "beta_slow": 1.0, "mscale": 1.0, "mscale_all_dim": 1.0}),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", SCALED)
def test_a_rotation_by_position_alone_is_exact_across_its_original_length(name):
    kind, rope = SCALED[name]
    rope = rope | {"rope_theta": 10000.0, "original_max_position_embeddings": ORIGINAL}
    if rope["rope_type"] == "linear":
        del rope["original_max_position_embeddings"]
    model = architectures.build(kind, rope_parameters=rope, sliding_window=None)
    expected = loop(model, rows(), NEW)
    drafter = ModelDrafter(CausalLM(tiny.noisy(model)))
    assert decoded(CausalLM(model), drafter, max_sequences=3, num_speculative_tokens=3) == expected


def test_scores_scaled_by_a_position_that_is_counted_from_the_cache_are_refused():
    """Llama 4's layers without rotation: below floor_scale (8192) tokens the scale is 1, and a short check would see nothing."""
    model = architectures.build("llama4_text", no_rope_layers=[1, 0], attn_temperature_tuning=True, floor_scale=8192)
    with pytest.raises(ModelError, match="positions"):
        CausalLM(model)
