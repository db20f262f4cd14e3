"""The number of groups follows the rounds as they are measured."""

import pytest

from specbatch.engine.pipeline import PipelineCosts, RoundTimes
from specbatch.engine.regrouping import _MOST_PATIENCE, _PATIENCE, Regrouping
from specbatch.engine.speculation.controller import RoundReport

MS = 1e-3
# Two H200, `separate`, 128 + 256 tokens: seconds of drafts and verification at warm-up.
H200 = {
    (256, 0): RoundTimes((0.0,), (8.25 * MS,)),
    (256, 2): RoundTimes((8.37 * MS,), (18.09 * MS,)),
    (128, 0): RoundTimes((0.0,), (6.19 * MS,)),
    (128, 2): RoundTimes((5.75 * MS,), (10.05 * MS,)),
}
IN_A_RUN = {(1, 0): 9.97 * MS, (1, 2): 26.3 * MS, (2, 0): 7.4 * MS, (2, 2): 11.36 * MS}  # a round, by groups and k


def watched(groups, *, adaptive=True):
    return Regrouping(PipelineCosts(H200, [128, 256], groups, 2, adaptive=adaptive))


def run(watch, k, rounds=_PATIENCE, slower=1.0):
    """So many rounds of 256 rows in all, of which a draft stands with chance .8; returns the groups wanted afterwards."""
    now = watch.costs.groups
    rows = 256 // now
    stands = [round(rows * 0.8 ** (j + 1)) for j in range(k)]
    report = RoundReport(rows, k, slower * IN_A_RUN[now, k], [rows, *stands][:k], stands, verified=k)
    for _ in range(rounds):
        watch.observe(report)
    return watch.groups(256)


def test_a_number_of_groups_that_gives_less_than_another_is_left():
    watch = watched(1, adaptive=False)
    assert run(watch, 2, _PATIENCE - 1) == 1  # not at once
    assert run(watch, 2, 1) == 2
    watch.regrouped(2)
    assert run(watch, 2) == 2  # and it stays


def test_plain_rounds_that_are_slower_than_at_warm_up_lead_to_the_groups_that_are_faster():
    """As on H200s: 256 plain rows every 9.97 ms, 8.25 at warm-up; or 128 rows that gain 2.44 tokens every 11.36."""
    assert run(watched(2), 2) == 2
    plain = watched(1)
    few = RoundReport(16, 2, 12 * MS, [16, 13], [13, 10], verified=2)  # to know the drafts
    for _ in range(20):
        plain.acceptance.observe(few.proposed_at, few.accepted_at)
    assert run(plain, 0, 3 * _PATIENCE) == 2  # the better one by 7%, so it is tried
    plain.regrouped(2)
    assert run(plain, 2, 3 * _PATIENCE) == 2


def test_a_change_that_is_taken_back_makes_the_next_one_later():
    watch = watched(1, adaptive=False)
    assert run(watch, 2) == 2
    watch.regrouped(2)
    assert run(watch, 2, slower=4.0) == 1  # much slower than thought
    watch.regrouped(1)
    assert run(watch, 2, _PATIENCE) == 1
    for _ in range(20):
        watch.regrouped(2)
        watch.regrouped(1)
    assert watch._patience == _MOST_PATIENCE


@pytest.mark.parametrize("rows", [0, 1])
def test_groups_are_no_more_than_rows(rows):
    watch = watched(2, adaptive=False)
    for _ in range(_PATIENCE):
        watch.observe(RoundReport(1, 2, 12 * MS, [1, 1], [1, 1], verified=2))
    assert watch.groups(rows) == (2 if rows == 0 else 1)
