"""A k that is always the same, and what it says of plain rounds."""

import pytest

from specbatch.engine.speculation.controller import Choice, FixedK, RoundReport
from specbatch.engine.speculation.round_costs import RoundCosts
from tests.engine.speculation.test_adaptive_k import PLENTY, costs, simulate


def test_a_fixed_k_stays():
    controller = FixedK(3)
    simulate(controller, costs(1.0, 5.0), 0.0, rounds=20)
    assert controller.choose(4, 0, PLENTY) == Choice(3, 4)


def test_a_fixed_k_prices_plain_rounds_by_how_slow_its_own_are():
    controller = FixedK(4, RoundCosts({(1, 0): 1.0, (1, 4): 2.0, (9, 0): 5.0, (9, 4): 10.0}))
    controller.choose(5, 0, PLENTY)
    assert controller.plain_seconds == pytest.approx(3.0)
    for _ in range(300):
        controller.observe(RoundReport(5, 4, 9.0, [], [], verified=4))  # 6 at warm-up
    controller.choose(9, 0, PLENTY)
    assert controller.plain_seconds == pytest.approx(7.5)
    for _ in range(300):  # a ragged drafter that finds nothing makes plain rounds of them
        controller.observe(RoundReport(5, 4, 3.0, [], [], verified=0))
    controller.choose(9, 0, PLENTY)
    assert controller.plain_seconds == pytest.approx(5.0, rel=0.01)


def test_a_fixed_k_without_a_table_has_no_price():
    controller = FixedK(4)
    controller.observe(RoundReport(5, 4, 9.0, [], [], verified=4))
    assert controller.choose(5, 0, PLENTY) == Choice(4, 5)
    assert controller.plain_seconds is None
