"""How long rounds take beside others, and how many groups of rows pay."""

import pytest

from benchmarks.predictions.simulate_pipeline import merged, simulate
from specbatch.engine.pipeline import (
    CROWDED,
    HOP,
    SUSTAINED,
    PipelineCosts,
    RoundTimes,
    assumed_tokens,
    best_groups,
    speeds_by_groups,
)

MS = 1e-3


def test_alone_a_round_takes_all_its_parts_and_a_hop_after_each():
    assert RoundTimes((2 * MS,), (3 * MS, 4 * MS)).interval(1) == pytest.approx(9 * MS + 3 * HOP)
    assert RoundTimes((), (3 * MS,)).interval(1) == pytest.approx(3 * MS)  # one GPU: nothing hops


@pytest.mark.parametrize(
    ("draft", "stages", "groups", "interval"),
    [
        (4, (4,), 1, 8 * MS + 2 * HOP),
        (4, (4,), 3, 4 * MS * SUSTAINED),  # nothing is idle
        (2, (6,), 2, 6 * MS * SUSTAINED),  # the target is the bottleneck, and more groups do not help
        (2, (6,), 5, 6 * MS * SUSTAINED),
        (0, (3, 3, 4), 2, (10 * MS + 3 * HOP) / 2),
        (0, (3, 3, 4), 4, 4 * MS * SUSTAINED),
        (0, (5,), 1, 5 * MS * SUSTAINED),  # no drafts: the target is always busy
    ],
)
def test_with_several_groups_a_round_ends_as_often_as_the_busiest_part_allows(draft, stages, groups, interval):
    times = RoundTimes((draft * MS,), tuple(each * MS for each in stages))
    assert times.interval(groups) == pytest.approx(interval)
    simulated, busy = simulate(times, groups)
    assert simulated == pytest.approx(interval, rel=0.02)
    assert max(busy) <= 1.0


@pytest.mark.parametrize(("k", "held"), [(1, 3), (2, 4.5), (3, 5)])
def test_a_round_holds_a_drafter_in_stages_until_its_last_token_has_been_there(k, held):
    """Lanes do what is queued in its order: two stages, in which each token takes 6 / 2k ms."""
    times = RoundTimes((3 * MS, 3 * MS), (1 * MS,), k)
    assert times.drafting == pytest.approx(held * MS)
    free, done, ends = [0.0, 0.0], 0.0, []
    for _ in range(50):  # rounds of groups without end
        done = 0.0
        for _ in range(k):
            for stage in range(2):
                done = free[stage] = max(done, free[stage]) + 3 * MS / k
        ends.append(done)
    assert (ends[-1] - ends[0]) / 49 == pytest.approx(held * MS)


def test_one_lane_takes_what_it_took():
    assert RoundTimes((), (3 * MS,)).interval(1) == 3 * MS


@pytest.mark.parametrize(
    ("drafters", "groups", "held"), [(1, 4, 6), (2, 1, 6), (2, 4, 3), (2, 3, 4), (3, 4, 3), (3, 6, 2)]
)
def test_of_several_drafters_the_one_with_the_most_groups_sets_the_pace(drafters, groups, held):
    times = RoundTimes((6 * MS,), (1 * MS,), drafters=drafters)
    assert times.busiest(groups) == pytest.approx(held * MS * SUSTAINED)
    simulated, busy = simulate(times, groups)
    assert simulated == pytest.approx(times.interval(groups), rel=0.02)
    assert len(busy) == drafters + 1


def test_a_drafter_that_shares_a_gpu_with_the_target_keeps_it_busy_for_its_share_of_the_groups():
    times = RoundTimes((4 * MS,), (3 * MS,), gpus=("cuda:0", "cuda:1", "cuda:0"), drafters=2)
    assert times.interval(2) == pytest.approx(CROWDED * (2 + 3) * MS)
    assert times.interval(3) == pytest.approx(CROWDED * (8 / 3 + 3) * MS)


