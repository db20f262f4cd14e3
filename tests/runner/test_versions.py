import os

from specbatch.runner.versions import hardware
from tests.plan.builders import plan_of


def test_hardware_counts_the_gpus_of_each_product_and_names_the_host(tmp_path):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nmodel name\t: AMD  EPYC 9B14\nprocessor\t: 1\nmodel name\t: AMD EPYC 9B14\n")
    assert str(hardware(plan_of("8xH100-80GB"), cpuinfo)) == f"8 x H100-80GB, {os.cpu_count()} CPUs (AMD EPYC 9B14)"
    assert hardware(plan_of("2x24GB@1TB/s", drafter=None), cpuinfo).gpus == {"24GB@1TB/s": 2}


def test_a_host_that_does_not_name_its_processor_still_counts_its_cpus(tmp_path):
    assert hardware(plan_of("H100-80GB"), tmp_path / "missing").cpus == os.cpu_count()
