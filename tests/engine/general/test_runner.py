"""The slots of the general runner hold what a fresh prefill would, round after round."""

import itertools

import pytest
import torch

from specbatch.engine.config import EngineConfig
from specbatch.engine.general.batch import Batch
from specbatch.engine.general.cache import SlotCache, SlotView
from specbatch.engine.general.drafter import Drafter, Proposal
from specbatch.engine.general.model import CausalLM
from specbatch.engine.logits.options import LogitsOptions
from specbatch.engine.make_engine import general_engine
from specbatch.engine.request import Request, SamplingParams
from specbatch.engine.speculation.depth import Speculation
from tests.engine import tiny
from tests.engine.test_engine_greedy import requests


class ScriptedDrafter(Drafter):
    """Drafts the true continuation up to a scripted count of tokens, and a wrong one after it."""

    ragged = False

    def __init__(self, truth, pattern):
        self.truth = truth
        self.pattern = pattern  # accepted drafts by round, a value per slot
        self.round = 0

    def propose(self, batch, k, rule, vocab_size):
        drafts = torch.zeros(batch.size, k, dtype=torch.int64)
        for slot, row in enumerate(batch.rows):
            done = len(row.token_ids)
            upcoming = [*self.truth[int(row.request.id)][done : done + k], *[0] * k][:k]
            good = self.pattern[self.round % len(self.pattern)][slot % len(self.pattern[0])]
            drafts[slot] = torch.tensor(
                [token if j < good else (token + 1) % tiny.VOCAB for j, token in enumerate(upcoming)]
            )
        self.round += 1
        return Proposal(drafts, torch.full((batch.size,), k), None)


@pytest.mark.slow
@pytest.mark.parametrize("k", [1, 3, 4])
def test_every_acceptance_pattern_leaves_the_kv_of_a_fresh_prefill(pair, k):
    """Rows that accept different counts must not drift apart: KV after each round equals that of the row alone."""
    patterns = list(itertools.product(range(k + 1), repeat=2))[:: max(1, k - 1)]
    drafter = ScriptedDrafter(pair.expected, patterns)
    engine = general_engine(pair.target, drafter, EngineConfig(4, 128, Speculation.fixed(k), prefill_chunk=32))
    rows = requests(pair)[2:6]
    seen = []
    generator = engine.generate(rows)
    give_tokens = engine.scheduler.give_tokens

    def checked(sequences, output, k):
        seen.append(tuple(output.accepted[:2]))
        done = give_tokens(sequences, output, k)
        if not done:
            compare_with_fresh_prefill(pair.target, engine.runner.batch)
        return done

    engine.scheduler.give_tokens = checked
    for completion in generator:
        assert list(completion.token_ids) == pair.expected[int(completion.request.id)]
        break  # rows all have the same number of tokens to go; the first to end ends the comparison
    assert len(set(seen)) > k


def compare_with_fresh_prefill(target, batch: Batch):
    layers, cache = target.cache.layers, target.cache
    for slot, row in enumerate(batch.rows):
        ids = torch.tensor([[*row.request.prompt_token_ids, *row.token_ids][: row.length]])
        kept = [layer.keys[slot, :, : row.length].clone() for layer in layers]
        target.allocate(1, 128)
        target.fill(ids, SlotView(slice(0, 1), torch.arange(row.length)[None], row.length))
        for mine, fresh in zip(kept, target.cache.layers, strict=True):
            torch.testing.assert_close(mine, fresh.keys[0, :, : row.length], rtol=1e-3, atol=1e-4)
        target.cache = cache


def test_what_lies_in_unowned_slots_and_beyond_a_row_is_never_read(pair):
    engine = general_engine(pair.target, pair.twin, EngineConfig(4, 128, Speculation.fixed(3), prefill_chunk=32))
    give_tokens = engine.scheduler.give_tokens

    def poison(*round_):
        done = give_tokens(*round_)
        for model in (pair.target, pair.twin.model):
            for layer in model.cache.layers:
                layer.keys[engine.runner.batch.size :] = torch.nan
                layer.values[engine.runner.batch.size :] = torch.nan
                for slot, row in enumerate(engine.runner.batch.rows):
                    layer.keys[slot, :, row.length + 1 :] = 1e4  # finite: 0 x NaN would be NaN by arithmetic alone
                    layer.values[slot, :, row.length + 1 :] = 1e4
        return done

    engine.scheduler.give_tokens = poison
    # One row per slot: a refill of a NaN slot is what test_memory's poisoned row is about.
    out = {c.request.id: c for c in engine.generate(requests(pair)[:4])}
    assert tiny.tokens(out, 4) == pair.expected[:4]
    assert engine.stats.acceptance_rate == 1.0


def queued(requests_, queues, max_sequences=4, max_length=128):
    """What a runner gives that queues rounds, and the engine; a CPU's does not of itself."""
    config = EngineConfig(max_sequences, max_length, Speculation.fixed(0), prefill_chunk=32)
    engine = general_engine(CausalLM(tiny.qwen3()), None, config)
    engine.runner.queues = queues
    return {c.request.id: (c.token_ids, c.finish_reason, c.logprobs) for c in engine.generate(requests_)}, engine


@pytest.mark.slow
@pytest.mark.parametrize("asks", ["nothing", "draws", "penalties", "logprobs"])
def test_rounds_that_are_queued_give_the_same_tokens(asks):
    """Rows end at their limit, some of them at the last position that there is, or at a token that no one foresees, and others take their slots."""
    odd = {
        "draws": {"sampling": SamplingParams(0.8)},
        "penalties": {"logits": LogitsOptions(repetition_penalty=1.7)},
        "logprobs": {"top_logprobs": 2},
    }.get(asks, {})
    rows = [
        Request(str(n), prompt, 24 - len(prompt) if n < 3 else 4 + n % 5, eos_token_ids=frozenset(range(9 * (n % 2))), **odd if n % 3 == 0 else {})
        for n, prompt in enumerate(tiny.prompts(9, longest=12))
    ]  # fmt: skip
    plain, _ = queued(rows, False, max_length=24)
    got, engine = queued(rows, True, max_length=24)
    assert got == plain
    assert {reason for _, reason, _ in got.values()} == {"length", "stop"}
    assert engine.stats.emitted == sum(len(tokens) for tokens, _, _ in got.values())


@pytest.mark.slow
def test_a_row_of_broken_logits_fails_alone_among_queued_rounds(monkeypatch):
    rows = [Request(str(n), prompt, 6) for n, prompt in enumerate(tiny.prompts(5, longest=8))]
    plain, _ = queued(rows, False)
    forward, calls = CausalLM.forward, itertools.count()

    def breaks(model, token_ids, view, **kwargs):
        logits = forward(model, token_ids, view, **kwargs)
        if next(calls) == 4:
            logits[1] = torch.nan
        return logits

    monkeypatch.setattr(CausalLM, "forward", breaks)
    got, _ = queued(rows, True)
    failed = [key for key, (_, reason, _) in got.items() if reason == "error"]
    assert len(failed) == 1
    assert {key: row for key, row in got.items() if key not in failed} == {
        key: row for key, row in plain.items() if key not in failed
    }
    tokens = got[failed[0]][0]
    assert tokens == plain[failed[0]][0][: len(tokens)]


def test_rows_that_end_together_move_no_other(monkeypatch):
    moved = []
    monkeypatch.setattr(SlotCache, "move", lambda _, *slots: moved.append(slots))
    queued([Request(str(n), [n + 1, 2], 6) for n in range(4)], True)
    assert moved == []
