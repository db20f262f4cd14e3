"""`specbatch status NAME`: a folder, a URI or the cluster."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from specbatch.cli.main import main
from specbatch.cluster.client.kinds import PODS
from tests.cluster.job_objects import pod_of, submitted
from tests.results.builders import finish_run, make_row

LOOK = '{"event": "progress", "rows": 3, "total_rows": 9, "tokens_per_second": 5.0}\n'


@pytest.fixture
def job(api, monkeypatch, tmp_path):
    monkeypatch.setenv("KUBECONFIG", api.kubeconfig)
    monkeypatch.chdir(tmp_path)
    job = submitted(api, conditions=["Complete"], status={"completedIndexes": "0"})
    api.put(PODS, pod_of(job, state="succeeded", message='{"exitCode": 0, "rows": 9, "errors": 0}'))
    return job


@pytest.mark.parametrize("words", [[], ["nightly"], ["job/nightly"], ["nightly", "-n", "default"]])
def test_a_name_is_a_run_on_the_cluster_and_it_says_which(job, capsys, words):
    assert main(["status", *words]) == 0
    assert capsys.readouterr().out.startswith(f"nightly  Job {job['metadata']['name']}, namespace default\ncomplete\n")


def test_a_jobs_name_and_a_spec_file_mean_it_too(api, job, tmp_path, capsys):
    (tmp_path / "spec.yaml").write_text(
        "apiVersion: specbatch.dev/v1alpha1\nkind: SpecBatchJob\nmetadata: {name: nightly}\n"
        "spec: {target: {model: 'embedded:target'}, dataset: {uri: rows.jsonl}}\n"
    )
    for name in (job["metadata"]["name"], "spec.yaml"):
        assert main(["status", name, "--output", "json"]) == 0
        assert json.loads(capsys.readouterr().out)["rows"] == 9


def test_a_folder_that_is_there_comes_first_unless_the_cluster_is_asked_for(job, tmp_path, capsys):
    finish_run(tmp_path / "nightly", [make_row(0)])
    assert main(["status", "nightly"]) == 0
    assert capsys.readouterr().out.startswith("nightly  nightly\n")
    assert main(["status", "nightly", "--context", "test"]) == 0
    assert "Job nightly-" in capsys.readouterr().out
    assert main(["status", "results/nightly"]) == 74
    assert main(["status", "no-such-protocol://x"]) == 74


def test_neither_folder_nor_cluster_names_both(api, job, monkeypatch, tmp_path, capsys):
    assert main(["status", "weekly"]) == 71
    said = capsys.readouterr().err
    assert f"there is no folder {Path.cwd() / 'weekly'}, and there is no run and no Job named weekly" in said
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    assert main(["status", "weekly"]) == 71
    said = capsys.readouterr().err
    assert f"there is no folder {Path.cwd() / 'weekly'}, and no cluster to talk to" in said
    assert "remedy: name the run's folder, or a run on a cluster: " in said


@pytest.mark.slow
def test_watching_ends_with_the_job_as_text_as_json_and_on_a_terminal(api, job, capsys):
    assert main(["status", "--watch"]) == 0
    assert main(["status", "nightly", "--watch", "--output", "json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["state"] == "complete"
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "specbatch", "status", "--watch"]
    done = subprocess.run(command, stdout=theirs, stderr=subprocess.PIPE, check=False, timeout=60)
    os.close(theirs)
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    assert (done.returncode, done.stderr) == (0, b"")
    assert "9 of 9, no errors" in shown


def test_logs_are_shown_and_followed_to_the_end(api, job, capsys):
    api.logs[f"{job['metadata']['name']}-0-aaaaa"] = LOOK
    assert main(["logs", "nightly"]) == 0
    said = capsys.readouterr()
    assert said.out == "rows 3 of 9 · 5 tokens/s\n"
    assert said.err == f"Job {job['metadata']['name']}, namespace default\n"
    assert main(["logs", "-f", "--raw"]) == 0
    assert capsys.readouterr().out == LOOK
    assert main(["logs", "--shard", "5"]) == 71
    assert main(["logs", "-f", "--previous"]) == 2
