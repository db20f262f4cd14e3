"""Log probabilities of prompts: of the target as it is, every position computed, in both engines, whatever is shared, drafted or cut."""

import dataclasses

import pytest
import torch

from specbatch.engine.general.drafter import ModelDrafter
from specbatch.engine.general.model import CausalLM
from specbatch.engine.graphs.reference import TorchOps
from specbatch.engine.logits.logprobs import Logprobs
from specbatch.engine.logits.options import LogitsOptions
from specbatch.engine.request import Request, SamplingParams
from tests.engine import heads, tiny
from tests.engine.graphs import fast

ENGINES = {"general": tiny.decode, "graphs": fast.decode}
SIZES = {"num_speculative_tokens": 2, "max_sequences": 5}
SHARED = torch.randint(0, tiny.VOCAB, (70,), generator=torch.Generator().manual_seed(0)).tolist()  # more than a page


def requests():
    """Every other row asks, for a number of its own; most begin alike, and some have penalties, of which the log probabilities know nothing."""
    rows = [row if i % 4 == 1 else SHARED + row[:20] for i, row in enumerate(tiny.prompts(12))]
    return [
        Request(
            str(i), row, 6, sampling=SamplingParams(0.9 if i % 3 else 0.0), prompt_logprobs=i if i % 2 else None,
            logits=LogitsOptions(repetition_penalty=1.5 if i % 3 else 1.0),
        )
        for i, row in enumerate(rows)
    ]  # fmt: skip


def check(completion, model):
    prompt, most = completion.request.prompt_token_ids, completion.request.prompt_logprobs
    with torch.inference_mode():
        expected = model(torch.tensor([prompt])).logits[0, :-1].log_softmax(-1)
    found = completion.prompt_logprobs
    assert [one.token for one in found] == list(prompt[1:])
    values = torch.tensor([one.logprob for one in found])
    torch.testing.assert_close(values, expected[range(len(found)), prompt[1:]], rtol=1e-4, atol=1e-4)
    best = expected.topk(most)
    assert [[token for token, _ in one.top] for one in found] == best.indices.tolist()
    top = torch.tensor([[value for _, value in one.top] for one in found]).view(best.values.shape)
    torch.testing.assert_close(top, best.values, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("k", "batch", "at_once"), [(0, 12, 256), (3, 5, 7), (2, 3, 64)])
def test_they_are_those_of_a_plain_forward(pair, engine, k, batch, at_once, monkeypatch):
    for module in ("general", "graphs.logits"):
        monkeypatch.setattr(f"specbatch.engine.{module}.prompt_logprobs.PROMPT_TOKENS", at_once)
    rows = requests()
    out, made = ENGINES[engine](pair.target, pair.noisy, rows, num_speculative_tokens=k, max_sequences=batch)
    model = tiny.qwen3()
    for i in range(12):
        if i % 2:
            check(out[str(i)], model)
        else:
            assert out[str(i)].prompt_logprobs is None
    plain = [Request(row.id, row.prompt_token_ids, 6, sampling=row.sampling, logits=row.logits) for row in rows]
    alone, _ = ENGINES[engine](pair.target, None, plain, num_speculative_tokens=0, max_sequences=batch)
    assert {name: one.token_ids for name, one in out.items()} == {name: one.token_ids for name, one in alone.items()}
    assert made.stats.prefill_tokens_saved > 0, "rows that do not ask still share what they begin with"


def of_the_tokens_before(logits, tokens):
    return REAL(logits, tokens.roll(1, -1))


def of_the_positions_after(logits, tokens):
    return REAL(logits.roll(-1, 1), tokens)


REAL = Logprobs.of


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("mutant", [of_the_tokens_before, of_the_positions_after])
def test_what_is_off_by_a_position_fails_the_same_test(pair, engine, mutant, monkeypatch):
    monkeypatch.setattr(Logprobs, "of", mutant)
    monkeypatch.setattr(TorchOps, "logprobs", staticmethod(mutant))
    rows = [Request("r", SHARED[:9], 1, prompt_logprobs=1)]
    out, _ = ENGINES[engine](pair.target, None, rows, num_speculative_tokens=0, max_sequences=1)
    with pytest.raises(AssertionError):
        check(out["r"], tiny.qwen3())


@pytest.mark.slow
def test_a_row_that_is_preempted_keeps_them(pair, monkeypatch):
    made = fast.engine(pair.target, pair.noisy, num_speculative_tokens=2, max_sequences=8)
    reserve, asked = made.runner.reserve, []

    def scarce(sequences, k):
        asked.append(len(sequences))
        return (len(asked) < 2 or len(sequences) <= 2 or len(asked) > 12) and reserve(sequences, k)

    monkeypatch.setattr(made.runner, "reserve", scarce)
    out = fast.finish(made, requests()[:8])
    assert min(asked) <= 2, "most wait anew"
    for i in range(1, 8, 2):
        check(out[str(i)], tiny.qwen3())


@pytest.mark.slow
@pytest.mark.parametrize("drafters", [1, 2])
def test_they_come_from_the_lane_of_the_head(pair, drafters):
    noisy = ModelDrafter(pair.noisy.model, replicas=[pair.noisy.model] * (drafters - 1))
    sizes = {"num_speculative_tokens": 2, "max_sequences": 6, "drafter_apart": True, "stages_per_device": 2}
    made = fast.engine(pair.target, noisy, **sizes)
    assert len(made.runner.pair.lanes) == 2 + drafters
    out = fast.finish(made, requests())
    for i in range(1, 12, 2):
        check(out[str(i)], tiny.qwen3())


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_a_head_is_shown_the_prompts_of_such_rows_as_those_of_others(engine, tmp_path):
    target = CausalLM(tiny.qwen3(layers=6))
    config = heads.safeailab()
    head = heads.load(heads.write(tmp_path, config, heads.weights(config, joined=3)), target)
    rows = requests()
    plain = [dataclasses.replace(row, prompt_logprobs=None) for row in rows]
    asked, usual = (
        {name: (one.token_ids, one.drafted, one.accepted) for name, one in ENGINES[engine](target, head, each, **SIZES)[0].items()}
        for each in (rows, plain)
    )  # fmt: skip
    assert asked == usual
