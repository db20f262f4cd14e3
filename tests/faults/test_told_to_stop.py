"""SIGTERM at any moment: exit 75 in time, everything finished saved, and the next start ends the run."""

from __future__ import annotations

import json
import math
import random
import signal
import time

import pytest

from tests.faults.cases import mixed_rows
from tests.faults.disk import real_tree
from tests.faults.proof import Kept, check_whole, row_files
from tests.faults.scenes import slices
from tests.faults.test_boundaries import rows_not_safe

GRACE = 20  # seconds; Kubernetes grants 30


@pytest.mark.parametrize(("name", "chosen"), slices(37, 3, "from the start", "goes on", "with a report", "publishing"))
def test_at_every_boundary_it_ends_in_order(make_scene, reference_of, name, chosen):
    scene = make_scene(name)
    reference = reference_of(scene.case)
    for at in scene.numbers()[chosen]:
        print(f"told before call {at}: {scene.calls[at - 1]}")
        began = time.monotonic()
        code, report = scene.attempt(at=at, how="told")
        assert time.monotonic() - began < GRACE
        output = scene.last.output
        assert code in {0, 75}, output
        assert rows_not_safe(report) == {"part": 0, "errors": 0}
        assert "Traceback" not in output, output
        if code == 75:
            assert "told to stop" in output
            assert "start the same command again" in output
        else:
            check_whole(scene.case.run_dir, reference)
        kept = Kept()
        kept.remember_folder(scene.case.run_dir)
        scene.check_that_it_ends(real_tree(scene.case.disk), kept, reference)


@pytest.mark.parametrize(
    "seed", [pytest.param(seed, marks=pytest.mark.slow if seed < 1 else pytest.mark.faults) for seed in range(20)]
)
def test_at_random_moments_everything_that_was_finished_is_saved(make_case, reference_of, seed):
    chosen = random.Random(seed)
    case = make_case(mixed_rows(40), results__partSize=chosen.choice(["4Ki", "256Mi"]))
    reference = reference_of(case)
    kept = Kept()
    for _ in range(5):
        attempt = case.start(batching__maxSequences=chosen.choice([2, 5]))
        attempt.ended(math.exp(chosen.uniform(math.log(0.001), math.log(0.4))))
        attempt.signal(signal.SIGTERM)
        told = time.monotonic()
        code = attempt.wait()
        assert time.monotonic() - told < GRACE
        assert code in {0, 75, -signal.SIGTERM}, attempt.output  # the last one: before the run had begun
        kept.remember_folder(case.run_dir)
        if code == 75:
            check_what_is_saved(case.run_dir, attempt.output)
    assert case.run().wait() == 0
    kept.check(case.run_dir)
    check_whole(case.run_dir, reference)


def check_what_is_saved(run_dir, output) -> None:
    """Files hold what the display has shown, and the manifest says what they hold."""
    shown = [json.loads(line) for line in output.splitlines() if line.startswith('{"event": "progress"')]
    if not shown:
        return  # told while opening
    manifest = json.loads((run_dir / "manifest-00000-of-00001.json").read_bytes())
    lines = {path.name: path.read_bytes().count(b"\n") for path in row_files(run_dir)}
    assert sum(lines.values()) >= shown[-1]["rows"]
    assert {entry["name"]: entry["rows"] for entry in manifest["files"] if entry["rows"]} == {
        name: rows for name, rows in lines.items() if rows
    }
    assert not manifest["complete"]
    assert manifest["attempts"][-1]["outcome"] == "stopped"
