"""An adaptive k over whole runs on a device that is played: near the best fixed k, and never far below the target alone."""

import pytest
import torch

from specbatch.engine.speculation.adaptive_k import AdaptiveK
from specbatch.engine.speculation.controller import RoundReport
from tests.engine import device

MAX_K = 8
AS_GOOD = 0.97
TOO_SHORT = {(1, 0.95): 0.94}  # twenty rounds of a row: over before it is known that k = 8 is best
RATES = [0.3, 0.6, 0.8, 0.95]


def shares(slots, rate, lengths, runs):
    """Seconds of the best fixed k, and of the target alone, over those of auto."""
    largest = min(MAX_K, 1024 // slots - 1)
    fixed = [
        sum(device.Device(device.Fixed(k), slots, rate, lengths, seed).run() for seed in range(runs)) / runs
        for k in range(largest + 1)
    ]
    auto = 0.0
    for seed in range(2 * runs):
        controller = AdaptiveK(device.costs(slots), MAX_K, steady=True)
        auto += device.Device(controller, slots, rate, lengths, seed).run() / (2 * runs)
    return min(fixed) / auto, fixed[0] / auto


@pytest.mark.slow
@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("slots", [*(pytest.param(rows, marks=pytest.mark.slow) for rows in (1, 8, 32)), 128, 512])
def test_a_batch_of_short_rows_is_nearly_as_fast_as_at_the_best_k_and_as_the_target_alone(slots, rate):
    runs = 100 if (slots, rate) in TOO_SHORT else {1: 40, 8: 8}.get(slots, 4)
    of_best, of_plain = shares(slots, rate, [128] * slots, runs)
    assert of_best > TOO_SHORT.get((slots, rate), AS_GOOD)
    assert of_plain > AS_GOOD


@pytest.mark.slow
@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("slots", [1, 8, 32, 128, 512])
def test_a_stream_of_rows_is_nearly_as_fast_as_at_the_best_k_and_as_the_target_alone(slots, rate):
    rows = {1: 40, 8: 120}.get(slots, 12 * slots)
    lengths = torch.randint(64, 193, (rows,), generator=torch.Generator().manual_seed(0)).tolist()
    of_best, of_plain = shares(slots, rate, lengths, runs=1)
    assert of_best > AS_GOOD
    assert of_plain > AS_GOOD


@pytest.mark.slow
def test_a_stream_recovers_from_a_first_look_that_misled():
    """Few rows were unlucky at the start; the drafts of all that follow stand."""
    controller = AdaptiveK(device.costs(128), MAX_K, steady=True)
    lengths = torch.randint(64, 193, (2500,), generator=torch.Generator().manual_seed(0)).tolist()
    run = device.Device(controller, 128, 0.95, lengths)
    controller.observe(RoundReport(16, 2, device.seconds(16, 2), [16, 4], [4, 1], standing=112))
    assert run.run() < device.Device(device.Fixed(0), 128, 0.95, lengths).run()
    assert run.rounds[0] == (0, 128, 0)
    assert [k for k, _, _ in run.rounds[-200:]].count(0) < 10


@pytest.mark.parametrize("rate", [0.2, 0.5, 0.8])
@pytest.mark.parametrize(
    ("slots", "prompt", "new"),
    [
        (8, 2048, 128),
        (8, 8192, 128),
        (8, 16384, 128),
        (32, 2048, 256),
        (64, 4096, 256),
        (128, 2048, 128),
        (1, 8192, 128),
    ],
)
def test_long_prompts_are_never_taken_in_for_less_than_they_cost(slots, prompt, new, rate):
    """The drafter's prefill and its KV are in the price before it is asked: of all time, prefill of the target included, .97 at the least."""
    prefill = slots * prompt / 38_000
    alone = device.Device(device.Fixed(0), slots, rate, [new] * slots, prompt=prompt).run()
    controller = AdaptiveK(device.costs(slots), MAX_K, steady=True)
    auto = device.Device(controller, slots, rate, [new] * slots, prompt=prompt).run()
    assert (alone + prefill) / (auto + prefill) > AS_GOOD


@pytest.mark.slow
def test_a_job_that_has_learned_that_drafts_stand_asks_for_long_prompts_too():
    """One row after the other: at first its prompt is too dear to be taken in on the prior alone, and then it is not."""
    lengths = [256] * 120
    alone = device.Device(device.Fixed(0), 1, 0.9, lengths, prompt=4096).run()
    auto = device.Device(AdaptiveK(device.costs(1), MAX_K, steady=True), 1, 0.9, lengths, prompt=4096).run()
    assert auto < 0.8 * alone


@pytest.mark.slow
@pytest.mark.parametrize(("slots", "prompt"), [(1, 128), (1, 2048), (8, 128), (32, 128), (128, 128)])
def test_one_batch_of_bad_drafts_loses_little_whatever_the_luck(slots, prompt):
    """What is lost on asking has a bound: of a batch alone no draw of the drafts costs more than 4%, all of them 2.8% on average."""
    alone = device.Device(device.Fixed(0), slots, 0.2, [128] * slots, prompt=prompt).run()
    auto = [
        device.Device(
            AdaptiveK(device.costs(slots), MAX_K, steady=True), slots, 0.2, [128] * slots, seed, prompt=prompt
        ).run()
        for seed in range(10)
    ]
    assert alone / max(auto) > 0.96
    assert alone * len(auto) / sum(auto) > AS_GOOD
    if slots == 128:  # few rows are asked
        assert alone / max(auto) > 0.985
