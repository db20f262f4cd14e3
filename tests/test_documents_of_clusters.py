"""Every command that the documents give for a cluster is run: against an API server whose pods are processes of this machine."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from specbatch.cluster.client.kinds import CLAIMS, NAMESPACES, NODES
from tests.cluster.conftest import api
from tests.cluster.tiny_cluster import TinyCluster
from tests.documents import ROOT, TWIN, blocks, documents
from tests.helm.charts import binary
from tests.hub_server import serving_hub

__all__ = ["api"]

FIRST = "docs/FIRST_CLUSTER.md"
ON_CPUS = {
    "placement": {"gpus": 0},
    "target": {"dtype": "float32"},
    "drafter": {"dtype": "float32"},
    "decoding": {"maxNewTokens": 8},
    "batching": {"maxLength": 512},
    "dataset": {"limit": 3},
}

ROWS = 50  # of the quickstart's 200

# No real cluster takes them here: kubectl and helm show what they would send.
STAND_INS = {
    "kubectl": """#!/bin/sh
[ "$1 $2" = "apply -k" ] && exec {kubectl} kustomize "$3"
[ "$1" = kustomize ] && exec {kubectl} "$@"
[ "$*" = "apply -f -" ] && exec grep kind: # fails where nothing comes
echo "not tried: kubectl $*" >&2; exit 9
""",
    "helm": '#!/bin/sh\n[ "$1" = install ] && shift && exec {helm} template "$@"\necho "not tried: helm $*" >&2; exit 9\n',
    "specbatch": '#!/bin/sh\nexec {python} -m specbatch "$@"\n',
}


@pytest.fixture
def shell(api, zygote, tmp_path):
    """Runs bash in a folder like a fresh clone, with a cluster of one process behind the kubeconfig."""
    bin_folder, clone, root = tmp_path / "bin", tmp_path / "clone", tmp_path / "root"
    for folder in (bin_folder, clone, root):
        folder.mkdir()
    places = {"kubectl": binary("kubectl"), "helm": binary("helm4"), "python": sys.executable}
    for name, script in STAND_INS.items():
        (bin_folder / name).write_text(script.format(**places))
        (bin_folder / name).chmod(0o755)
    for name in ("job", "k8s", "helm"):
        shutil.copytree(ROOT / name, clone / name)
    prompts = clone / "job/prompts/quickstart.jsonl"
    prompts.write_text("".join(prompts.read_text().splitlines(keepends=True)[:ROWS]))
    api.put(NAMESPACES, {"metadata": {"name": "specbatch"}})
    for claim in ("specbatch-results", "specbatch-models"):
        api.put(CLAIMS, {"metadata": {"name": claim, "namespace": "specbatch"}, "spec": {"accessModes": ["ReadWriteMany"]}, "status": {"phase": "Bound"}})  # fmt: skip
    has = {"cpu": "8", "memory": "32Gi", "pods": "110", "nvidia.com/gpu": "1"}
    api.put(NODES, {"metadata": {"name": "here"}, "status": {"allocatable": has, "capacity": has, "conditions": [{"type": "Ready", "status": "True"}]}})  # fmt: skip
    environment = {**os.environ, "PATH": f"{bin_folder}:{os.environ['PATH']}", "KUBECONFIG": api.kubeconfig}
    environment["PYTHONPATH"] = str(ROOT)

    def run(script):
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=clone,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    pair = {f"Qwen/{name}": embedded(role) for name, role in (("Qwen3-8B", "target"), ("Qwen3-1.7B", "drafter"))}
    with serving_hub(pair) as hub, TinyCluster(api, root, zygote, on_cpus=ON_CPUS, HF_ENDPOINT=hub.url):
        yield run, clone


def embedded(role):
    """The files of the demonstration pair, for a hub that knows it by other names."""
    return {path.name: path.read_bytes() for path in (ROOT / "specbatch/embedded" / role).iterdir()}


@pytest.fixture(scope="module")
def local_rows(zygote, tmp_path_factory):
    """The quickstart's rows as this machine alone makes them."""
    folder = tmp_path_factory.mktemp("local")
    for words in (
        ("run", "job/quickstart.yaml", "--quiet", "--set", f"results.dir={folder}", "--set", f"dataset.limit={ROWS}"),
        ("collect", folder / "quickstart", "-o", folder / "local.jsonl"),
    ):
        ended = zygote.process("specbatch", *words, cwd=ROOT)
        assert ended.wait(300) == 0, ended.errors
    return (folder / "local.jsonl").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    "document", [name for name in documents() if blocks(name, "sh") and name != FIRST and TWIN not in name]
)
def test_every_command_works_in_the_order_of_the_document(document, shell, local_rows):
    run, clone = shell
    commands = blocks(document, "sh")
    assert any("specbatch submit" in block for block in commands)
    for block in commands:
        run(block)
    rows = (clone / "quickstart.jsonl").read_bytes()
    assert rows == local_rows


@pytest.mark.slow
def test_the_way_from_nothing_to_answers_works_as_it_is_told(shell):
    """The hub is one on loopback, its models are the demonstration pair, and the pods have CPUs in place of the GPU."""
    run, clone = shell
    said = "".join(map(run, blocks(FIRST, "sh")))
    assert "the models are on claim specbatch-models" in said
    rows = [json.loads(line) for line in (clone / "first.jsonl").read_text().splitlines()]
    assert [row["index"] for row in rows] == list(range(ON_CPUS["dataset"]["limit"]))
