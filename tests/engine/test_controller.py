"""The choice of k, on costs and acceptance that are known."""

import pytest
import torch

from specbatch.engine.controller import AcceptanceEstimate, AdaptiveK, FixedK, RoundCosts, RoundReport

MAX_K = 8


def costs(verify, draft, slope=0.0):
    """A round of k costs verify * (1 + slope * k) + draft * k, whatever the batch."""
    return {(n, k): verify * (1 + slope * k) + draft * k for n in (1, 8) for k in (0, 1, 2, 4, 8)}


def simulate(controller, table, rate, *, rounds=400, rows=8, noise=0.0, seed=0):
    """Plays rounds of a world with the given costs and acceptance; returns (tokens per second, ks)."""
    generator = torch.Generator().manual_seed(seed)
    world = RoundCosts(table)
    seconds, tokens, ks = 0.0, 0, []
    for _ in range(rounds):
        k = controller.choose(rows, 0)
        stands = torch.rand(rows, max(k, 1), generator=generator) < rate
        accepted = stands.long().cumprod(1).sum(1).tolist() if k else [0] * rows
        spent = world.seconds(rows, k) * (1 + noise * torch.randn(1, generator=generator).item())
        reached = [sum(a >= j for a in accepted) for j in range(k)]
        stood = [sum(a > j for a in accepted) for j in range(k)]
        controller.observe(RoundReport(rows, k, max(spent, 1e-6), reached, stood))
        seconds, tokens = seconds + spent, tokens + sum(accepted) + rows
        ks.append(k)
    return tokens / seconds, ks


def speed(k, table, rate, rows=8):
    return rows * sum(rate**j for j in range(k + 1)) / RoundCosts(table).seconds(rows, k)


@pytest.mark.parametrize("rate", [0.3, 0.6, 0.8, 0.95])
@pytest.mark.parametrize("draft", [0.02, 0.12, 0.3])
def test_auto_comes_near_the_best_fixed_k(rate, draft):
    table = costs(1.0, draft, slope=0.02)
    got, _ = simulate(AdaptiveK(RoundCosts(table), MAX_K), table, rate, noise=0.05)
    best = max(speed(k, table, rate) for k in range(MAX_K + 1))
    assert got > 0.93 * best


@pytest.mark.parametrize("rate", [0.05, 0.3, 0.5])
def test_where_speculation_does_not_pay_auto_costs_next_to_nothing(rate):
    table = costs(1.0, 0.5, slope=0.25)
    got, ks = simulate(AdaptiveK(RoundCosts(table), MAX_K), table, rate, noise=0.05)
    assert got > 0.98 * speed(0, table, rate)
    assert ks[-1] == 0


def test_a_drafter_as_slow_as_the_target_is_never_asked():
    table = costs(1.0, 1.0, slope=0.2)
    _, ks = simulate(AdaptiveK(RoundCosts(table), MAX_K), table, 0.99)
    assert set(ks) == {0}


def test_k_comes_back_when_acceptance_does():
    table = costs(1.0, 0.05, slope=0.02)
    controller = AdaptiveK(RoundCosts(table), MAX_K)
    _, ks = simulate(controller, table, 0.02, rounds=300)
    assert ks[-50:].count(0) > 45
    _, ks = simulate(controller, table, 0.9, rounds=3000)
    assert max(ks[-50:]) >= 4


def test_costs_measured_wrongly_at_warm_up_are_corrected_by_rounds():
    """The table says that drafting is nearly free; it is not."""
    truth = costs(1.0, 0.6, slope=0.2)
    got, _ = simulate(AdaptiveK(RoundCosts(costs(1.0, 0.01)), MAX_K), truth, 0.6, rounds=1000)
    best = max(speed(k, truth, 0.6) for k in range(MAX_K + 1))
    assert got > 0.85 * best


def test_a_machine_that_slows_down_as_a_whole_changes_no_choice():
    table = costs(1.0, 0.05, slope=0.02)
    controller = AdaptiveK(RoundCosts(table), MAX_K)
    _, before = simulate(controller, table, 0.8, rounds=200)
    _, after = simulate(controller, {key: 3 * s for key, s in table.items()}, 0.8, rounds=300)
    assert abs(before[-1] - after[-1]) <= 1


def test_k_does_not_leap_before_anything_is_known():
    assert AdaptiveK(RoundCosts(costs(1.0, 0.0)), MAX_K).choose(8, 0) == 1


