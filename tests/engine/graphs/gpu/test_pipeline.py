"""Lanes on one GPU, each with a stream of its own: python -m pytest -m gpu tests/engine/graphs/gpu/test_pipeline.py"""

import copy
import random
from types import SimpleNamespace

import pytest
import torch

from specbatch.engine.general.drafter import ModelDrafter
from specbatch.engine.general.model import CausalLM
from specbatch.engine.general.ngram import NGramDrafter
from specbatch.engine.graphs.lanes import Lane, Mailbox
from specbatch.engine.request import SamplingParams
from tests.engine import tiny
from tests.engine.graphs import fast
from tests.engine.graphs.gpu.embedded import GPU, embedded_prompts, no_waits

pytestmark = pytest.mark.gpu

NEW = 30
SHAPES = {"separate": (1, True), "two stages": (2, True), "four stages alone": (4, False)}


@pytest.fixture(scope="module")
def small():
    model = tiny.qwen3(layers=4)
    rows = tiny.prompts()
    return SimpleNamespace(
        prompts=rows,
        expected=tiny.greedy_reference(model, rows, NEW),
        twin=ModelDrafter(CausalLM(copy.deepcopy(model).to(GPU))),
        noisy=ModelDrafter(CausalLM(tiny.noisy(model).to(GPU))),
        target=CausalLM(model.to(GPU)),
    )


@pytest.fixture
def delays(monkeypatch):
    """Before anything that a lane does it is held up, for up to 0.2 ms."""
    cycles, run, post = random.Random(5), Lane.run, Mailbox.post

    def delayed(self, work):
        run(self, lambda: torch.cuda._sleep(cycles.randrange(400_000)))
        return run(self, work)

    def posted(self, tensor, place):
        run(self.source, lambda: torch.cuda._sleep(cycles.randrange(400_000)))
        post(self, tensor, place)

    monkeypatch.setattr(Lane, "run", delayed)
    monkeypatch.setattr(Mailbox, "post", posted)


def decoded(small, shape, groups, k, drafter, rows=None, **config):
    stages, apart = SHAPES[shape]
    rows = rows or fast.requests(small.prompts, NEW)
    sizes = {"max_sequences": 6, "num_speculative_tokens": k, "max_speculative_tokens": 3}
    lanes = {"stages_per_device": stages, "drafter_apart": apart, "micro_batches": groups}
    out, engine = fast.decode(small.target, drafter, rows, **sizes | lanes | config)
    assert len(engine.runner.pair.lanes) == stages + isinstance(drafter, ModelDrafter)
    assert torch.cuda.current_stream(GPU) == torch.cuda.default_stream(GPU)
    return tiny.tokens(out, len(rows)), engine


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("groups", "k"), [(1, 3), (2, 3), (3, None)])
@pytest.mark.usefixtures("delays")
def test_lanes_that_are_held_up_at_random_change_no_token(small, shape, groups, k):
    tokens, engine = decoded(small, shape, groups, k, small.twin)
    assert tokens == small.expected
    assert engine.stats.acceptance_rate in ((1.0,) if k else (0.0, 1.0))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("groups", "k"), [(1, 3), (3, None)])
@pytest.mark.usefixtures("delays")
def test_groups_of_lanes_that_are_held_up_read_their_own_shared_pages_together(small, monkeypatch, shape, groups, k):
    monkeypatch.setattr("specbatch.engine.graphs.cascade.tiles.LEAST_PAGES", 1)
    documents = [[token for prompt in small.prompts[at:] for token in prompt][:140] for at in range(2)]
    rows = fast.requests([[*documents[each % 2], each, 1] for each in range(24)], NEW)
    sizes = {"max_length": 256, "max_sequences": 12}  # of a group's rows two have the same document
    tokens, engine = decoded(small, shape, groups, k, small.twin, rows, cascade_attention=True, **sizes)
    alone, _ = decoded(small, shape, groups, k, small.twin, rows, prefix_caching=False, **sizes)
    assert tokens == alone
    assert engine.stats.cascade_rounds > 0


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("k", [3, None])
@pytest.mark.usefixtures("delays")
def test_rows_that_are_dealt_out_anew_at_any_moment_have_the_same_tokens(small, shape, k):
    stages, apart = SHAPES[shape]
    sizes = {"max_sequences": 6, "num_speculative_tokens": k, "max_speculative_tokens": 3}
    engine = fast.engine(small.target, small.twin, stages_per_device=stages, drafter_apart=apart, **sizes)
    seen = fast.regrouped_at_random(engine, seed=stages)
    out = fast.finish(engine, fast.requests(small.prompts, NEW))
    assert tiny.tokens(out, len(small.prompts)) == small.expected
    assert engine.stats.acceptance_rate in ((1.0,) if k else (0.0, 1.0))
    assert len(set(seen)) > 1
    assert torch.cuda.current_stream(GPU) == torch.cuda.default_stream(GPU)


