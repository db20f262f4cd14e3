"""The rendered Job in k8s/golden, as an example."""

from __future__ import annotations

from pathlib import Path

from specbatch.cluster.manifests.job import render
from specbatch.cluster.manifests.spec_files import load_for_cluster
from specbatch.cluster.manifests.yaml_text import manifests_text

ROOT = Path(__file__).parent.parent
SPEC = "job/qwen3-8b-ratio-6-2.yaml"
GOLDEN = "k8s/golden/qwen3-8b-ratio-6-2.yaml"


def golden() -> str:
    """What `specbatch render` prints for it, in the repository's root."""
    job, files = load_for_cluster(str(ROOT / SPEC), (), name=None, namespace=None, folder=ROOT)
    made = f"# Made by `make generate`: specbatch render {SPEC}\n"
    return made + manifests_text(render(job, files).objects, "yaml")
