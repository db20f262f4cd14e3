"""The packed decoder gives every family's own logits: prompts, rows' next tokens at once, beside batch mates; and the engine its tokens."""

import copy

import pytest
import torch

from specbatch.engine.general.drafter import ModelDrafter
from specbatch.engine.general.model import CausalLM
from specbatch.engine.graphs.reference import TorchOps
from tests.engine import tiny
from tests.engine.general.test_architectures import loop
from tests.engine.graphs import fast
from tests.engine.graphs.describe import families
from tests.engine.graphs.test_decoder import LENGTHS, all_logits, prepared, sequences

ALIKE = (
    "granite, logits",
    "gemma2, capped logits",
    "gemma3, one rotary table",
    "glm4_moe, scale",
)  # to others of these, but for what is wrong about them
KINDS = [name for name in families.FAMILIES if name not in ALIKE]


# Of which each takes kernels that others do not, or gives them other constants.
BY_KERNELS = ["apertus", "gemma2", "glm4", "glm4_moe", "olmo3", "qwen2_moe"]


def check_logits(name, ops, lengths=LENGTHS, device="cpu"):
    model = CausalLM(families.build(name).to(device))
    model.limit_rows(families.LONGEST)
    plain = copy.deepcopy(model.model)
    plain.set_attn_implementation("eager")
    rows, decoder = [row.to(device) for row in sequences(lengths)], prepared(model, ops=ops)
    with torch.device(device):
        found = all_logits(decoder, rows)
    for row, mine in zip(rows, found, strict=True):
        with torch.inference_mode():
            theirs = plain(row[None]).logits[0]
        torch.testing.assert_close(mine, theirs, rtol=2e-3, atol=2e-3 * min(1.0, float(theirs.abs().max())))


@pytest.mark.parametrize("name", KINDS)
def test_logits_are_the_models_own(name):
    check_logits(name, TorchOps())


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS if torch.cuda.is_available() else BY_KERNELS)
def test_logits_by_the_kernels_are_the_models_own(name):
    """On a GPU where there is one, in Triton's interpreter otherwise."""
    pytest.importorskip("triton")
    from specbatch.engine.graphs.triton_ops import TritonOps  # Triton is not installed with a CPU's torch

    on_gpu = torch.cuda.is_available()
    check_logits(name, TritonOps(), LENGTHS if on_gpu else (12, 3), "cuda" if on_gpu else "cpu")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["glm4_moe"])
def test_mixtures_of_experts_in_stages_with_groups_in_flight_give_the_tokens_of_a_loop(name):
    model = families.build(name)
    prompts = [[token % 50 for token in prompt] for prompt in tiny.prompts(5, longest=20)]
    drafter = ModelDrafter(CausalLM(families.noisy(model)))
    sizes = {"max_sequences": 4, "num_speculative_tokens": 2, "max_length": 60}
    spread = {"stages_per_device": 2, "drafter_apart": True, "micro_batches": 2}
    rows = fast.requests(prompts, 10)
    out, engine = fast.decode(CausalLM(copy.deepcopy(model)), drafter, rows, **sizes, **spread)
    assert len(engine.runner.pair.target.stages) == 2
    assert [out[str(n)].token_ids for n in range(len(rows))] == loop(model, prompts, 10)


BY_THE_ENGINE = [
    "apertus",
    "gemma2",
    "gemma3",
    "glm4",
    "glm4_moe",
    "granite",
    "ministral3",
    "mistral, a window",
    "olmo3",
    "phi3, longrope",
    "qwen2_moe",
    "qwen3_moe",
    "smollm3",
]


@pytest.mark.slow
@pytest.mark.parametrize("name", BY_THE_ENGINE)
def test_the_engine_gives_the_tokens_of_a_loop_without_cache(name):
    model = families.build(name)
    prompts = [[token % 50 for token in prompt] for prompt in tiny.prompts(6, longest=30)]
    expected = loop(model, prompts, 12)
    assert len({tuple(row) for row in expected}) > 3, "rows all alike prove nothing"
    drafter = ModelDrafter(CausalLM(families.noisy(model)))
    rows, target = fast.requests(prompts, 12), CausalLM(copy.deepcopy(model))
    for k in (0, 3):
        sizes = {"max_sequences": 4, "num_speculative_tokens": k, "max_length": 60}
        out, engine = fast.decode(target, drafter, rows, **sizes)
        assert tiny.tokens(out, len(rows)) == expected
    assert engine.stats.acceptance_rate > 0
