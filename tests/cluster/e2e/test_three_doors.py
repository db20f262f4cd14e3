"""One spec through three doors, here, by submit and by Helm, gives the same file to the byte; whatever is killed on the way."""

import json
import os
import subprocess
import sys

import pytest

from specbatch.cluster.client.kinds import CONFIG_MAPS, JOBS, PODS
from specbatch.cluster.jobs.job_view import INDEX
from tests.cluster.e2e.conftest import eventually
from tests.documents import ROOT
from tests.helm.charts import binary

SPEC = "job/quickstart.yaml"


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """The quickstart's rows as this machine gives them."""
    folder = tmp_path_factory.mktemp("local")
    for arguments in (
        ["run", SPEC, "--quiet", "--set", f"results.dir={folder}/results"],
        ["collect", f"{folder}/results/quickstart", "-o", f"{folder}/rows.jsonl"],
    ):
        subprocess.run([sys.executable, "-m", "specbatch", *arguments], cwd=ROOT, check=True, capture_output=True)
    return (folder / "rows.jsonl").read_bytes()


def test_three_shards_with_a_pod_killed_in_the_middle_give_the_local_file(specbatch, admin, run, local, tmp_path):
    slowly = {"batching__maxSequences": 1}
    printed = specbatch("submit", SPEC, *specbatch.settings(run, job__completions=3, **slowly))
    assert "specbatch status" in printed
    following = specbatch.start("logs", run, "-f")

    def decoding():
        status = json.loads(specbatch("status", run, "--output", "json"))
        return status["rows"] > 0 and status["rows"] < 200

    eventually(decoding)
    victim = next(
        pod["metadata"]["name"]
        for pod in admin.list(PODS, labels={"specbatch.dev/run": run, INDEX: "1"})
        if pod["status"]["phase"] == "Running"
    )
    admin.delete(PODS, victim)
    specbatch("wait", run, "--timeout", "600")
    shown, _ = following.communicate(timeout=60)
    assert following.returncode == 0
    assert "[shard 1]" in shown
    status = json.loads(specbatch("status", run, "--output", "json"))
    assert (status["state"], status["rows"]) == ("complete", 200)
    specbatch("collect", run, "-o", tmp_path / "rows.jsonl")
    assert (tmp_path / "rows.jsonl").read_bytes() == local
    assert json.loads(specbatch("why", run, "--output", "json"))["cause"] == "complete"
    readers = {"specbatch.dev/run": run, "app.kubernetes.io/component": "reader"}
    eventually(lambda: not admin.list(PODS, labels=readers))


def test_the_same_spec_again_meets_its_own_job(specbatch, admin, run):
    settings = specbatch.settings(run)
    specbatch("submit", SPEC, *settings, "--wait")
    assert "complete" in specbatch("submit", SPEC, *settings)
    assert len(admin.list(JOBS, labels={"specbatch.dev/run": run})) == 1
    refused = specbatch("submit", SPEC, *settings, "--set", "decoding.seed=7", code=71)
    assert "decoding.seed" in refused
    assert "--force" in refused
    assert len(admin.list(JOBS, labels={"specbatch.dev/run": run})) == 1


@pytest.mark.parametrize("helm", ["helm3", "helm4"])
def test_helm_gives_the_local_file(specbatch, admin, run, local, tmp_path, helm, namespace):
    settings = {
        "metadata.name": run,
        "spec.job.image": os.environ["SPECBATCH_TEST_IMAGE"],
        "spec.job.resources.requests.cpu": "100m",
        "spec.job.resources.requests.memory": "512Mi",
        "spec.job.completions": "2",
    }
    words = [word for path, value in settings.items() for word in ("--set", f"{path}={value}")]
    subprocess.run(
        [binary(helm), "install", run, "helm/specbatch", "-n", namespace, "-f", SPEC, *words], cwd=ROOT, check=True
    )
    try:
        specbatch("wait", run, "--timeout", "600")
        specbatch("collect", run, "-o", tmp_path / "rows.jsonl")
    finally:
        subprocess.run([binary(helm), "uninstall", run, "-n", namespace], cwd=ROOT, check=True)
    assert (tmp_path / "rows.jsonl").read_bytes() == local
    eventually(lambda: not admin.list(CONFIG_MAPS, labels={"specbatch.dev/run": run}))
