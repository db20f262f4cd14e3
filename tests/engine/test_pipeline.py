"""How long rounds take beside others, and how many groups of rows pay."""

import pytest

from benchmarks.simulate_pipeline import merged, simulate
from specbatch.engine.pipeline import HOP, RoundTimes, best_groups, costs_of

MS = 1e-3


def test_alone_a_round_takes_all_its_parts_and_a_hop_after_each():
    assert RoundTimes((2 * MS,), (3 * MS, 4 * MS)).interval(1) == pytest.approx(9 * MS + 3 * HOP)
    assert RoundTimes((), (3 * MS,)).interval(1) == pytest.approx(3 * MS)  # one GPU: nothing hops


@pytest.mark.parametrize(
    ("draft", "stages", "groups", "interval"),
    [
        (4, (4,), 2, (8 * MS + 2 * HOP) / 2),  # nothing is idle but for the hops
        (4, (4,), 3, 4 * MS),
        (2, (6,), 2, 6 * MS),  # the target is the bottleneck, and more groups do not help
        (2, (6,), 5, 6 * MS),
        (0, (3, 3, 4), 2, (10 * MS + 3 * HOP) / 2),
        (0, (3, 3, 4), 4, 4 * MS),
    ],
)
def test_with_several_groups_a_round_ends_as_often_as_the_busiest_part_allows(draft, stages, groups, interval):
    times = RoundTimes((draft * MS,), tuple(each * MS for each in stages))
    assert times.interval(groups) == pytest.approx(interval)
    simulated, busy = simulate(times, groups)
    assert simulated == pytest.approx(interval, rel=0.01)
    assert max(busy) <= 1.0


def test_a_host_that_is_slower_than_the_devices_sets_the_pace():
    seconds, _ = simulate(RoundTimes((1 * MS,), (1 * MS,)), 4, host=3 * MS)
    assert seconds == pytest.approx(3 * MS, rel=0.02)


def test_on_one_gpu_groups_gain_nothing():
    times = RoundTimes((2 * MS,), (3 * MS,))
    assert simulate(times, 2, together=True)[0] == pytest.approx(5 * MS, rel=0.01)


def test_neighbouring_stages_make_a_longer_one():
    assert merged([1, 2, 3, 4, 5, 6], 2) == (6, 15)
    assert merged([1, 2, 3, 4, 5, 6], 1) == (21,)


def times_of(fixed, of_a_row, rows, ks=(0, 2)):
    """Steps that read weights for `fixed`, and take `of_a_row` for each row; two drafts take as long as the verify."""
    return {(n, k): RoundTimes(((fixed + n * of_a_row) * (k > 0),), (fixed + n * of_a_row,)) for n in rows for k in ks}


SIZES = [16, 32, 64, 128]


def test_where_rows_cost_time_two_groups_pay_and_three_read_the_weights_for_nothing():
    assert best_groups(times_of(2 * MS, 0.1 * MS, SIZES), 128, 3, [0, 2], SIZES) == 2


def test_where_weights_are_all_that_is_read_one_group_does():
    assert best_groups(times_of(5 * MS, 0.0, SIZES), 128, 3, [2], SIZES) == 1


def test_there_are_no_more_groups_than_rows():
    assert best_groups(times_of(0.0, 1 * MS, [1]), 1, 3, [2], [1]) == 1


def test_costs_are_the_intervals_of_the_groups_in_flight():
    times = times_of(2 * MS, 0.1 * MS, SIZES)
    assert costs_of(times, 1, SIZES).measured(64, 2) == pytest.approx(2 * 8.4 * MS + 2 * HOP)
    assert costs_of(times, 2, SIZES).measured(64, 2) == pytest.approx(8.4 * MS + HOP)
    assert costs_of(times, 2, SIZES).measured(64, 0) == pytest.approx(8.4 * MS)  # no drafts: the target is always busy
