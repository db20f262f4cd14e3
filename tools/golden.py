"""What of k8s/ is rendered: the Job in k8s/golden, as an example, and the network policies."""

from __future__ import annotations

from pathlib import Path

from specbatch.cluster.manifests.job import render
from specbatch.cluster.manifests.network_policy import HTTPS, namespace_policies
from specbatch.cluster.manifests.spec_files import load_for_cluster
from specbatch.cluster.manifests.yaml_text import manifests_text

ROOT = Path(__file__).parent.parent
SPEC = "job/qwen3-8b-ratio-6-2.yaml"
GOLDEN = "k8s/golden/qwen3-8b-ratio-6-2.yaml"
NETWORK_POLICY = "k8s/network-policy.yaml"

_ABOVE = """\
# Made by `make generate`. Pods of runs, and pods that fetch models, may use DNS and HTTPS anywhere, except for the address where clouds hand out
# a node's credentials (instance metadata); ingress is denied. Other ports (MinIO 9000, a proxy 3128, a mirror of the hub) are one patch in an overlay:
#
#   patches:
#     - target: {kind: NetworkPolicy, name: specbatch-runs}
#       patch: '- {op: add, path: /spec/egress/1/ports/-, value: {protocol: TCP, port: 9000}}'
#
# specbatch render FILE --network-policy prints policies with the ports that a spec needs.
"""


def golden() -> str:
    """What `specbatch render` prints for it, in the repository's root."""
    job, files = load_for_cluster(str(ROOT / SPEC), (), name=None, namespace=None, folder=ROOT)
    made = f"# Made by `make generate`: specbatch render {SPEC}\n"
    return made + manifests_text(render(job, files).objects, "yaml")


def network_policy() -> str:
    """The policies of k8s/."""
    return _ABOVE + manifests_text(namespace_policies([HTTPS], [HTTPS]), "yaml")
