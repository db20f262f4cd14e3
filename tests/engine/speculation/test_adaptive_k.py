"""The choice of k, on costs and acceptance that are known."""

import pytest
import torch

from specbatch.engine.speculation.acceptance_rates import AcceptanceEstimate
from specbatch.engine.speculation.adaptive_k import AdaptiveK
from specbatch.engine.speculation.controller import Choice, RoundReport
from specbatch.engine.speculation.round_costs import RoundCosts
from tests.engine import device

MAX_K = 8
PLENTY = 10_000  # tokens that rows may still get


def costs(verify, draft, slope=0.0):
    """A round of k costs verify * (1 + slope * k) + draft * k, whatever the batch."""
    return {(n, k): verify * (1 + slope * k) + draft * k for n in (1, 8) for k in (0, 1, 2, 4, 8)}


def simulate(controller, table, rate, *, rounds=400, rows=8, noise=0.0, seed=0):
    """Plays rounds of a world with the given costs and acceptance; returns (tokens per second, ks)."""
    generator = torch.Generator().manual_seed(seed)
    world = RoundCosts(table)
    seconds, tokens, ks = 0.0, 0, []
    for _ in range(rounds):
        k = controller.choose(rows, 0, PLENTY).k
        stands = torch.rand(rows, max(k, 1), generator=generator) < rate
        accepted = stands.long().cumprod(1).sum(1).tolist() if k else [0] * rows
        spent = world.seconds(rows, k) * (1 + noise * torch.randn(1, generator=generator).item())
        proposed_at = [sum(a >= j for a in accepted) for j in range(k)]
        accepted_at = [sum(a > j for a in accepted) for j in range(k)]
        controller.observe(RoundReport(rows, k, max(spent, 1e-6), proposed_at, accepted_at))
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


def test_a_batch_that_waits_for_its_unluckiest_row_leaves_a_gain_that_a_stream_takes():
    """Six percent a round of eight rows, measured on an H200: rows of 128 tokens end 5% later than their mean."""
    table = {(n, k): seconds + 1.7 * max(0, k - 1) for n in (1, 8) for k, seconds in enumerate((4.3, 6.1, 7.8, 9.5))}
    batch, stream = (AdaptiveK(RoundCosts(table), 3, steady=True) for _ in range(2))
    for controller in (batch, stream):
        controller.observe(RoundReport(8, 1, 6.1, [800], [400], joined=1 if controller is stream else 0))
        controller.rounds_since_plain = 0
    assert batch.choose(8, 0, 8 * 128).k == 0
    assert stream.choose(8, 0, 8 * 128).k == 1


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


@pytest.mark.slow
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
    assert AdaptiveK(RoundCosts(costs(1.0, 0.0)), MAX_K).choose(8, 0, PLENTY) == Choice(1, 8)


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
    cheap, dear = (AdaptiveK(RoundCosts(table, catch_up_seconds_per_token=s), MAX_K) for s in (0.0, 10.0))
    for controller in (cheap, dear):
        simulate(controller, table, 0.02, rounds=300)
        assert controller.acceptance.rate(0) < 0.1
    asked = {"cheap": 0, "dear": 0}
    for name, controller in (("cheap", cheap), ("dear", dear)):
        for _ in range(200):
            k = controller.choose(8, 50, PLENTY).k
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


def test_auto_prices_plain_rounds_by_those_of_the_run():
    table = costs(1.0, 0.05)
    controller = AdaptiveK(RoundCosts(table), MAX_K)
    simulate(controller, {key: 1.2 * s for key, s in table.items()}, 0.8, rounds=300)
    controller.choose(8, 0, PLENTY)
    assert controller.plain_seconds == pytest.approx(1.2, rel=0.05)


# -- what the drafter must take in before it drafts --------------------------------------------------------------------


def informed(catch_up_seconds_per_token, rate=0.8, draft=0.1):
    """A controller that knows how often drafts stand."""
    controller = AdaptiveK(RoundCosts(costs(1.0, draft, slope=0.02), catch_up_seconds_per_token), MAX_K)
    controller.acceptance.observe([500] * MAX_K, [int(500 * rate)] * MAX_K)
    return controller


def test_what_the_drafter_lacks_must_pay_within_what_the_rows_may_still_get():
    controller = informed(catch_up_seconds_per_token=0.01)
    assert controller.choose(8, 800, 8 * 200).k > 0
    assert controller.choose(8, 800, 8 * 10).k == 0
    assert controller.choose(8, 0, 8 * 10).k > 0  # what it has taken in is paid


def test_a_stream_pays_for_the_rows_to_come():
    for joined, drafts in ((0, True), (2, True), (200, False)):
        controller = informed(catch_up_seconds_per_token=0.01)
        for _ in range(100):
            controller.observe(RoundReport(8, 0, 1.0, [], [], joined=joined))
        assert (controller.choose(8, 0, 8 * 50).k > 0) == drafts


def test_a_batch_is_not_taken_in_for_a_first_look_that_costs_more_than_it_may_give():
    table = costs(1.0, 0.6, slope=0.1)  # 0.9 of the drafts would have to stand
    controller = AdaptiveK(RoundCosts(table, catch_up_seconds_per_token=0.05), MAX_K)
    assert controller.choose(8, 400, 8 * 1000).k > 0
    assert controller.choose(8, 400, 8 * 300).k == 0
    assert controller.choose(8, 0, 8 * 300).k > 0


def test_few_rows_are_asked_first_where_all_would_be_dear_to_take_in():
    fresh = AdaptiveK(device.costs(128), MAX_K, steady=True)
    few = fresh.choose(128, 128 * 128, 128 * 128)
    assert few == Choice(1, 4)  # within a hundredth of the second that the batch takes
    assert fresh.choose(128, 128 * 512, 128 * 1024).rows == 16
    assert fresh.choose(128, 0, 128 * 128).rows == 128
    assert fresh.choose(8, 8 * 128, 8 * 128).rows == 8
    assert AdaptiveK(device.costs(128), MAX_K).choose(128, 128 * 128, 128 * 128).rows == 128  # the others cannot wait


@pytest.mark.parametrize(("accepted_at", "rows", "drafts"), [(15, 128, True), (11, 4, True), (4, 128, False)])
def test_what_few_show_decides_for_all_and_few_are_asked_again_where_that_may_have_been_luck(accepted_at, rows, drafts):
    controller = AdaptiveK(device.costs(128), MAX_K, steady=True)
    controller.choose(128, 128 * 128, 128 * 128)
    catch_up, spent = 16 * 128 * device.INGEST, device.seconds(16, 2)
    few = RoundReport(
        16, 2, spent, [16, accepted_at], [accepted_at, accepted_at * accepted_at // 16], catch_up, 2, standing=112
    )
    controller.observe(few)
    chosen = controller.choose(128, 112 * 128, 128 * 128 - 40)
    assert chosen.rows == rows
    assert (chosen.k > 0) == drafts
    assert drafts or chosen.k == 0
    controller.observe(few)
    controller.observe(few)
    assert controller.choose(128, 80 * 128, 128 * 128 - 120).rows == 128


def test_a_few_unlucky_drafts_do_not_end_their_position_for_good():
    estimate = AcceptanceEstimate()
    estimate.observe([100, 3], [80, 0])
    assert 0.5 < estimate.rate(1) < 0.7
    estimate.observe([100, 80], [80, 8])
    assert estimate.rate(1) < 0.2
