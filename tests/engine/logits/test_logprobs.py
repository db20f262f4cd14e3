"""Log probabilities: of the target as it is, for every token of the rows that ask, in both engines, whatever is drafted."""

import pytest
import torch

from specbatch.engine.logits.options import LogitsOptions
from specbatch.engine.request import Request, SamplingParams
from tests.engine import tiny
from tests.engine.graphs import fast

ENGINES = {"general": tiny.decode, "graphs": fast.decode}
PARAMS = [SamplingParams(), SamplingParams(1.3, top_k=8), SamplingParams(0.7)]


def requests():
    """Every other row asks, for a number of its own; some have penalties, which the log probabilities know nothing of."""
    return [
        Request(
            str(i), row, 12, sampling=PARAMS[i % 3], top_logprobs=i if i % 2 else None,
            logits=LogitsOptions(repetition_penalty=1.5 if i % 3 else 1.0),
        )
        for i, row in enumerate(tiny.prompts(8))
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("k", "rule", "batch"), [(0, "coupled", 8), (3, "coupled", 3), (3, "rejection", 8)])
def test_they_are_those_of_a_plain_forward(pair, engine, k, rule, batch):
    model = tiny.qwen3()
    out, _ = ENGINES[engine](
        pair.target, pair.noisy, requests(), num_speculative_tokens=k, acceptance_rule=rule, max_sequences=batch
    )
    for i, row in enumerate(tiny.prompts(8)):
        completion = out[str(i)]
        if i % 2 == 0:
            assert completion.logprobs is None
            continue
        tokens = list(completion.token_ids)
        with torch.inference_mode():
            logits = model(torch.tensor([[*row, *tokens]])).logits[0, len(row) - 1 : -1].log_softmax(-1)
        assert [one.token for one in completion.logprobs] == tokens
        found = torch.tensor([one.logprob for one in completion.logprobs])
        torch.testing.assert_close(found, logits[range(12), tokens], rtol=1e-4, atol=1e-4)
        best = logits.topk(i)
        assert [[token for token, _ in one.top] for one in completion.logprobs] == best.indices.tolist()
        values = torch.tensor([[value for _, value in one.top] for one in completion.logprobs])
        torch.testing.assert_close(values, best.values, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_they_end_with_the_row_and_survive_preemption(pair, monkeypatch):
    made = fast.engine(pair.target, pair.noisy, num_speculative_tokens=2, max_sequences=8)
    reserve, asked = made.runner.reserve, []

    def scarce(sequences, k):
        asked.append(len(sequences))
        return (len(asked) < 4 or len(sequences) <= 4 or len(asked) > 12) and reserve(sequences, k)

    monkeypatch.setattr(made.runner, "reserve", scarce)
    out = fast.finish(made, requests())
    assert all(len(out[str(i)].logprobs) == len(out[str(i)].token_ids) == 12 for i in (1, 3, 5, 7))
