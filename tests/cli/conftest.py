"""The API server of tests/cluster, for the commands that talk to one."""

from tests.cluster.conftest import api

__all__ = ["api"]
