import pytest

from benchmarks.predictions.predicted_rounds import predicted_rounds, rounds_needed
from specbatch.engine.general.drafter import ModelDrafter
from specbatch.engine.general.model import CausalLM
from specbatch.engine.request import Request
from tests.engine import tiny


@pytest.mark.parametrize(
    ("agrees", "k", "rounds"),
    [
        ([True] * 10, 4, 2),  # 4 + 1, twice
        ([False] * 5, 4, 5),  # one recovered token a round
        ([True, False, True, True, True], 2, 2),  # 1 + recovered, then 2 + bonus
        ([True, True, True], 0, 3),
        ([True], 8, 1),
    ],
)
def test_rounds_are_counted_as_a_speculative_decoder_spends_them(agrees, k, rounds):
    assert rounds_needed(agrees, k) == rounds


@pytest.mark.slow
def test_the_engine_needs_just_the_rounds_that_agreement_predicts():
    target, drafter = tiny.qwen3(), tiny.noisy(tiny.qwen3())
    prompts = tiny.prompts(8)
    texts = tiny.greedy_reference(target, prompts, 30)
    expected = predicted_rounds(drafter, prompts, texts, 3)
    requests = [Request(str(i), prompt, 30) for i, prompt in enumerate(prompts)]
    _, engine = tiny.decode(
        CausalLM(target), ModelDrafter(CausalLM(drafter)), requests, num_speculative_tokens=3, max_sequences=3
    )
    assert engine.stats.row_rounds == expected
