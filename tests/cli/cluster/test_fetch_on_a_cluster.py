"""specbatch fetch SPEC -n NAMESPACE: its Job runs as a process, against a hub on loopback."""

import pytest

from specbatch.api import load_spec
from specbatch.cli.main import main
from specbatch.cluster.client.kinds import CLAIMS, JOBS
from specbatch.cluster.manifests.fetch_job import fetch_job
from tests.cluster.conftest import api
from tests.cluster.tiny_cluster import TinyCluster
from tests.documents import ROOT
from tests.hub_server import model, serving_hub

__all__ = ["api"]

PAIR = str(ROOT / "job/qwen3-8b.yaml")


@pytest.fixture
def fetch(api, tmp_path):
    """Fetches the pair from a hub that has it, in a cluster with the claim."""
    put_claim(api)
    root = tmp_path / "root"
    root.mkdir()
    with serving_hub({"Qwen/Qwen3-8B": model(), "Qwen/Qwen3-1.7B": model()}) as hub, TinyCluster(api, root):
        options = ["--kubeconfig", api.kubeconfig, "--set", f"job.env.HF_ENDPOINT={hub.url}"]
        yield lambda *words: main(["fetch", PAIR, *options, *words])


def put_claim(api, phase="Bound"):
    api.put(CLAIMS, {"metadata": {"name": "specbatch-models"}, "spec": {"accessModes": ["ReadWriteOnce"]}, "status": {"phase": phase}})  # fmt: skip


@pytest.mark.slow
def test_the_models_are_on_the_claim_and_no_run_is_listed(fetch, api, tmp_path, capsys):
    assert fetch() == 0
    said = capsys.readouterr().out
    assert "Qwen/Qwen3-1.7B@012345678901: 2 files" in said
    assert "job.volumes.modelCache.readOnly: true" in said
    assert f"specbatch submit {PAIR} --kubeconfig {api.kubeconfig}" in said
    assert len(list((tmp_path / "root/models/hub").glob("models--Qwen--*/snapshots/*/model.safetensors"))) == 2
    assert main(["list", "--kubeconfig", api.kubeconfig]) == 0
    assert "qwen3-8b" not in capsys.readouterr().out
    assert main(["why", "qwen3-8b-fetch", "--kubeconfig", api.kubeconfig]) == 0
    assert "the models are on their volume" in capsys.readouterr().out
    assert fetch() == 0  # an ended Job is made anew


@pytest.mark.slow
def test_a_model_that_is_missing_fails_with_the_cause(fetch, capsys):
    assert fetch("--set", "target.model=Qwen/None") == 1
    assert "model missing or not permitted (exit code 66)" in capsys.readouterr().err


def test_a_claim_that_is_missing_is_told_before_anything_is_made(api, capsys):
    assert main(["fetch", PAIR, "--kubeconfig", api.kubeconfig]) == 71
    assert "specbatch-models" in capsys.readouterr().err
    assert not api.objects(JOBS)


@pytest.mark.slow
def test_a_submit_beside_a_fetch_that_goes_on_is_warned(api, capsys):
    put_claim(api)
    api.put(CLAIMS, {"metadata": {"name": "specbatch-results"}, "spec": {"accessModes": ["ReadWriteOnce"]}, "status": {"phase": "Bound"}})  # fmt: skip
    settings = ["--set", "job.volumes.modelCache.readOnly=true", "--kubeconfig", api.kubeconfig]
    body = fetch_job(load_spec(PAIR, settings[1:2]))
    submit = ["submit", PAIR, *settings, "--dry-run=server"]
    for outcome, said in (("", "still fetches the models"), ("Failed", "has failed to fetch"), ("Complete", "")):
        conditions = [{"type": outcome, "status": "True"}] if outcome else []
        api.put(JOBS, {**body, "status": {"conditions": conditions}})
        assert main(submit) == 0
        told = capsys.readouterr().err
        assert (said in told) if said else ("fetch" not in told)


def test_options_for_this_machine_are_refused(api, capsys):
    assert main(["fetch", "Qwen/Qwen3-8B", "--kubeconfig", api.kubeconfig]) == 2
    assert main(["fetch", PAIR, "--to", "x", "-n", "ml"]) == 2
    assert main(["fetch", str(ROOT / "job/quickstart.yaml"), "-n", "ml"]) == 0
