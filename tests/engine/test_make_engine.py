"""Which engine a pair gets, and why: parameters on the meta device that say they are on a GPU stand in for one."""

from types import SimpleNamespace

import pytest
import torch

from specbatch.engine import make_engine as module
from specbatch.engine import triton_support
from specbatch.engine.config import EngineConfig
from specbatch.engine.general.drafter import ModelDrafter
from specbatch.engine.general.ngram import NGramDrafter
from specbatch.engine.general.runner import GeneralModelRunner
from specbatch.engine.graphs import ops
from specbatch.engine.graphs.reference import TorchOps
from specbatch.engine.graphs.runner import GraphModelRunner
from specbatch.engine.make_engine import describe, make_engine, why_general


def on(*devices, refused=None):
    """A model with a parameter on each device, which why_not refuses for a reason."""
    parameters = [SimpleNamespace(device=torch.device(device)) for device in devices]
    model = SimpleNamespace(parameters=lambda: parameters)
    return SimpleNamespace(
        model=model, refused=refused, input_device=parameters[0].device, rope_rule=None, fp8_kv=False
    )


@pytest.fixture(autouse=True)
def _with_triton(monkeypatch):
    monkeypatch.setattr(module, "why_not", lambda model: model.refused)
    monkeypatch.setattr(module, "why_no_kernels", lambda device: None)


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


def test_where_no_kernel_runs_there_is_no_fast_path(monkeypatch):
    monkeypatch.setattr(module, "why_no_kernels", lambda device: f"nothing runs on {device}")
    assert why_general(GPU, None) == "nothing runs on cuda:0"


def test_a_pair_on_the_cpu_gets_the_general_engine(pair):
    engine = make_engine(pair.target, pair.noisy, EngineConfig(2, 64))
    assert isinstance(engine.runner, GeneralModelRunner)
    assert describe(engine) == "general"


def test_a_pair_with_the_shape_gets_the_fast_one(pair, monkeypatch):
    monkeypatch.setattr(module, "why_general", lambda *_: None)
    engine = make_engine(pair.target, pair.noisy, EngineConfig(2, 64))
    assert isinstance(engine.runner, GraphModelRunner)
    assert describe(engine) == "recorded rounds"


def test_on_gpus_it_is_said_why_the_general_engine_decodes():
    target = on("cuda:0", refused="its dtype is odd")
    engine = SimpleNamespace(target=target, drafter=None, runner=None)
    assert describe(engine) == "general, since the target has no fast path: its dtype is odd"


def test_kernels_are_for_gpus_and_can_be_left_out(monkeypatch):
    assert type(ops.operations(torch.device("cpu"))) is TorchOps
    gpu = torch.device("cuda", 0)
    monkeypatch.setenv("SPECBATCH_NO_TRITON", "1")
    assert triton_support.why_no_kernels(gpu) == "SPECBATCH_NO_TRITON is set"
    assert type(ops.operations(gpu)) is TorchOps
    monkeypatch.delenv("SPECBATCH_NO_TRITON")
    monkeypatch.setattr(triton_support.importlib.util, "find_spec", lambda name: None)
    assert triton_support.why_no_kernels(gpu) == "Triton is not installed"
    assert type(ops.operations(gpu)) is TorchOps


@pytest.fixture
def triton_driver(monkeypatch):
    """Triton's driver, which a GPU and a C compiler make; nothing is known of any GPU yet."""
    runtime = pytest.importorskip("triton.runtime")
    monkeypatch.setattr(triton_support, "_refused", {})
    monkeypatch.delenv("SPECBATCH_NO_TRITON", raising=False)

    def becomes(get_current_target):
        monkeypatch.setattr(
            runtime, "driver", SimpleNamespace(active=SimpleNamespace(get_current_target=get_current_target))
        )

    return becomes


def test_without_a_c_compiler_there_are_no_kernels_and_it_is_said(triton_driver):
    def no_compiler():
        raise RuntimeError("Failed to find C compiler. Please specify via CC environment variable.\nmore")

    triton_driver(no_compiler)
    gpu = torch.device("cuda", 0)
    said = triton_support.why_no_kernels(gpu)
    assert said == (
        "Triton cannot compile here (Failed to find C compiler. Please specify via CC environment variable.); "
        "it needs a C compiler, such as gcc, and Python's headers"
    )
    assert type(ops.operations(gpu)) is TorchOps


def test_a_kernel_that_failed_is_not_tried_again_on_that_gpu(triton_driver):
    class TritonError(Exception):
        pass

    class OutOfResourcesError(TritonError):
        pass

    triton_driver(lambda: None)
    gpu, other = torch.device("cuda", 0), torch.device("cuda", 1)
    assert triton_support.why_no_kernels(gpu) is None
    with (
        pytest.raises(triton_support.KernelError, match="does not run on this GPU"),
        triton_support.refusing_kernels(gpu),
    ):
        raise OutOfResourcesError("out of resource: shared memory")
    assert triton_support.why_no_kernels(gpu) == "a kernel does not run on this GPU (out of resource: shared memory)"
    assert triton_support.why_no_kernels(other) is None


def test_a_compiler_that_gives_up_is_a_kernel_that_does_not_run(triton_driver):
    triton_driver(lambda: None)
    gpu = torch.device("cuda", 0)
    with pytest.raises(triton_support.KernelError), triton_support.refusing_kernels(gpu):
        raise RuntimeError("PassManager::run failed")
    assert triton_support.why_no_kernels(gpu) == "a kernel does not run on this GPU (PassManager::run failed)"


def test_other_errors_of_a_warm_up_are_not_the_kernels(triton_driver):
    triton_driver(lambda: None)
    gpu = torch.device("cuda", 0)
    with pytest.raises(ZeroDivisionError), triton_support.refusing_kernels(gpu):
        raise ZeroDivisionError
    assert triton_support.why_no_kernels(gpu) is None
