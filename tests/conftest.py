"""Tests marked gpu or cluster skip themselves where there is none: plain `pytest` works everywhere."""

import gc
import itertools
import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.s3 import serving
from tests.zygote import Zygote

# A busy machine is no bug.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

TESTS = Path(__file__).parent
_TESTS = itertools.count(1)
_freeze, _unfreeze = gc.freeze, gc.unfreeze


def pytest_configure():
    # Started in the background, pytest ignores Ctrl-C, and so would every process that a test starts and interrupts.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # Every collection while thousands of tests are made looks at torch's and transformers' objects in vain: three seconds a process.
    gc.disable()


def pytest_collection_modifyitems(items):
    # Those of documents and packages share what takes long to make: at the end of a run two processes would each make it.
    items.sort(key=lambda item: item.path.parent != TESTS)
    for item in items:
        if item.get_closest_marker("gpu") and not _cuda():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA GPU"))
        if item.get_closest_marker("cluster") and not os.environ.get("KUBECONFIG"):
            item.add_marker(pytest.mark.skip(reason="needs a Kubernetes cluster: set KUBECONFIG"))


def pytest_collection_finish():
    # Millions of objects of torch and transformers live to the end: no search for garbage, of ours or of the tested code, need look at them.
    gc.enable()
    gc.collect()
    gc.freeze()
    # A run gives back what it has set aside, and all else with it: to look at that again takes half of what a test does.
    gc.freeze = gc.unfreeze = _nothing


def pytest_runtest_setup(item):
    if next(_TESTS) % 100 == 0:  # what was imported meanwhile
        gc.collect()
        _freeze()


def _nothing():
    pass


@pytest.fixture
def setting_aside(monkeypatch):
    """For tests of gc.freeze and gc.unfreeze: they are themselves."""
    monkeypatch.setattr(gc, "freeze", _freeze)
    monkeypatch.setattr(gc, "unfreeze", _unfreeze)
    yield
    _freeze()


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
