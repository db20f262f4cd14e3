"""Before the first row: every step that the run can need has run, and costs are known where k is to be chosen."""

import pytest

from specbatch.engine.general.model import CausalLM
from specbatch.engine.general.ngram import NGramDrafter
from specbatch.engine.graphs.cuda_graphs import CudaGraphRunner
from specbatch.engine.graphs.mode import Mode
from specbatch.engine.graphs.reference import TorchOps
from specbatch.engine.graphs.state import RowState
from specbatch.engine.request import SamplingParams
from specbatch.engine.speculation.adaptive_k import AdaptiveK
from specbatch.engine.speculation.controller import FixedK
from tests.engine import tiny
from tests.engine.graphs import fast
from tests.engine.graphs.describe import families


@pytest.fixture
def ran(monkeypatch):
    """The steps that were run, by their keys, in order."""
    keys, real = [], CudaGraphRunner.run

    def run(self, key, *step):
        keys.append(key)
        real(self, key, *step)

    monkeypatch.setattr(CudaGraphRunner, "run", run)
    return keys


@pytest.mark.slow
def test_k_is_chosen_from_the_costs_of_every_batch_size_and_k(pair):
    engine = fast.engine(pair.target, pair.noisy, max_sequences=4, max_speculative_tokens=3)
    engine.warmup()
    assert isinstance(engine.controller, AdaptiveK)
    costs = engine.controller.costs
    assert set(costs.table) == {(rows, k) for rows in (1, 2, 4) for k in range(4)}
    assert all(seconds > 0 for seconds in costs.table.values())
    assert costs.catch_up_seconds_per_token > 0
    assert list(costs.sizes) == [1, 2, 4]


def test_a_fixed_k_needs_no_prices_unless_they_are_asked_for(pair):
    for priced in (False, True):
        sizes = {"max_sequences": 2, "num_speculative_tokens": 2, "price_plain_rounds": priced}
        engine = fast.engine(pair.target, NGramDrafter(), **sizes)
        engine.warmup()
        assert isinstance(engine.controller, FixedK)
        engine.controller.choose(1, 0, 1)
        assert (engine.controller.plain_seconds is not None) == priced


@pytest.mark.parametrize("k", [None, 0])
def test_without_drafts_there_is_nothing_to_choose(pair, k):
    engine = fast.engine(pair.target, None if k is None else pair.noisy, max_sequences=2, num_speculative_tokens=k)
    engine.warmup()
    assert isinstance(engine.controller, FixedK)
    assert engine.controller.k == 0


def test_a_controller_that_is_given_stays(pair):
    controller = fast.Scripted([1])
    engine = fast.engine(pair.target, pair.noisy, controller, max_sequences=1, num_speculative_tokens=1)
    engine.warmup()
    assert engine.controller is controller


def test_warming_up_again_does_nothing(pair, ran):
    engine = fast.engine(pair.target, pair.noisy, max_sequences=1, num_speculative_tokens=1)
    engine.warmup()
    steps, seconds = len(ran), engine.stats.warmup_seconds
    engine.warmup()
    assert (len(ran), engine.stats.warmup_seconds) == (steps, seconds)


def recorded_and_run(pair, ran, rows, params, k, drafter):
    """What warm-up ran, each step twice: the first time compiles it, the second records it; and what rows then asked for."""
    engine = fast.engine(
        pair.target, drafter, max_sequences=5, max_speculative_tokens=3, num_speculative_tokens=k, sampling=params
    )
    engine.warmup()
    known = set(ran)
    assert all(ran.count(key) >= 2 for key in known)
    ran.clear()
    fast.finish(engine, rows)
    return known, set(ran)


SAMPLING = SamplingParams(0.8, top_k=20)


@pytest.mark.slow
@pytest.mark.parametrize("drafts", ["model", "ngram", "none"])
@pytest.mark.parametrize("k", [3, None])
def test_no_row_waits_for_a_recording_where_rows_sample_as_the_config_says(pair, ran, drafts, k):
    drafter = {"model": pair.noisy, "ngram": NGramDrafter(), "none": None}[drafts]
    rows = fast.stopped(pair.prompts[:9], [12], [SAMPLING])
    known, asked = recorded_and_run(pair, ran, rows, SAMPLING, k, drafter)
    assert asked
    assert asked <= known


