"""Sampled rows of the fast path: the text of the general engine, and the target's distribution."""

import dataclasses

import pytest
import torch

from specbatch.engine.general.ngram import NGramDrafter
from specbatch.engine.graphs.state import RowState
from specbatch.engine.request import SamplingParams
from tests.engine import tiny
from tests.engine.graphs import fast, joints


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["coupled", "rejection"])
@pytest.mark.parametrize(("batch", "k"), [(1, 4), (8, 0), (8, 1), (8, 6), (32, 3)])
def test_mixed_rows_draw_what_the_general_engine_draws(pair, batch, k, rule):
    """Exactly, in float32: no two candidates of these races are nearer than its roundings."""
    prompts = pair.prompts[:6] if batch == 1 else pair.prompts
    sizes = {"max_sequences": batch, "num_speculative_tokens": k, "acceptance_rule": rule}
    for drafter in (pair.noisy, fast.OwnText()):
        rows = fast.stopped(prompts, [15, 11], fast.MIXED, seed=3)
        out, _ = fast.decode(pair.target, drafter, rows, **sizes)
        rows = fast.stopped(prompts, [15, 11], fast.MIXED, seed=3)
        general, _ = tiny.decode(pair.target, drafter, rows, **sizes | {"max_sequences": 8})
        assert tiny.tokens(out, len(rows)) == tiny.tokens(general, len(rows))
        assert fast.counts(out) == fast.counts(general)


@pytest.mark.slow
@pytest.mark.parametrize("params", [*fast.MIXED, SamplingParams(1.0, top_k=100)], ids=str)
def test_rows_of_one_kind_draw_what_the_general_engine_draws(pair, params):
    rows = fast.requests(pair.prompts[2:6], 8, [params])
    sizes = {"max_sequences": 4, "num_speculative_tokens": 2}
    out, _ = fast.decode(pair.target, pair.noisy, rows, **sizes)
    general, _ = tiny.decode(pair.target, pair.noisy, rows, **sizes)
    assert tiny.tokens(out, 4) == tiny.tokens(general, 4)


@pytest.mark.slow
@pytest.mark.parametrize("largest", [{"top_k": 100}, {"top_k": 100, "top_p": 0.9}], ids=["raced", "sorted"])
def test_rows_of_every_filter_in_one_batch_draw_what_the_general_engine_draws(pair, largest):
    kinds = [
        SamplingParams(1.0, top_p=0.7),
        SamplingParams(1.0, top_k=5, top_p=0.8),
        SamplingParams(1.0, top_k=3),
        SamplingParams(1.0, **largest),
        SamplingParams(),
        SamplingParams(1.0),
    ]
    rows = fast.requests(pair.prompts[:6], 10, kinds)
    sizes = {"max_sequences": 6, "num_speculative_tokens": 2}
    out, _ = fast.decode(pair.target, pair.noisy, rows, **sizes)
    general, _ = tiny.decode(pair.target, pair.noisy, rows, **sizes)
    assert tiny.tokens(out, 6) == tiny.tokens(general, 6)


@pytest.mark.slow
def test_coupled_text_depends_on_neither_batch_nor_k_nor_drafter(pair):
    rows = fast.requests(pair.prompts[:10], params=fast.MIXED)
    texts = set()
    for batch, k, drafter in ((1, 0, None), (4, 4, pair.noisy), (10, 2, NGramDrafter()), (3, None, pair.twin)):
        out, _ = fast.decode(pair.target, drafter, rows[::-1], max_sequences=batch, num_speculative_tokens=k)
        texts.add(str(tiny.tokens(out, len(rows))))
    assert len(texts) == 1


@pytest.mark.slow
def test_greedy_rows_beside_sampled_ones_stay_greedy(pair):
    for rule in ("coupled", "rejection"):
        rows = fast.requests(pair.prompts, params=fast.MIXED)
        out, _ = fast.decode(
            pair.target, pair.noisy, rows, max_sequences=8, num_speculative_tokens=4, acceptance_rule=rule
        )
        assert all(list(out[str(i)].token_ids) == pair.expected[i] for i in range(1, 20, 5))


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["coupled", "rejection"])
@pytest.mark.parametrize("kind", joints.KINDS)
@pytest.mark.parametrize("k", [1, 2])
def test_the_joint_of_three_tokens_is_the_targets(rule, kind, k):
    p_value = joints.worst_p_value(torch.device("cpu"), kind, rule=rule, k=k, rows=5_000, slots=512)
    assert p_value > joints.PASS


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["coupled", "rejection"])
def test_draws_from_another_distribution_fail_the_same_test(monkeypatch, rule):
    """Temperatures 15 % too high: what the test above can tell apart."""
    sampling = RowState.sampling

    def warmer(self, rows, mode):
        real = sampling(self, rows, mode)
        return dataclasses.replace(real, temperature=real.temperature * 1.15)

    monkeypatch.setattr(RowState, "sampling", warmer)
    p_value = joints.worst_p_value(torch.device("cpu"), "plain", rule=rule, k=2, rows=5_000, slots=512)
    assert p_value < joints.PASS
