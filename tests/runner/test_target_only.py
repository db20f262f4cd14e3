"""The target's own speed, as a run estimates it."""

import json

import pytest

from specbatch.results.speedup import estimated_speedup
from specbatch.runner.job import run_job

ROWS = [{"id": f"r{number}", "prompt": f"hello {number}"} for number in range(10)]


@pytest.mark.slow
@pytest.mark.parametrize("drafter", [(), ("drafter.method=ngram", "drafter.model=null")], ids=["model", "n-gram"])
def test_a_run_that_drafts_says_what_the_target_alone_would_have_done(make_job, tmp_path, drafter):
    summary = run_job(make_job(ROWS, "decoding.numSpeculativeTokens=2", *drafter))
    assert summary.target_only_tokens_per_second > 0
    # a tiny pair on any machine: the figure must be of the size of the run's own
    assert 0.2 < estimated_speedup(summary).times < 5
    manifest = json.loads((tmp_path / "results/tiny/manifest-00000-of-00001.json").read_text())
    assert manifest["throughput"]["target_only_tokens_per_second"] == pytest.approx(
        summary.target_only_tokens_per_second, rel=0.2
    )


@pytest.mark.slow
def test_a_run_of_the_target_alone_compares_itself_with_nothing(make_job):
    summary = run_job(make_job(ROWS, "drafter=null", "decoding.numSpeculativeTokens=auto"))
    assert summary.target_only_tokens_per_second is None
    assert estimated_speedup(summary) is None
