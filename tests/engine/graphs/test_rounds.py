"""What the host reads of rounds over several lanes: their seconds, and how busy each device was."""

import pytest
import torch

from specbatch.engine.graphs.lanes import Lane
from specbatch.engine.graphs.rounds import BusyLanes, RoundOverLanes, Spans
from specbatch.engine.stats import EngineStats

OUTCOME = torch.tensor([[1, 2, 3, 7, 8, 9]])  # one of two drafts accepted, all three positions finite
GPUS = [torch.device("cuda", 0), torch.device("cuda", 0), torch.device("cuda", 1)]
FIRST, SECOND, DRAFTER = (Lane(device, number) for number, device in enumerate(GPUS))


def round_of(before, finished, spans=None, *, steady=True, prefills=()):
    busy = BusyLanes(dict.fromkeys([FIRST, SECOND, DRAFTER], 0.0))
    return RoundOverLanes(OUTCOME, before, finished, list(prefills), 0.25, spans, busy, steady)


def timed():
    return Spans(
        of_drafter=[(DRAFTER, 0.0, 2.0), (DRAFTER, 2.0, 3.0)], of_target=[(FIRST, 3.0, 7.0), (SECOND, 7.0, 8.0)]
    )


def test_a_round_takes_what_lies_between_its_end_and_that_of_the_round_before():
    output = round_of(10.0, 14.0).wait()
    assert (output.draft_seconds, output.verify_seconds) == (1.0, 3.0)  # as warm-up divides them
    assert output.tokens == [[7, 8]]
    assert not output.busy_seconds


def test_a_round_that_is_timed_lane_by_lane_takes_no_longer_than_it_would_alone():
    output = round_of(10.0, 30.0, timed(), steady=False).wait()
    assert output.seconds == pytest.approx(8.0)  # not the pause before it
    assert output.draft_seconds == pytest.approx(3.0)
    assert not output.busy_seconds


def test_prefill_in_between_is_not_the_rounds_but_a_catch_up_on_a_lane_of_its_own_is_beside_it():
    output = round_of(10.0, 16.0, prefills=[(10.0, 12.0, False), (10.0, 11.0, True)]).wait()
    assert output.seconds == pytest.approx(4.0)
    assert (output.prefill_seconds, output.catch_up_seconds) == (3.0, 1.0)


def test_the_busy_share_of_a_device_is_that_of_its_lanes_together():
    stats = EngineStats()
    for _ in range(3):
        stats.count_seconds(round_of(10.0, 16.0, timed()).wait())
    stats.count_seconds(round_of(16.0, 20.0).wait())  # not timed: counts for no device
    assert stats.device_busy == pytest.approx({"cuda:0": 5 / 6, "cuda:1": 3 / 6})
    assert stats.device_sampled_seconds == {"cuda:0": 18.0, "cuda:1": 18.0}
