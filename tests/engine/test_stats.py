"""What the target alone would have taken, estimated while another way is gone."""

import pytest

from specbatch.engine.config import EngineConfig
from specbatch.engine.make_engine import general_engine
from specbatch.engine.request import Request
from specbatch.engine.speculation.controller import Choice
from specbatch.engine.speculation.depth import Speculation
from specbatch.engine.stats import EngineStats
from tests.engine import tiny


class Priced:
    """Always the same k, and one price of a plain round."""

    is_adaptive = False

    def __init__(self, k, plain_seconds):
        self.k = k
        self.plain_seconds = plain_seconds

    def choose(self, rows, lag, remaining):
        return Choice(self.k, rows)

    def observe(self, report):
        pass


def decode(pair, drafter, controller, batch=4):
    engine = general_engine(
        pair.target, drafter, EngineConfig(batch, 128, Speculation.fixed(4), prefill_chunk=32), controller=controller
    )
    tokens = sum(
        len(c.token_ids) for c in engine.generate([Request(str(i), p, 12) for i, p in enumerate(pair.prompts)])
    )
    return engine.stats, tokens


@pytest.mark.slow
def test_each_round_stands_for_as_many_plain_ones_as_it_kept_tokens_a_row(pair):
    stats, tokens = decode(pair, pair.twin, Priced(3, 0.5), batch=1)
    assert stats.plain_rounds == pytest.approx(tokens)
    assert stats.plain_seconds == pytest.approx(0.5 * tokens)
    assert stats.rounds < tokens
    together, _ = decode(pair, pair.twin, Priced(3, 0.5), batch=4)
    assert together.plain_rounds >= tokens / 4  # fewer rows are left at the end


@pytest.mark.slow
def test_plain_rounds_count_as_they_were_measured(pair):
    stats, tokens = decode(pair, None, Priced(0, 1000.0), batch=1)
    assert stats.plain_rounds == stats.rounds == tokens
    phases = stats.seconds
    rounds = phases["draft"] + phases["verify"] + phases["accept"]
    assert stats.plain_seconds == pytest.approx(rounds, rel=0.2)
    assert stats.target_only_seconds == pytest.approx(sum(phases.values()), rel=0.2)
    assert stats.target_only_slowdown is None  # nothing was drafted: it was the target alone


def test_the_estimate_leaves_out_what_the_drafter_costs_and_nothing_else():
    stats = EngineStats(rounds=10, drafted=30, catch_up_seconds=1.0, plain_rounds=30.0, plain_seconds=15.0)
    stats.seconds |= {"prefill": 3.0, "draft": 4.0, "verify": 5.0, "accept": 0.5, "host": 0.5, "idle": 1.0}
    assert stats.target_only_seconds == pytest.approx(3.0 - 1.0 + 1.0 + 15.0 + 3 * 0.5)
    assert stats.target_only_slowdown == pytest.approx(19.5 / 14.0)


@pytest.mark.slow
def test_without_a_price_nothing_is_estimated(pair):
    stats, _ = decode(pair, pair.twin, Priced(3, None))
    assert stats.target_only_seconds is None
    assert stats.target_only_slowdown is None
    assert EngineStats().target_only_seconds is None


@pytest.mark.slow
@pytest.mark.parametrize("k", [None, 3])
def test_with_any_k_plain_rounds_are_priced_where_the_config_asks(pair, k):
    config = {"max_sequences": 8, "num_speculative_tokens": k}
    requests = [Request(str(i), prompt, 12) for i, prompt in enumerate(pair.prompts)]
    _, engine = tiny.decode(pair.target, pair.twin, requests, price_plain_rounds=True, **config)
    assert engine.stats.target_only_seconds > 0
    if k is not None:
        assert engine.stats.target_only_slowdown > 0.1
        _, engine = tiny.decode(pair.target, pair.twin, requests, **config)
        assert engine.stats.target_only_seconds is None


@pytest.mark.slow
def test_the_drafters_catching_up_is_the_drafters(pair):
    stats, _ = decode(pair, pair.twin, Priced(3, 0.5))
    assert 0 < stats.catch_up_seconds < stats.seconds["prefill"]
