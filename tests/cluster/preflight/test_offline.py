"""What submit would say of a spec without asking a cluster."""

import pytest

from specbatch.api import load_spec
from specbatch.cluster.preflight.checks import offline_problems
from tests.cluster.rendering import ROOT, RUNNABLE, job


@pytest.mark.parametrize("path", RUNNABLE, ids=lambda path: path.stem)
def test_the_files_in_job_can_become_jobs(path):
    assert offline_problems(load_spec(str(path)), ROOT) == []


def test_a_missing_file_and_lost_results_are_told_at_once(tmp_path):
    spec = job("volumes: {results: null}", spec="{dataset: {uri: rows.jsonl}}")
    assert [one.path for one in offline_problems(spec, tmp_path)] == ["spec.job.volumes.results", "spec.dataset.uri"]


def test_a_spec_that_is_too_large_for_a_config_map_is_found(tmp_path):
    (tmp_path / "rows.jsonl").write_bytes(b"x" * 890_000)
    spec = job(f"env: {{LONG: {'y' * 200_000}}}", spec="{dataset: {uri: rows.jsonl}}")
    [problem] = offline_problems(spec, tmp_path)
    assert "its ConfigMap would hold" in problem.message
