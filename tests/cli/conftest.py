"""The API server of tests/cluster, for the commands that talk to one, and the node of its reader pods."""

from tests.cluster.conftest import api, node

__all__ = ["api", "node"]