@pytest.mark.parametrize(("rule", "params"), [("coupled", None), ("rejection", fast.MIXED)])
@pytest.mark.usefixtures("delays")
def test_two_drafters_change_no_token(small, rule, params):
    drafter = ModelDrafter(small.twin.model, replicas=[small.twin.model])
    rows = fast.requests(small.prompts, NEW, params or [SamplingParams()])
    sizes = {"max_sequences": 6, "num_speculative_tokens": 3, "acceptance_rule": rule}
    alone, _ = fast.decode(small.target, small.twin, rows, **sizes)
    spread = {"stages_per_device": 2, "drafter_apart": True, "micro_batches": 3}
    out, engine = fast.decode(small.target, drafter, rows, **sizes | spread)
    assert len(engine.runner.pair.lanes) == 4
    assert tiny.tokens(out, len(rows)) == tiny.tokens(alone, len(rows))
    assert all(seconds > 0 for seconds in engine.runner.busy.seconds.values())


@pytest.mark.parametrize("drafter", ["ngram", "none"])
@pytest.mark.usefixtures("delays")
def test_stages_without_a_drafters_lane_change_no_token(small, drafter):
    tokens, _ = decoded(small, "four stages alone", 4, 3, NGramDrafter() if drafter == "ngram" else None)
    assert tokens == small.expected


@pytest.mark.parametrize("rule", ["coupled", "rejection"])
@pytest.mark.usefixtures("delays")
def test_drawn_rows_are_those_of_one_lane(small, rule):
    rows = fast.stopped(small.prompts, [24, 7, 15], fast.MIXED)
    alone, _ = fast.decode(
        small.target, small.noisy, rows, max_sequences=6, num_speculative_tokens=3, acceptance_rule=rule
    )
    again = fast.stopped(small.prompts, [24, 7, 15], fast.MIXED)
    tokens, _ = decoded(small, "two stages", 3, 3, small.noisy, again, acceptance_rule=rule)
    assert tokens == tiny.tokens(alone, len(rows))


@pytest.mark.parametrize("groups", [1, 2])
def test_the_embedded_pair_in_float32_says_the_same_on_lanes(pairs, groups):
    pair = pairs("float32")
    rows = fast.requests(embedded_prompts(24, 8, 200), 32, [SamplingParams(), SamplingParams(0.8)])
    sizes = {"max_sequences": 12, "num_speculative_tokens": 4, "max_length": 256}
    alone, _ = fast.decode(pair.target, pair.drafter, rows, **sizes)
    out, engine = fast.decode(
        pair.target, pair.drafter, rows, micro_batches=groups, stages_per_device=2, drafter_apart=True, **sizes
    )
    assert tiny.tokens(out, 24) == tiny.tokens(alone, 24)
    assert all(seconds > 0 for seconds in engine.runner.busy.seconds.values())
    assert all(0 < share <= 1 for share in engine.stats.device_busy.values())


def test_the_host_waits_for_nothing_but_the_rounds_that_it_takes_in(small):
    sizes = {"max_sequences": 6, "num_speculative_tokens": 3, "stages_per_device": 2, "drafter_apart": True}
    engine = fast.engine(small.target, small.noisy, micro_batches=3, **sizes)
    fast.finish(engine, fast.requests(small.prompts, NEW))  # captures
    with no_waits():
        out = fast.finish(engine, fast.requests(small.prompts, NEW))
    assert tiny.tokens(out, len(small.prompts)) == small.expected
