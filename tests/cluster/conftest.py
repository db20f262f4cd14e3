"""A Kubernetes API server for tests, `api`, and the node that its reader pods run on, `node`."""

import pytest

from specbatch.cluster.fetch import reader_pod
from tests.cluster.readers import Node
from tests.cluster.server import ApiServer


@pytest.fixture
def api(tmp_path_factory):
    """A running API server on loopback."""
    with ApiServer(tmp_path_factory.mktemp("api")) as server:
        yield server


@pytest.fixture
def node(api, run_dir, monkeypatch):
    """Runs reader pods, with the test's `run_dir` as the run nightly on its volume."""
    monkeypatch.setattr(reader_pod, "_POLL_SECONDS", 0.01)
    monkeypatch.setenv("KUBECONFIG", api.kubeconfig)
    with Node(api, {"/results/nightly": run_dir}) as node:
        yield node
