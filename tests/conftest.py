"""Tests marked gpu or cluster skip themselves where there is none: plain `pytest` works everywhere."""

import gc
import itertools
import os
import signal

import pytest

from tests.s3 import serving
from tests.zygote import Zygote

_GIVEN_BACK = itertools.count(1)


def pytest_configure():
    # Started in the background, pytest ignores Ctrl-C, and so would every process that a test starts and interrupts.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    for item in items:
        # Tracing doubles what a test costs. The fast tests reach nearly every line: of the slow ones, only those marked `traced` add to them.
        if item.get_closest_marker("slow") and not item.get_closest_marker("traced"):
            item.add_marker("no_cover")
        if item.get_closest_marker("gpu") and not _cuda():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA GPU"))
        if item.get_closest_marker("cluster") and not os.environ.get("KUBECONFIG"):
            item.add_marker(pytest.mark.skip(reason="needs a Kubernetes cluster: set KUBECONFIG"))


def pytest_collection_finish():
    # Millions of objects of torch and transformers live to the end: no collection, of ours or of the tested code, need look at them.
    gc.collect()
    gc.freeze()


def pytest_runtest_setup(item):
    if gc.get_freeze_count() == 0:  # a run gives back what it had set aside, and all else with it
        if next(_GIVEN_BACK) % 20 == 0:
            gc.collect()
        gc.freeze()


@pytest.fixture(scope="session")
def zygote(tmp_path_factory):
    """Starts processes of specbatch without the seconds that their imports take."""
    made = Zygote(tmp_path_factory.mktemp("zygote"))
    yield made
    made.close()


@pytest.fixture
def s3(tmp_path, monkeypatch):
    """A real S3 server on loopback."""
    with serving(tmp_path / "s3", monkeypatch) as server:
        yield server


def _cuda():
    try:
        import torch
    except ImportError:
        return False
    return torch.cuda.is_available()
