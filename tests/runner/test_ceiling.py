import pytest

from specbatch.engine.stats import EngineStats
from specbatch.plan.types import Ceiling
from specbatch.runner import ceiling as module
from specbatch.runner.ceiling import CeilingOfRun
from specbatch.runner.devices import measured_cpu


def stats(**counts):
    return EngineStats(
        **{"finished": 4, "rounds": 10, "row_rounds": 35, "prompt_tokens": 400, "emitted": 80, "drafted": 0} | counts
    )


@pytest.fixture
def assumed(monkeypatch):
    """What the plan's formula is asked."""
    seen = []

    def ceiling_of(_plan, _target, _drafter, _gpus, assumptions):
        seen.append(assumptions)
        return Ceiling(123.0, 123.0, 100.0, 2, assumptions.acceptance_rate, assumptions.mean_length)

    monkeypatch.setattr(module, "ceiling_of", ceiling_of)
    return seen


def ceiling(**kwargs):
    return CeilingOfRun(None, None, None, (), **{"fixed_k": None, "max_k": 8} | kwargs)


def test_nothing_is_predicted_before_a_row_has_ended(assumed):
    assert ceiling()(EngineStats()) is None
    assert assumed == []


def test_the_ceiling_is_asked_for_what_the_run_has_measured(assumed):
    counts = stats(drafted=90, drafted_by_position=[35, 30, 25], accepted_by_position=[28, 10, 5])
    assert ceiling(fixed_k=3, max_k=3)(counts) == 123.0
    (asked,) = assumed
    assert (asked.rows, asked.mean_length, asked.fixed_k, asked.max_k) == (4, 110, 3, 3)
    assert asked.acceptance_rate == pytest.approx(28 / 35)


def test_a_run_without_drafts_accepts_none(assumed):
    ceiling()(stats())
    assert assumed[0].acceptance_rate == 0.0


def test_the_cpus_own_figures_are_measured():
    shape = measured_cpu()
    assert shape.is_cpu
    assert 1e8 < shape.bandwidth < 1e13
    assert 1e8 < shape.flops < 1e15
