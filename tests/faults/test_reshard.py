"""A run is resharded between attempts, and pods of either split and the reshard itself die at any moment: every row ends once."""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import signal
from pathlib import Path

import pytest

from specbatch.results.splits import decode_splits
from tests.faults.cases import BULKY, Case, answer, answers, bulky_rows, mixed_rows
from tests.faults.disk import real_tree, write_tree
from tests.faults.layer import Report
from tests.faults.proof import check_collected
from tests.zygote import Attempt


def start(case: Case, shard: int, shards: int, **setup) -> Attempt:
    env = {"JOB_COMPLETION_INDEX": str(shard)}
    return case.start({"env": env, **setup}, job__completions=shards, batching__maxSequences=2)


def reshard(case: Case, shards: int, *, place: Path | None = None, **setup) -> Attempt:
    command = [str(place or case.run_dir), "--completions", str(shards), "--tmp", str(case.folder)]
    return case.start({"reshard": command, **setup})


def split_of(folder: Path) -> int:
    return decode_splits((folder / "splits.jsonl").read_bytes())[-1]


def reshard_to_end(case: Case, shards: int) -> int:
    """Nobody disturbs it. Returns how many shards the run then has: a complete one keeps its own."""
    done = reshard(case, shards)
    if done.wait() == 0:
        return shards
    assert "the run is complete" in done.output, done.output
    there = split_of(case.run_dir)
    done = reshard(case, there)
    assert done.wait() == 0, done.output
    return there


def finished(case: Case) -> dict[int, dict]:
    """index -> what the whole lines of part and errors files say of the row."""
    paths = [*case.run_dir.glob("part-*.jsonl"), *case.run_dir.glob("errors-*.jsonl")]
    return dict(answer(line) for path in paths for line in path.read_bytes().split(b"\n")[:-1])


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


def some_time(chosen: random.Random, shortest: float, longest: float) -> float:
    return math.exp(chosen.uniform(math.log(shortest), math.log(longest)))


@pytest.mark.parametrize(
    "seed", [pytest.param(seed, marks=pytest.mark.slow if seed < 2 else pytest.mark.faults) for seed in range(24)]
)
def test_pods_and_reshards_killed_at_random_give_every_row_once(make_case, reference_of, seed):
    """Pods of two splits and a reshard are there at once: all but those of one split are refused or killed."""
    chosen = random.Random(seed)
    case = make_case(mixed_rows(30), results__partSize=chosen.choice(["4Ki", "256Mi"]))
    reference = reference_of(case)
    assert start(case, 0, 3).kill_after(some_time(chosen, 0.8, 2.0)) in {0, -signal.SIGKILL}
    running: list[Attempt] = []
    for shards in [chosen.choice([1, 2, 3, 5]) for _ in range(4)]:
        if (case.run_dir / "splits.jsonl").exists():
            change = reshard(case, shards)
            assert change.kill_after(some_time(chosen, 0.01, 3.0)) in {0, 74, -signal.SIGKILL}, change.output
        running += [
            start(case, shard, shards) for shard in chosen.sample(range(shards), chosen.randint(1, min(3, shards)))
        ]
        left = []
        for attempt in running:
            if chosen.random() < 0.3:
                left.append(attempt)
                continue
            code = attempt.kill_after(some_time(chosen, 0.05, 2.0))
            assert code in {0, 64, 74, -signal.SIGKILL}, attempt.output
            assert code != 64 or "split into" in attempt.output, attempt.output
        running = left
    for attempt in running:
        assert attempt.wait() in {0, 64, 74}, attempt.output
    before = finished(case)
    shards = reshard_to_end(case, chosen.choice([1, 2, 4]))
    assert finished(case) == before
    end(case, shards)
    check(case, reference, shards)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param(2, 3, marks=pytest.mark.slow),
        pytest.param(3, 2, marks=pytest.mark.faults),
        pytest.param(1, 2, marks=pytest.mark.faults),
    ],
)
def test_a_kill_or_power_cut_at_every_boundary_of_a_reshard_loses_and_doubles_nothing(
    make_case, reference_of, request, old, new
):
    case = make_case(bulky_rows(9), **BULKY, results__fsyncRows=3)
    reference = reference_of(case)
    thorough = request.node.get_closest_marker("faults") is not None
    attempts = [start(case, shard, old) for shard in range(old)]
    for attempt in attempts[1:]:
        assert attempt.wait() == 0, attempt.output
    attempts[0].kill_after(0.6)
    newest = max(case.run_dir.glob("part-00000-*"))
    newest.write_bytes(newest.read_bytes() + b'{"id": "r3", "index": 3, "text"')
    (case.run_dir / f"manifest-00000-of-{old:05d}.json").unlink(missing_ok=True)
    (case.run_dir / "_SUCCESS").unlink(missing_ok=True)
    before = finished(case)
    begin, dump = real_tree(case.disk), case.folder / "dump"
    faults = {"root": str(case.disk), "dump": str(dump)}
    undisturbed = reshard(case, new, faults=faults)
    assert undisturbed.wait() == 0, undisturbed.output
    calls = Report.read(dump).calls
    for at in range(1, len(calls) + 1, 1 if thorough else 9):
        write_tree(case.disk, begin)
        how = random.Random(at).choice(["before", "middle", "after"])
        reshard(case, new, faults={**faults, "at": at, "how": how}).wait()
        report = Report.read(dump)
        states = [("killed", report.disk.tree()), *report.disk.power_cuts(random.Random(at))]
        for what, tree in states if thorough else states[:: len(states) - 1]:
            print(f"{what} {how} call {at}: {report.calls[-1]}")
            write_tree(case.disk, tree)
            if at % 2:  # otherwise pods of the split that counts go on first
                start(case, 0, split_of(case.run_dir)).wait()
            shards = reshard_to_end(case, new)
            assert before.items() <= finished(case).items()
            end(case, shards)
            check(case, reference, shards)


@pytest.mark.slow
def test_a_live_writer_keeps_a_reshard_out_until_it_is_gone(make_case, reference_of):
    case = make_case(mixed_rows(30))
    reference = reference_of(case)
    old = start(case, 1, 3)
    while not list(case.run_dir.glob("part-00001-of-00003.jsonl")):
        assert not old.ended(0.01), old.output
    old.signal(signal.SIGSTOP)
    refused, other = reshard(case, 2), start(case, 0, 2)
    assert (refused.wait(), other.wait()) == (74, 64)
    assert "another process is writing shard 1 of this run, which is split into 3" in refused.output
    assert "split into 3 shards, and this process is one of 2" in other.output
    assert not list(case.run_dir.glob("*-of-00002.json*"))
    old.signal(signal.SIGKILL)
    old.signal(signal.SIGCONT)
    assert old.wait() == -signal.SIGKILL
    assert reshard(case, 2).wait() == 0
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

    shards = 3
    for new in [chosen.choice([1, 2, 4]) for _ in range(3)]:
        attempts = [pod(shard, shards) for shard in range(shards)]
        for attempt in attempts:
            attempt.kill_after(some_time(chosen, 0.5, 3.0))
        if (case.bucket / "splits.jsonl").exists():
            reshard(case, new, place=case.bucket).kill_after(some_time(chosen, 0.05, 3.0))
            done = reshard(case, new, place=case.bucket)
            if done.wait() != 0:
                assert "the run is complete" in done.output, done.output
            shards = split_of(case.bucket)
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
