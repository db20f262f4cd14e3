"""kill -9 at a random moment, again and again, until the run ends by itself."""

from __future__ import annotations

import math
import random
import signal

import pytest

from tests.faults.cases import mixed_rows
from tests.faults.proof import Kept, check_tidy, check_whole

KILLS = 5  # a run
RUNS = 40
_LONGEST = 60  # starts a run


@pytest.mark.parametrize(
    "seed", [pytest.param(seed, marks=pytest.mark.slow if seed < 4 else pytest.mark.faults) for seed in range(RUNS)]
)
def test_a_run_killed_five_times_at_random_ends_with_every_row_once(make_case, reference_of, seed):
    chosen = random.Random(seed)
    report = {"results__report": True} if seed % 10 == 5 else {}
    case = make_case(mixed_rows(40), results__fsyncRows=chosen.choice([1, 3, 100]), **report)
    reference = reference_of(case)
    kept = Kept()
    killed = 0
    for _ in range(_LONGEST):
        changes = {
            "batching__maxSequences": chosen.choice([1, 4, 7]),
            "placement__cpuThreads": chosen.choice([1, 1, 2]),
            "results__partSize": chosen.choice(["4Ki", "6Ki", "1Mi"] if seed % 2 else ["256Mi"]),
        }
        attempt = case.start(**changes)
        if killed < KILLS:
            longest = 2.5 if report else 0.5
            code = attempt.kill_after(math.exp(chosen.uniform(math.log(0.001), math.log(longest))))
        else:
            code = attempt.wait()
        if code == -signal.SIGKILL:
            killed += 1
            kept.remember_folder(case.run_dir)
            continue
        assert code == 0, attempt.output
        kept.check(case.run_dir)
        check_whole(case.run_dir, reference)
        check_tidy(case.run_dir)
        if killed >= KILLS:
            return
    pytest.fail("the run came to no end")
