"""The number of shards changes between attempts, and pods of either split die at any moment: every row ends once."""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import signal

import pytest

from specbatch.results.splits import decode_splits
from tests.faults.cases import BULKY, Case, answers, bulky_rows, mixed_rows
from tests.faults.disk import real_tree, write_tree
from tests.faults.layer import Report
from tests.faults.proof import Kept, check_collected
from tests.zygote import Attempt


def start(case: Case, shard: int, shards: int, **setup) -> Attempt:
    env = {"JOB_COMPLETION_INDEX": str(shard)}
    return case.start({"env": env, **setup}, job__completions=shards, batching__maxSequences=2)


def end(case: Case, shards: int) -> None:
    """Runs a split to its end, all pods at once."""
    attempts = [start(case, shard, shards) for shard in range(shards)]
    for attempt in attempts:
        assert attempt.wait() == 0, attempt.output


def check(case: Case, reference, shards: int) -> None:
    assert answers(case.run_dir) == reference, "each row once, as in the undisturbed run of one shard"
    success = json.loads((case.run_dir / "_SUCCESS").read_bytes())
    assert success["shards"] == shards
    assert success["results"] + success["errors"] == len(reference)
    check_collected(case.run_dir, reference)


@pytest.mark.parametrize(
    "seed", [pytest.param(seed, marks=pytest.mark.slow if seed < 2 else pytest.mark.faults) for seed in range(24)]
)
def test_pods_of_changing_splits_killed_at_random_give_every_row_once(make_case, reference_of, seed):
    """Half of the time the pods of the old split are still there when the new one comes: they are told from each other."""
    chosen = random.Random(seed)
    case = make_case(mixed_rows(30), results__partSize=chosen.choice(["4Ki", "256Mi"]))
    reference = reference_of(case)
    kept = Kept()
    running: list[Attempt] = []
    splits = [chosen.choice([1, 2, 3, 5]) for _ in range(4)]
    for shards in splits:
        running += [
            start(case, shard, shards) for shard in chosen.sample(range(shards), chosen.randint(1, min(3, shards)))
        ]
        left = []
        for attempt in running:
            if chosen.random() < 0.3:
                left.append(attempt)
                continue
            code = attempt.kill_after(math.exp(chosen.uniform(math.log(0.05), math.log(2.0))))
            assert code in {0, 74, -signal.SIGKILL}, attempt.output
            assert code != 74 or "is writing" in attempt.output, attempt.output
        running = left
        kept.remember_folder(case.run_dir)
    for attempt in running:
        assert attempt.wait() in {0, 74}, attempt.output
    end(case, shards := chosen.choice([1, 2, 4]))
    kept.check(case.run_dir)
    check(case, reference, shards)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param(2, 3, marks=pytest.mark.slow),
        pytest.param(3, 2, marks=pytest.mark.faults),
        pytest.param(1, 2, marks=pytest.mark.faults),
    ],
)
def test_a_kill_or_power_cut_at_every_boundary_of_the_change_loses_and_doubles_nothing(
    make_case, reference_of, request, old, new
):
    case = make_case(bulky_rows(9), **BULKY, results__fsyncRows=3)
    reference = reference_of(case)
    thorough = request.node.get_closest_marker("faults") is not None
    attempts = [start(case, shard, old) for shard in range(old)]
    for attempt in attempts[1:]:
        assert attempt.wait() == 0, attempt.output
    attempts[0].kill_after(0.6)
    newest = max(case.run_dir.glob("part-*"))
    newest.write_bytes(newest.read_bytes() + b'{"id": "r3", "index": 3, "text"')
    begin, dump = real_tree(case.disk), case.folder / "dump"
    faults = {"root": str(case.disk), "dump": str(dump)}
    undisturbed = start(case, 0, new, faults=faults)
    assert undisturbed.wait() == 0, undisturbed.output
    calls = Report.read(dump).calls
    for at in range(1, len(calls) + 1, 1 if thorough else 9):
        write_tree(case.disk, begin)
        how = random.Random(at).choice(["before", "middle", "after"])
        start(case, 0, new, faults={**faults, "at": at, "how": how}).wait()
        report = Report.read(dump)
        states = [("killed", report.disk.tree()), *report.disk.power_cuts(random.Random(at))]
        for what, tree in states if thorough else states[:: len(states) - 1]:
            print(f"{what} {how} call {at}: {report.calls[-1]}")
            write_tree(case.disk, tree)
            end(case, new)
            check(case, reference, new)


@pytest.mark.slow
def test_a_live_writer_of_the_old_split_keeps_the_new_one_out_until_it_is_gone(make_case, reference_of):
    case = make_case(mixed_rows(30))
    reference = reference_of(case)
    old = start(case, 1, 3)
    while not list(case.run_dir.glob("part-00001-of-00003.jsonl")):
        assert not old.ended(0.01), old.output
    old.signal(signal.SIGSTOP)
    new = start(case, 0, 2)
    assert new.wait() == 74
    assert "another process is writing shard 1 of the run as it is split into 3" in new.output
    assert not list(case.run_dir.glob("*-of-00002.json*"))
    old.signal(signal.SIGKILL)
    old.signal(signal.SIGCONT)
    end(case, 2)
    check(case, reference, 2)
    assert decode_splits((case.run_dir / "splits.jsonl").read_bytes()) == (3, 2)


@pytest.mark.parametrize(
    "seed", [pytest.param(seed, marks=pytest.mark.slow if seed < 1 else pytest.mark.faults) for seed in range(8)]
)
def test_pods_with_a_volume_each_that_is_lost_with_them_publish_the_whole_run(make_case, reference_of, seed):
    chosen = random.Random(seed)
    case = make_case(mixed_rows(24), results__partSize="4Ki", results__publishSeconds=1)
    case.changes["results__publish"] = f"file://{case.bucket.parent}/"
    reference = reference_of(make_case(mixed_rows(24)))

    def pod(shard: int, shards: int) -> Attempt:
        folder = case.disk / f"volume-{os.urandom(4).hex()}"
        env = {"JOB_COMPLETION_INDEX": str(shard)}
        return case.start({"env": env}, job__completions=shards, results__dir=str(folder), batching__maxSequences=2)

    for shards in [chosen.choice([1, 2, 3]) for _ in range(3)]:
        attempts = [pod(shard, shards) for shard in range(shards)]
        for attempt in attempts:
            attempt.kill_after(math.exp(chosen.uniform(math.log(0.5), math.log(3.0))))
    shards = chosen.choice([1, 2, 4])
    for attempt in [pod(shard, shards) for shard in range(shards)]:
        assert attempt.wait() == 0, attempt.output
    for folder in case.disk.glob("volume-*"):
        shutil.rmtree(folder)
    found = answers(case.bucket)
    assert {index: values[0] for index, values in found.items()} == {
        index: values[0] for index, values in reference.items()
    }
    assert json.loads((case.bucket / "_SUCCESS").read_bytes())["shards"] == shards
    check_collected(case.bucket, reference)