def test_two_drafters_make_twice_as_many_drafts_pay():
    """Of two GPUs, the drafter in two stages waits for its own tokens."""
    stages, whole = RoundTimes((3 * MS, 3 * MS), (2 * MS,), 2), RoundTimes((6 * MS,), (2 * MS,), 2, drafters=2)
    assert stages.busiest(4) == pytest.approx(1.5 * whole.busiest(4))
    assert stages.cycle == pytest.approx(whole.cycle + HOP)


def test_a_host_that_is_slower_than_the_devices_sets_the_pace():
    seconds, _ = simulate(RoundTimes((1 * MS,), (1 * MS,)), 4, host=3 * MS)
    assert seconds == pytest.approx(3 * MS, rel=0.02)


def test_parts_on_one_gpu_keep_it_busy_for_the_sum_of_their_times_and_get_in_each_others_way():
    """A target in two stages, whose second stage shares its GPU with the drafter."""
    times = RoundTimes((2 * MS,), (3 * MS, 3 * MS), gpus=("cuda:1", "cuda:0", "cuda:1"))
    assert times.interval(1) == pytest.approx(8 * MS + 3 * HOP)  # one after the other
    assert times.interval(3) == pytest.approx(5 * MS * CROWDED)
    assert RoundTimes((2 * MS,), (3 * MS, 3 * MS)).interval(3) == pytest.approx(3 * MS * SUSTAINED)


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


def costs_of(times, groups, sizes=SIZES, most=3, **kwargs):
    return PipelineCosts(times, sizes, groups, most, **kwargs)


def best(times, rows, sizes=SIZES):
    return best_groups(speeds_by_groups(costs_of(times, 1, sizes), rows, assumed_tokens))


def test_where_rows_cost_time_two_groups_pay_and_three_read_the_weights_for_nothing():
    assert best(times_of(2 * MS, 0.1 * MS, SIZES), 128) == 2


def test_where_weights_are_all_that_is_read_one_group_does():
    assert best(times_of(5 * MS, 0.0, SIZES), 128) == 1


def test_there_are_no_more_groups_than_rows():
    assert best(times_of(0.0, 1 * MS, [1]), 1, [1]) == 1


def test_a_fixed_k_is_not_judged_by_what_plain_rounds_would_give():
    times = times_of(2 * MS, 0.1 * MS, SIZES)
    assert costs_of(times, 1).ks(100) == [0, 2]
    assert costs_of(times, 1, adaptive=False).ks(100) == [2]


def test_costs_are_the_intervals_of_the_groups_in_flight():
    costs = costs_of(times_of(2 * MS, 0.1 * MS, SIZES), 1)
    assert costs.measured(64, 2) == pytest.approx(2 * 8.4 * MS + 2 * HOP)
    costs.regroup(2)
    assert costs.measured(64, 2) == pytest.approx(8.4 * MS * SUSTAINED)
    assert costs.measured(64, 0) == pytest.approx(8.4 * MS * SUSTAINED)  # no drafts: the target is always busy


def test_what_the_drafter_catches_up_with_costs_nothing_where_the_target_is_the_bottleneck():
    times = {(64, k): RoundTimes((2 * MS * k,), (8 * MS,)) for k in (0, 1, 3)}
    costs = costs_of(times, 2, [64])
    assert costs.seconds(64, 1, 1 * MS) == costs.seconds(64, 1) == pytest.approx(8 * MS * SUSTAINED)
    assert costs.seconds(64, 3, 5 * MS) == pytest.approx(11 * MS)  # there the drafter is
    costs.regroup(1)
    assert costs.seconds(64, 1, 1 * MS) == pytest.approx(costs.seconds(64, 1) + 1 * MS)


def test_what_slows_all_rounds_is_known_for_every_number_of_groups_and_what_slows_one_for_that_alone():
    costs = costs_of(times_of(2 * MS, 0.1 * MS, SIZES), 1)
    before = {groups: costs.seconds_of(groups, 64, 0) for groups in (1, 2)}
    for _ in range(200):
        costs.observe(64, 0, 1.5 * before[1])
    assert costs.seconds(64, 0) == pytest.approx(1.5 * before[1], rel=0.01)
    assert before[2] < costs.seconds_of(2, 64, 0) < 1.5 * before[2]
