"""A spec that changed, from the user's side: nothing that is there is lost, and there is a way to start anew."""

import json
import shutil

import pytest

from specbatch.cli.main import main
from specbatch.cluster.client.kinds import CLAIMS, JOBS, NODES
from tests.cluster.tiny_cluster import TinyCluster
from tests.documents import ROOT


@pytest.fixture
def specbatch(api, zygote, tmp_path, monkeypatch):
    """The command line, in a folder with the quickstart, with a cluster whose pods are processes."""
    root, here = tmp_path / "root", tmp_path / "here"
    root.mkdir()
    shutil.copytree(ROOT / "job", here / "job")
    monkeypatch.chdir(here)
    monkeypatch.setenv("KUBECONFIG", str(api.kubeconfig))
    api.put(CLAIMS, {"metadata": {"name": "specbatch-results"}, "spec": {"accessModes": ["ReadWriteMany"]}, "status": {"phase": "Bound"}})  # fmt: skip
    api.put(NODES, {"metadata": {"name": "here"}, "status": {"allocatable": {"cpu": "8", "memory": "32Gi", "pods": "110"}}})  # fmt: skip
    with TinyCluster(api, root, zygote):
        yield lambda verb, *words: main([verb, *words]), root, here


@pytest.mark.slow
def test_a_changed_spec_starts_anew_beside_the_results_that_are_there(specbatch, api, capsys):
    run, root, here = specbatch
    submit = ("submit", "job/quickstart.yaml", "--set", "dataset.limit=4", "--set", "decoding.maxNewTokens=8")
    assert run(*submit, "--wait") == 0
    old = (root / "results/quickstart/part-00000-of-00001.jsonl").read_bytes()
    [before] = api.objects(JOBS)
    assert run(*submit, "--set", "decoding.maxNewTokens=6", "--force") == 71
    assert api.objects(JOBS) == [before]
    capsys.readouterr()
    assert run(*submit, "--set", "decoding.maxNewTokens=6", "--fresh", "--wait") == 0
    capsys.readouterr()
    assert run("status", "quickstart") == 0
    assert "rows         4 of 4, no errors" in capsys.readouterr().out
    assert run("collect", "quickstart", "-o", "fresh.jsonl") == 0
    rows = [json.loads(line) for line in (here / "fresh.jsonl").read_text().splitlines()]
    assert len(rows) == 4
    assert all(row["usage"]["completion_tokens"] <= 6 for row in rows)
    assert (root / "results/quickstart/part-00000-of-00001.jsonl").read_bytes() == old
    folders = sorted(path.name for path in (root / "results").iterdir())
    assert len(folders) == 2


@pytest.mark.slow
def test_a_pod_of_a_changed_spec_says_what_to_do(specbatch, api, capsys):
    run, _, _ = specbatch
    submit = ("submit", "job/quickstart.yaml", "--set", "dataset.limit=2", "--set", "decoding.maxNewTokens=4")
    assert run(*submit, "--wait") == 0
    [job] = api.objects(JOBS)
    api.remove(JOBS, job["metadata"]["name"])  # its time to live was over: nothing tells of the results any more
    assert run(*submit, "--set", "decoding.seed=1", "--wait") == 1
    capsys.readouterr()
    run("why", "quickstart")
    assert "specbatch submit FILE --fresh" in " ".join(capsys.readouterr().out.split())