def test_a_fixed_k_stays():
    controller = FixedK(3)
    simulate(controller, costs(1.0, 5.0), 0.0, rounds=20)
    assert controller.choose(4, 0) == 3


def test_costs_lie_on_lines_between_the_measured_points():
    table = RoundCosts({(1, 0): 1.0, (1, 4): 3.0, (9, 0): 5.0, (9, 4): 7.0})
    assert table.seconds(1, 2) == pytest.approx(2.0)
    assert table.seconds(5, 0) == pytest.approx(3.0)
    assert table.seconds(5, 4) == pytest.approx(5.0)
    assert table.seconds(1, 8) == pytest.approx(5.0)  # on along the last line


def test_acceptance_of_an_unseen_position_leans_on_the_one_before():
    estimate = AcceptanceEstimate()
    estimate.observe([1000], [900])
    assert estimate.rate(0) == pytest.approx(0.9, abs=0.01)
    assert estimate.rate(5) == estimate.rate(0)
    assert estimate.expected_tokens(2) == pytest.approx(1 + 0.9 + 0.81, abs=0.02)


def test_longer_contexts_alone_do_not_make_drafts_look_cheap():
    """All rounds slow down together while only plain ones are run: no reason to ask a slow drafter."""
    table = costs(1.0, 1.0, slope=0.2)
    controller = AdaptiveK(RoundCosts(table), MAX_K)
    ks = []
    for step in range(500):
        growing = {key: s * (1 + step / 200) for key, s in table.items()}
        _, chosen = simulate(controller, growing, 0.99, rounds=1, noise=0.1, seed=step)
        ks += chosen
    assert ks.count(0) >= 498


def test_a_probe_waits_until_what_the_drafter_missed_is_paid_for():
    table = costs(1.0, 0.05, slope=0.02)
    cheap, dear = (AdaptiveK(RoundCosts(table, ingest_seconds=s), MAX_K) for s in (0.0, 10.0))
    for controller in (cheap, dear):
        simulate(controller, table, 0.02, rounds=300)
        assert controller.acceptance.rate(0) < 0.1
    asked = {"cheap": 0, "dear": 0}
    for name, controller in (("cheap", cheap), ("dear", dear)):
        for _ in range(200):
            k = controller.choose(8, 50)
            asked[name] += k > 0
            controller.observe(RoundReport(8, 0, 1.0, [], []))
    assert asked["cheap"] > 0
    assert asked["dear"] == 0


def test_many_drafts_may_pay_where_one_does_not():
    """Where a round of any drafts costs three plain ones and further drafts are nearly free, k = 1 loses and k = 8 gains."""
    table = {(n, k): 1.0 if k == 0 else 3.0 + 0.05 * k for n in (1, 8) for k in (0, 1, 2, 4, 8)}
    got, ks = simulate(AdaptiveK(RoundCosts(table), MAX_K), table, 0.93, rows=1, rounds=600)
    assert ks[-1] >= 6
    assert got > 0.85 * speed(8, table, 0.93, rows=1)


def test_a_fixed_k_prices_plain_rounds_by_how_slow_its_own_are():
    controller = FixedK(4, RoundCosts({(1, 0): 1.0, (1, 4): 2.0, (9, 0): 5.0, (9, 4): 10.0}))
    controller.choose(5, 0)
    assert controller.plain_seconds == pytest.approx(3.0)
    for _ in range(300):
        controller.observe(RoundReport(5, 4, 9.0, [], [], verified=4))  # 6 at warm-up
    controller.choose(9, 0)
    assert controller.plain_seconds == pytest.approx(7.5)
    for _ in range(300):  # a ragged drafter that finds nothing makes plain rounds of them
        controller.observe(RoundReport(5, 4, 3.0, [], [], verified=0))
    controller.choose(9, 0)
    assert controller.plain_seconds == pytest.approx(5.0, rel=0.01)


def test_a_fixed_k_without_a_table_has_no_price():
    controller = FixedK(4)
    controller.observe(RoundReport(5, 4, 9.0, [], [], verified=4))
    assert controller.choose(5, 0) == 4
    assert controller.plain_seconds is None


def test_auto_prices_plain_rounds_by_those_of_the_run():
    table = costs(1.0, 0.05)
    controller = AdaptiveK(RoundCosts(table), MAX_K)
    simulate(controller, {key: 1.2 * s for key, s in table.items()}, 0.8, rounds=300)
    controller.choose(8, 0)
    assert controller.plain_seconds == pytest.approx(1.2, rel=0.05)
