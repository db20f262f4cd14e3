"""Two processes at one directory: one writes, the other is told so."""

from __future__ import annotations

import random
import time

import pytest

from tests.faults.cases import Case, bulky_rows, mixed_rows
from tests.faults.proof import Kept, check_whole

SLOW = {"decoding__ignoreEos": True, "batching__maxSequences": 2}


def wait_for_rows(case: Case, attempt) -> None:
    """Until the attempt has written some of its rows."""
    while not any(path.stat().st_size for path in case.run_dir.glob("part-*")):
        assert not attempt.ended(), attempt.output
        time.sleep(0.002)


@pytest.mark.slow
@pytest.mark.parametrize("setup", [{}, {"fresh": True}], ids=["start", "start --fresh"])
def test_a_second_writer_is_sent_away_and_the_first_goes_on_undisturbed(make_case, reference_of, setup):
    case = make_case(mixed_rows(80), results__partSize="4Ki", **SLOW)
    first = case.start()
    wait_for_rows(case, first)
    kept = Kept()
    kept.remember_folder(case.run_dir)
    second = case.run(setup)
    assert not first.ended(), "the first one was too fast for this test"
    assert second.wait() == 74
    assert "another process is writing" in second.output
    assert "remedy: wait for that run to end or stop it" in second.output
    assert first.wait() == 0, first.output
    kept.check(case.run_dir)
    check_whole(case.run_dir, reference_of(case))


@pytest.mark.parametrize(
    "seed", [pytest.param(seed, marks=pytest.mark.slow if seed < 1 else pytest.mark.faults) for seed in range(20)]
)
def test_of_three_starts_at_the_same_moment_one_writes_at_a_time(make_case, reference_of, seed):
    chosen = random.Random(seed)
    case = make_case(bulky_rows(12), dataset__answerField="answer", results__partSize="4Ki", batching__maxSequences=2)
    reference = reference_of(case)
    attempts = []
    for _ in range(3):
        attempts.append(case.start())
        time.sleep(chosen.choice([0, 0, chosen.uniform(0, 0.1)]))
    codes = [attempt.wait() for attempt in attempts]
    for code, attempt in zip(codes, attempts, strict=True):
        assert code in {0, 74}, attempt.output
        assert code == 0 or "another process is writing" in attempt.output, attempt.output
    assert 0 in codes
    check_whole(case.run_dir, reference)
