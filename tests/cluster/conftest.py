"""A Kubernetes API server for tests: `api`."""

import pytest

from tests.cluster.server import ApiServer


@pytest.fixture
def api(tmp_path_factory):
    """A running API server on loopback."""
    with ApiServer(tmp_path_factory.mktemp("api")) as server:
        yield server
