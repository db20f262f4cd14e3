"""Dead, or without power, before, in the middle of, and after every single call that changes a file: then started again."""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator, Sequence

import pytest

from tests.faults.disk import Tree, real_tree, write_tree
from tests.faults.layer import Report
from tests.faults.proof import Kept
from tests.faults.scenes import FSYNC_ROWS, Scene, slices


def ways(scene: Scene, numbers: Sequence[int]) -> Iterator[tuple[int, str]]:
    """Every boundary among these calls: before and after each, in the middle of writes."""
    for at in numbers:
        for how in ("before", "middle", "after"):
            if how != "middle" or scene.calls[at - 1].startswith("write"):
                yield at, how


def kept_of(report: Report, *, power_cut: bool) -> Kept:
    """The finished rows that must be there after this: all that were written, or all that were safe."""
    kept = Kept()
    for path, node in (report.disk.safe if power_cut else report.disk.now).items():
        if path.endswith(".jsonl"):
            kept.remember(path.rpartition("/")[2], node.safe if power_cut else node.last)
    return kept


def rows_not_safe(report: Report) -> dict[str, int]:
    """Kind of rows -> how many of them a power cut would take."""
    found = {"part": 0, "errors": 0}
    for path, node in report.disk.now.items():
        kind = path.rpartition("/")[2].partition("-")[0]
        if kind in found and path.startswith("results/"):
            safe = report.disk.safe[path].safe if path in report.disk.safe else b""
            found[kind] += node.last.count(b"\n") - safe.count(b"\n")
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", ["from the start", "goes on", "with a report", "afresh", "publishing"])
def test_no_call_goes_past_the_layer_and_a_run_that_has_ended_is_safe(make_scene, reference_of, name):
    scene = make_scene(name)
    code, report = scene.attempt()
    assert code == 0
    assert len(report.calls) > 20
    assert report.disk.tree() == real_tree(scene.case.disk)
    for what, tree in report.disk.power_cuts(random.Random(0)):
        print(what)
        write_tree(scene.case.disk, tree)
        scene.check(reference_of(scene.case))


@pytest.mark.parametrize(
    ("name", "chosen"),
    [
        *slices(37, 12, "from the start", "goes on", "publishing"),
        *slices(37, 4, "afresh")[1:],
        *slices(37, 2, "with a report")[1:],
    ],
)
def test_a_kill_or_power_cut_at_every_boundary_loses_and_doubles_nothing(
    make_scene, reference_of, name, chosen, record_property
):
    scene = make_scene(name)
    reference = reference_of(scene.case)
    tried = reached = 0
    done: set[int] = set()
    for at, how in ways(scene, scene.numbers()[chosen]):
        code, report = scene.attempt(at=at, how=how)
        assert code in {-signal.SIGKILL, 0}, scene.last.output
        tried += 1
        reached += code == -signal.SIGKILL
        print(f"{how} call {at} of {len(scene.calls)}: {report.calls[-1]}")  # shown where what follows fails
        assert max(rows_not_safe(report).values()) <= FSYNC_ROWS
        for what, tree in [("killed", report.disk.tree()), *report.disk.power_cuts(random.Random(at))]:
            scene.check_word(tree, reference)
            if (state := state_of(what, tree)) not in done:
                done.add(state)
                print(what)
                scene.check_that_it_ends(tree, kept_of(report, power_cut=what != "killed"), reference)
    record_property("boundaries", tried)
    record_property("reached", reached)
    record_property("states", len(done))


def state_of(what: str, tree: Tree) -> int:
    """Equal for equal states, whose start would be the same again; what manifest and progress say of times does not count."""
    files = {
        path: data for path, data in tree.items() if not any(word in path for word in ("progress", "manifest", ".png"))
    }
    return hash((what == "killed", frozenset(files.items()), frozenset(tree)))


@pytest.mark.parametrize(
    "seed", [pytest.param(seed, marks=pytest.mark.slow if seed == 2 else pytest.mark.faults) for seed in range(40)]
)
def test_a_power_cut_after_a_kill_and_a_restart_loses_nothing_that_was_said_to_be_safe(make_scene, reference_of, seed):
    chosen = random.Random(seed)
    scene = make_scene(["from the start", "goes on"][seed % 2])
    reference = reference_of(scene.case)
    scene.attempt(at=chosen.randint(1, len(scene.calls)), how=chosen.choice(["before", "middle", "after"]))
    # The machine went on: what the first attempt had not synced is there, and still not safe.
    earlier = scene.dump.rename(scene.dump.with_suffix(".earlier"))
    at = chosen.choice([0, chosen.randint(1, 20), chosen.randint(1, 40)])
    code, report = scene.go_on(disk=str(earlier), at=at, how=chosen.choice(["before", "middle", "after"]))
    assert max(rows_not_safe(report).values()) <= FSYNC_ROWS
    for what, tree in report.disk.power_cuts(chosen):
        print(what)
        if code == 0:
            write_tree(scene.case.disk, tree)
            scene.check(reference)
        scene.check_that_it_ends(tree, kept_of(report, power_cut=True), reference)


@pytest.mark.parametrize(
    "part", [pytest.param(part, marks=pytest.mark.slow if part == 0 else pytest.mark.faults) for part in range(6)]
)
def test_a_volume_that_is_lost_at_any_boundary_comes_back_from_where_it_was_published(make_scene, reference_of, part):
    scene = make_scene("publishing")
    reference = reference_of(scene.case)
    numbers = scene.numbers()[5::40] if part == 0 else scene.numbers()[part - 1 :: 5]
    for at in numbers:
        scene.attempt(at=at)
        print(f"lost before call {at}: {scene.calls[at - 1]}")
        tree = {path: data for path, data in real_tree(scene.case.disk).items() if not path.startswith("results")}
        published = {path: data for path, data in tree.items() if path.endswith(".jsonl")}
        write_tree(scene.case.disk, tree)
        code, _ = scene.go_on()
        assert code == 0, scene.last.output
        scene.check_published(reference)
        now = real_tree(scene.case.disk)
        assert {path: now[path] for path in published} == published, "what was published has changed"
