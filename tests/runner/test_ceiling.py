from dataclasses import replace

import pytest

from specbatch.engine.stats import EngineStats
from specbatch.plan.ceiling import predict
from specbatch.plan.gpus import cpu_shape
from specbatch.plan.types import Speculation
from specbatch.runner.ceiling import CeilingOfRun
from tests.plan.builders import plan_of, request, shape


def stats(**counts):
    return EngineStats(
        **{"finished": 4, "rounds": 10, "row_rounds": 35, "prompt_tokens": 400, "emitted": 80, "drafted": 0} | counts
    )


PLAN = plan_of("2xH100", "placement.strategy=same")
ASKED = replace(request(shape("qwen3-8b"), shape("qwen3-1.7b")), speculation=Speculation(3, is_adaptive=False))
CEILING = CeilingOfRun(PLAN, ASKED)


def predicted(acceptance_rate):
    """The plan's formula for what `stats` counts: 3.5 rows a round, and 100 prompt tokens and half of 20 new ones in a row's cache."""
    measured = replace(ASKED, acceptance_rate=acceptance_rate, mean_length=110)
    return predict(measured, PLAN.replicas[0], 4, replicas=2).tokens_per_second


def test_nothing_is_predicted_before_a_row_has_ended():
    assert CEILING(EngineStats()) is None


def test_the_ceiling_is_that_of_what_the_run_has_measured():
    counts = stats(drafted=90, drafted_by_position=[35, 30, 25], accepted_by_position=[28, 10, 5])
    assert CEILING(counts) == pytest.approx(predicted(28 / 35))


def test_a_ceiling_that_says_nothing_is_none():
    """On a CPU, and for models that are read sooner than kernels are launched."""
    cpu = replace(ASKED, gpus=dict.fromkeys(ASKED.gpus, cpu_shape(bandwidth=2e10, flops=1e12)))
    assert CeilingOfRun(PLAN, cpu)(stats()) is None
    fast = {
        name: replace(gpu, bandwidth=1e3 * gpu.bandwidth, flops=1e3 * gpu.flops) for name, gpu in ASKED.gpus.items()
    }
    assert CeilingOfRun(PLAN, replace(ASKED, gpus=fast))(stats()) is None


def test_a_run_without_drafts_accepts_none():
    assert CEILING(stats()) == pytest.approx(predicted(0.0))
