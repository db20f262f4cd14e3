from types import SimpleNamespace

import pytest
import torch

from specbatch.errors import DeviceError
from specbatch.runner.devices import measured_cpu, visible_gpus


@pytest.fixture
def gpus(monkeypatch):
    """Makes torch see so many GPUs: a machine of the tests has none."""

    def see(count):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        h100 = SimpleNamespace(name="NVIDIA H100 80GB HBM3", total_memory=79 << 30, major=9, minor=0)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: h100)

    return see


def test_the_gpus_are_those_that_torch_sees_with_their_real_memory(gpus):
    gpus(2)
    found = visible_gpus(2, {"CUDA_VISIBLE_DEVICES": "GPU-aa,GPU-bb"})
    assert [(gpu.name, gpu.memory_bytes) for gpu in found] == [("NVIDIA H100 80GB HBM3", 79 << 30)] * 2


def test_a_count_that_differs_says_both_and_what_to_do(gpus):
    gpus(2)
    with pytest.raises(DeviceError) as refused:
        visible_gpus(4, {"CUDA_VISIBLE_DEVICES": "GPU-aa,GPU-bb"})
    said = str(refused.value)
    assert "gpus is 4, but this process sees 2 GPUs (CUDA_VISIBLE_DEVICES is 'GPU-aa,GPU-bb')" in said
    assert "set spec.placement.gpus to 2" in said


def test_a_driver_that_is_too_old_for_this_torch_is_told_with_what_to_do(gpus, monkeypatch):
    def refuse(index):
        raise RuntimeError(
            "The NVIDIA driver on your system is too old (found version 12020). Please update your GPU driver by ..."
        )

    gpus(1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", refuse)
    with pytest.raises(DeviceError, match=r"driver on your system is too old \(found version 12020\)\.\n") as refused:
        visible_gpus(1, {})
    assert "update the node's driver" in refused.value.remedy


def test_a_gpu_that_is_older_than_the_code_of_this_torch_is_refused(gpus, monkeypatch):
    gpus(1)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_100", "sm_120"])
    with pytest.raises(DeviceError, match=r"capability 9\.0, and this torch has code for 10\.0 and newer"):
        visible_gpus(1, {})
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_75", "sm_90", "compute_90"])
    assert visible_gpus(1, {})


def test_no_gpu_at_all_points_to_the_cpu(gpus):
    gpus(0)
    with pytest.raises(DeviceError, match=r"sees no GPUs \(CUDA_VISIBLE_DEVICES is not set\)[\s\S]*to 0 \(the CPU\)"):
        visible_gpus(1, {})


@pytest.mark.slow
@pytest.mark.parametrize("count", [0, 8])
def test_with_the_cpu_any_count_of_gpus_will_do_and_its_own_figures_are_measured(gpus, count):
    gpus(count)
    (cpu,) = visible_gpus(0, {})
    assert cpu.is_cpu
    assert 1e8 < cpu.bandwidth < 1e13
    assert 1e8 < cpu.flops < 1e15
    assert measured_cpu().is_cpu
