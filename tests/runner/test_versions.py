import os

from specbatch.runner.versions import hardware
from tests.plan.builders import plan_of


def test_hardware_counts_the_gpus_of_each_product_and_names_the_host(tmp_path):
    (tmp_path / "cpuinfo").write_text(
        "processor\t: 0\nmodel name\t: AMD  EPYC 9B14\nprocessor\t: 1\nmodel name\t: AMD EPYC 9B14\n"
    )
    assert str(hardware(plan_of("8xH100-80GB"), tmp_path)) == f"8 x H100-80GB, {os.cpu_count()} CPUs (AMD EPYC 9B14)"
    assert hardware(plan_of("2x24GB@1TB/s", drafter=None), tmp_path).gpus == {"24GB@1TB/s": 2}


def test_the_driver_is_the_kernel_modules_own_word(tmp_path):
    file = tmp_path / "driver/nvidia/version"
    file.parent.mkdir(parents=True)
    file.write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.82.07  Release Build  (dvs)\nGCC version: 12.3.0\n"
    )
    found = hardware(plan_of("2xH100-80GB"), tmp_path)
    assert (found.driver, found.gpu_bytes) == ("580.82.07", {"H100-80GB": found.gpu_bytes["H100-80GB"]})
    assert str(found).startswith("2 x H100-80GB, driver 580.82.07, ")
    file.write_text("something else")
    assert hardware(plan_of("H100-80GB"), tmp_path).driver == ""


def test_a_host_that_does_not_name_its_processor_still_counts_its_cpus(tmp_path):
    assert hardware(plan_of("H100-80GB"), tmp_path / "missing").cpus == os.cpu_count()
