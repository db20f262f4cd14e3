"""What a run's rounds took, for the plan."""

import pytest

from specbatch.results.hardware import Hardware
from specbatch.results.report.step_times import measured_rounds
from specbatch.results.storage.folder import Folder
from specbatch.results.summary import RunSummary
from tests.results.builders import finish_run, make_row

MODELS = {"target": "embedded:target", "drafter": "embedded:drafter"}
H200 = Hardware(gpus={"NVIDIA H200": 2}, gpu_bytes={"NVIDIA H200": 150 * 10**9})
MEASURED = {
    "prompt_tokens": 700,
    "completion_tokens": 600,
    "seconds": 2.0,
    "rounds": 100,
    "row_rounds": 2400,
    "drafted": 4800,
    "accepted": 3000,
    "drafted_by_position": (2400, 2400),
    "accepted_by_position": (1800, 1200),
    "phase_seconds": {"prefill": 0.5, "draft": 0.4, "verify": 0.5, "accept": 0.1, "host": 0.5},
}


def found(run_dir, hardware=H200, env=None, models=MODELS, **changes):
    finish_run(
        run_dir,
        [make_row(0), make_row(1)],
        summary=RunSummary(**(MEASURED | changes)),
        hardware=hardware,
        env=env or {},
    )
    return measured_rounds(Folder(run_dir), models)


def test_the_mean_round_is_that_of_the_manifest(run_dir):
    rounds = found(run_dir)
    assert (rounds.rows, rounds.drafts, rounds.acceptance) == (24, 2, 0.75)
    assert (rounds.draft_seconds, rounds.verify_seconds) == pytest.approx((0.004, 0.006))
    assert rounds.prefill_share == pytest.approx(0.25)
    assert rounds.mean_length == 500
    assert (rounds.gpu.name, rounds.gpu.bandwidth) == ("NVIDIA H200", 4.8e12)


def test_where_rounds_overlap_it_is_what_the_gpus_were_at_work(run_dir):
    """Between ends of rounds lie 10 ms: the drafter's GPU works for 8 of them, the target's for 9 and 5."""
    rounds = found(
        run_dir,
        env={"TARGET_GPU": "cuda:0,cuda:1", "DRAFTER_GPU": "cuda:2"},
        device_busy_seconds={"cuda:0": 0.9, "cuda:1": 0.5, "cuda:2": 0.8},
        device_sampled_seconds={"cuda:0": 1.0, "cuda:1": 1.0, "cuda:2": 1.0},
        micro_batches=3,
    )
    assert (rounds.draft_seconds, rounds.verify_seconds) == pytest.approx((0.008, 0.014))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"rounds": 5}, "fewer than 20 rounds"),
        ({"models": MODELS | {"target": "other/model"}}, "of other models: embedded:target, embedded:drafter"),
        ({"models": MODELS | {"drafter": "other/model"}}, "of other models"),
        ({"hardware": None}, "on which GPUs"),
        ({"hardware": Hardware(gpus={"NVIDIA H200": 1, "NVIDIA L4": 1})}, "several products"),
    ],
)
def test_a_run_that_tells_nothing_says_why(run_dir, changes, why):
    assert why in found(run_dir, **changes)


def test_a_run_without_drafts_serves_a_plan_with_another_drafter(run_dir):
    none = {"drafted": 0, "accepted": 0, "drafted_by_position": (), "accepted_by_position": ()}
    rounds = found(run_dir, models=MODELS | {"drafter": "other/model"}, **none)
    assert (rounds.drafts, rounds.acceptance) == (0, None)
