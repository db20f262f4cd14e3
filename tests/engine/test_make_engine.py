"""Which engine a pair gets, and why: parameters on the meta device that say they are on a GPU stand in for one."""

from types import SimpleNamespace

import pytest
import torch

from specbatch.engine import make_engine as module
from specbatch.engine.config import EngineConfig
from specbatch.engine.drafter import ModelDrafter
from specbatch.engine.engine import Engine
from specbatch.engine.gpu import ops
from specbatch.engine.gpu.engine import GraphEngine
from specbatch.engine.gpu.reference import TorchOps
from specbatch.engine.make_engine import describe, make_engine, why_general
from specbatch.engine.ngram import NGramDrafter


def on(*devices, refused=None):
    """A model with a parameter on each device, which why_not refuses for a reason."""
    parameters = [SimpleNamespace(device=torch.device(device)) for device in devices]
    return SimpleNamespace(model=SimpleNamespace(parameters=lambda: parameters), refused=refused)


@pytest.fixture(autouse=True)
def _with_triton(monkeypatch):
    monkeypatch.setattr(module, "why_not", lambda model: model.refused)
    monkeypatch.setattr(module, "has_triton", lambda: True)


GPU = on("cuda:0", "cuda:1")


@pytest.mark.parametrize("drafter", [None, NGramDrafter(), ModelDrafter(on("cuda:1"))], ids=["none", "ngram", "model"])
def test_nothing_speaks_against_models_on_gpus_that_have_the_shape(drafter):
    assert why_general(GPU, drafter) is None


class Oracle:
    """A drafter of another kind."""


@pytest.mark.parametrize(
    ("target", "drafter", "reason"),
    [
        (on("cpu"), None, "the target is not on GPUs"),
        (on("cuda:0", "cpu"), None, "the target is not on GPUs"),
        (on("cuda:0", "meta"), None, "the target is not on GPUs"),
        (GPU, ModelDrafter(on("cpu")), "the drafter is not on GPUs"),
        (on("cuda:0", refused="its dtype is odd"), None, "the target has no fast path: its dtype is odd"),
        (GPU, ModelDrafter(on("cuda:0", refused="too new")), "the drafter has no fast path: too new"),
        (GPU, Oracle(), "the drafter is a Oracle"),
    ],
)
def test_what_speaks_against_the_fast_path_is_said(target, drafter, reason):
    assert why_general(target, drafter) == reason


def test_without_triton_there_is_no_fast_path(monkeypatch):
    monkeypatch.setattr(module, "has_triton", lambda: False)
    assert why_general(GPU, None) == "Triton is not installed"


def test_a_pair_on_the_cpu_gets_the_general_engine(pair):
    engine = make_engine(pair.target, pair.noisy, EngineConfig(2, 64))
    assert isinstance(engine, Engine)
    assert describe(engine) == "general"


def test_a_pair_with_the_shape_gets_the_fast_one(pair, monkeypatch):
    monkeypatch.setattr(module, "why_general", lambda *_: None)
    engine = make_engine(pair.target, pair.noisy, EngineConfig(2, 64))
    assert isinstance(engine, GraphEngine)
    assert describe(engine) == "recorded rounds"


def test_on_gpus_it_is_said_why_the_general_engine_decodes():
    target = on("cuda:0", refused="its dtype is odd")
    target.input_device = torch.device("cuda", 0)
    engine = SimpleNamespace(target=target, drafter=None)
    assert describe(engine) == "general, since the target has no fast path: its dtype is odd"


def test_kernels_are_for_gpus_and_can_be_left_out(monkeypatch):
    assert type(ops.operations(torch.device("cpu"))) is TorchOps
    monkeypatch.setenv("SPECBATCH_NO_TRITON", "1")
    assert not ops.has_triton()
    assert type(ops.operations(torch.device("cuda", 0))) is TorchOps
    monkeypatch.delenv("SPECBATCH_NO_TRITON")
    monkeypatch.setattr(ops.importlib.util, "find_spec", lambda name: None)
    assert not ops.has_triton()
