"""Several pods at one directory, each with its shard: killed, started again in any order, and _SUCCESS is the last one's."""

from __future__ import annotations

import json
import math
import random
import signal

import pytest

from tests.faults.cases import answers, mixed_rows
from tests.faults.proof import Kept, check_collected

SHARDS = 3
_STARTS = 60


@pytest.mark.parametrize(
    "seed", [pytest.param(seed, marks=pytest.mark.slow if seed < 1 else pytest.mark.faults) for seed in range(12)]
)
def test_pods_killed_at_random_give_every_row_once(make_case, reference_of, seed):
    chosen = random.Random(seed)
    case = make_case(mixed_rows(30), results__partSize=chosen.choice(["4Ki", "256Mi"]))
    reference = reference_of(case)
    kept = Kept()
    running, ended, killed = {}, set(), 0
    for _ in range(_STARTS):
        for shard in set(range(SHARDS)) - running.keys() - ended:
            env = {"JOB_COMPLETION_INDEX": str(shard)}
            running[shard] = case.start({"env": env}, job__completions=SHARDS, batching__maxSequences=2)
        shard = chosen.choice(sorted(running))
        if killed < 6:
            code = running.pop(shard).kill_after(math.exp(chosen.uniform(math.log(0.005), math.log(0.5))))
        else:
            attempt = running.pop(shard)
            code = attempt.wait()
            assert code == 0, attempt.output
        kept.remember_folder(case.run_dir)
        killed += code == -signal.SIGKILL
        ended |= {shard} if code == 0 else set()
        if len(ended) == SHARDS:
            break
    assert len(ended) == SHARDS
    kept.check(case.run_dir)
    found = answers(case.run_dir)
    assert found == reference
    assert json.loads((case.run_dir / "_SUCCESS").read_bytes())["shards"] == SHARDS
    check_collected(case.run_dir, reference)
