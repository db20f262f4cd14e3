"""Started again with something changed: what changes no text may change, anything else is refused with what differs."""

from __future__ import annotations

import json
import signal

import pytest

from tests.faults.cases import BULKY, bulky_rows, mixed_rows
from tests.faults.proof import Kept, check_whole
from tests.runner.tiny import write_rows

pytestmark = pytest.mark.slow


@pytest.fixture
def half_done(make_case):
    """A run that was killed after some rows."""
    case = make_case(bulky_rows(9), **BULKY)
    dump = case.folder / "dump"
    assert case.run({"faults": {"root": str(case.disk), "dump": str(dump), "at": 34, "how": "after"}}).wait() == -9
    assert next(case.run_dir.glob("part-*")).stat().st_size
    return case


@pytest.mark.parametrize(
    "changes",
    [
        {"batching__maxSequences": 1},
        {"batching__maxSequences": 9},
        {"placement__cpuThreads": 2},
        {"results__partSize": "256Mi"},
        {"results__fsyncRows": 1, "results__fsyncSeconds": 0.01},
        {"dataset__errorBudget": 50},
    ],
    ids=str,
)
def test_what_changes_no_text_may_be_changed(half_done, reference_of, changes):
    kept = Kept()
    kept.remember_folder(half_done.run_dir)
    attempt = half_done.run(**changes)
    assert attempt.wait() == 0, attempt.output
    kept.check(half_done.run_dir)
    check_whole(half_done.run_dir, reference_of(half_done))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"decoding__seed": 7}, "decoding.seed: 0 -> 7"),
        ({"decoding__maxNewTokens": 5}, "decoding.maxNewTokens: 12 -> 5"),
        ({"batching__maxLength": 100}, "batching.maxLength: 128 -> 100"),
        ({"dataset__limit": 3}, "dataset.limit: null -> 3"),
        ({"drafter": {"method": "ngram"}}, "drafter.method: "),
        ({"target__dtype": "bfloat16"}, "target.dtype: "),
    ],
    ids=str,
)
def test_another_run_is_refused_with_what_differs(half_done, reference_of, changes, said):
    refuse(half_done, said, **changes)
    assert half_done.run().wait() == 0
    check_whole(half_done.run_dir, reference_of(half_done))


def refuse(case, said: str, **changes) -> None:
    """A start is refused, and nothing is touched."""
    before = {path: path.read_bytes() for path in case.run_dir.iterdir()}
    attempt = case.run(**changes)
    assert attempt.wait() == 64, attempt.output
    assert said in attempt.output
    assert "--fresh" in attempt.output
    assert "set another results." in attempt.output
    assert "Traceback" not in attempt.output
    assert {path: path.read_bytes() for path in case.run_dir.iterdir()} == before


def test_a_dataset_that_has_grown_is_refused(half_done, reference_of):
    reference = reference_of(half_done)
    write_rows(half_done.dataset, [*half_done.rows, {"id": "new", "prompt": "new"}])
    refuse(half_done, "dataset content: ")
    write_rows(half_done.dataset, half_done.rows)
    assert half_done.run().wait() == 0
    check_whole(half_done.run_dir, reference)


def test_a_dataset_with_another_first_row_of_the_same_length_is_refused(half_done):
    write_rows(half_done.dataset, [{**half_done.rows[0], "prompt": "teh 0"}, *half_done.rows[1:]])
    refuse(half_done, "dataset content: ")


def test_a_model_with_other_weights_is_refused(half_done, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    for path in half_done.zygote.pair[0].iterdir():
        data = bytearray(path.read_bytes())
        if path.suffix == ".safetensors":
            data[-1] ^= 1
        (other / path.name).write_bytes(data)
    refuse(half_done, "target.model: ", target__model=str(other))


@pytest.mark.parametrize("part_size", ["4Ki", "256Mi"])
def test_a_clock_that_jumps_changes_nothing(make_case, reference_of, part_size):
    case = make_case(mixed_rows(30), results__partSize=part_size, results__report=True)
    reference = reference_of(case)
    year = 365 * 86400.0
    jumps = [[0.02, 10 * year], [0.05, -30 * year], [0.1, -20 * year], [0.15, 45 * year]]
    kept = Kept()
    for seconds in (0.06, 0.12, 0.18):
        attempt = case.start({"clock": jumps})
        assert attempt.kill_after(seconds) in {-signal.SIGKILL, 0}
        kept.remember_folder(case.run_dir)
    attempt = case.run({"clock": jumps})
    assert attempt.wait() == 0, attempt.output
    kept.check(case.run_dir)
    check_whole(case.run_dir, reference)
    manifest = json.loads((case.run_dir / "manifest-00000-of-00001.json").read_bytes())
    assert all(one["summary"]["seconds"] >= 0 for one in manifest["attempts"])
    assert (case.run_dir / "report.html").stat().st_size > 1000