@pytest.mark.slow
def test_no_row_waits_for_a_recording_at_its_end(pair, ran):
    rows = fast.requests(pair.prompts[:9], 12, [SAMPLING])
    known, asked = recorded_and_run(pair, ran, rows, SAMPLING, 3, pair.noisy)
    assert asked <= known


def test_rows_are_told_how_far_it_is(pair):
    said = []
    engine = fast.engine(pair.target, pair.noisy, max_sequences=4, num_speculative_tokens=1)
    engine.warmup(said.append)
    assert [text for text in said if text.startswith("capturing rounds")] == [
        f"capturing rounds: {done} of 3 batch sizes" for done in range(3)
    ]
    assert said[0] == "capturing prefill: 0 of 1 sizes"


@pytest.mark.slow
def test_dummy_runs_leave_no_trace(pair):
    engine = fast.engine(pair.target, pair.twin, max_sequences=3, num_speculative_tokens=2)
    engine.warmup()
    on = engine.runner.pair
    assert on.target_pool.free == on.target_pool.pages
    assert on.state.lengths.tolist() == on.state.ends.tolist() == [0] * 4
    assert not on.state.history[:-1].any()
    assert not on.target_pool.table.lines.any()
    out = fast.finish(engine, fast.requests(pair.prompts[:5], 8))
    assert tiny.tokens(out, 5) == [tokens[:8] for tokens in pair.expected[:5]]
    assert engine.stats.acceptance_rate == 1.0


@pytest.mark.slow
def test_what_the_host_does_for_a_row_that_comes_is_done_once_before_the_first(pair, monkeypatch):
    """On a GPU PyTorch would load it while the first row waits."""
    joined, real = [], RowState.join
    monkeypatch.setattr(RowState, "join", lambda self, slots, rows: joined.append(slots) or real(self, slots, rows))
    engine = fast.engine(pair.target, pair.twin, max_sequences=3)
    engine.warmup()
    assert joined == [[3]]  # the padding slot


@pytest.mark.slow
def test_the_largest_steps_come_first_so_that_memory_shows_at_once(pair, ran):
    engine = fast.engine(pair.target, pair.noisy, max_sequences=4, max_speculative_tokens=2, graphs_prefill_chunk=128)
    engine.warmup()
    rounds = [(key[1], key[2]) for key in ran if key[0] == "verify"]
    assert rounds == sorted(rounds, reverse=True)
    prefills = [key[2] for key in ran if key[0] == "prefill"]
    assert prefills[0] == max(prefills) == 128
    assert {key[3] for key in ran if key[0] == "verify"} == {Mode.of([])}


@pytest.mark.slow
@pytest.mark.parametrize("stages", [1, 2])
def test_rounds_of_a_mixture_of_experts_are_timed_over_tokens_that_choose_for_themselves(monkeypatch, stages):
    """Equal tokens would read the experts of one."""
    chosen, route = [], TorchOps.route

    def routed(self, *args):
        found = route(self, *args)
        chosen.append(found[2].experts)
        return found

    monkeypatch.setattr(TorchOps, "route", routed)
    target = CausalLM(families.build("mixtral", num_local_experts=16, num_experts=16))
    engine = fast.engine(target, None, max_sequences=8, num_speculative_tokens=0, stages_per_device=stages)
    engine.warmup()
    timed = [experts for experts in chosen if len(experts) == 8]
    assert timed
    assert all(experts.lt(16).all() for experts in timed)
    assert all(len(experts.unique()) > 6 for experts in timed)
    chosen.clear()
    fast.finish(engine, fast.requests([[1, 2, 3]], 4))
    assert any(experts.eq(16).all(-1).any() for experts in chosen), "fillers of the prefill go nowhere"
