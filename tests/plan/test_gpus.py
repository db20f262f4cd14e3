import pytest

from specbatch.errors import DeviceError
from specbatch.plan.gpus import (
    GIB,
    PRODUCTS,
    _host_memory,
    cpu_shape,
    parse_gpus,
    product_named,
    visible_gpu_shape,
)


@pytest.mark.parametrize(
    ("text", "count", "name"),
    [
        ("8xH100-80GB", 8, "H100-80GB"),
        ("H100", 1, "H100-80GB"),
        ("h100 80gb", 1, "H100-80GB"),
        ("2xA100-40GB", 2, "A100-40GB"),
        ("4 x L40S", 4, "L40S-48GB"),
        ("a10", 1, "A10-24GB"),
        ("RTX 4090", 1, "RTX4090-24GB"),
        ("16*MI300X", 16, "MI300X-192GB"),
    ],
)
def test_products_are_found_by_the_names_people_write(text, count, name):
    gpus = parse_gpus(text)
    assert (len(gpus), gpus[0].name) == (count, name)


def test_the_count_comes_from_the_spec_where_the_text_has_none():
    assert len(parse_gpus("H100", 6)) == 6
    assert len(parse_gpus("2xH100", 6)) == 2


def test_any_gpu_can_be_described():
    gpu = parse_gpus("4x96GB@3.3TB/s@900TF")[3]
    assert (gpu.memory_bytes, gpu.bandwidth, gpu.flops) == (pytest.approx(96e9, abs=1), 3.3e12, 900e12)
    assert parse_gpus("24GB@1TB/s")[0].bandwidth == 1e12


@pytest.mark.parametrize("text", ["", "  ", "0xH100", "8x", "H1000", "8xbanana", "H100-40GB", "A100-40G"])
def test_what_is_no_gpu_is_refused_with_a_remedy(text):
    with pytest.raises(DeviceError, match="remedy"):
        parse_gpus(text)


def test_a_near_miss_is_pointed_out():
    with pytest.raises(DeviceError, match="did you mean H200-141GB"):
        parse_gpus("H20O-141GB")


@pytest.mark.parametrize(
    ("name", "gib", "like"),
    [
        ("NVIDIA H100 80GB HBM3", 79.1, "H100-80GB"),
        ("NVIDIA H100 PCIe", 79.1, "H100-PCIE-80GB"),
        ("NVIDIA A100-SXM4-40GB", 39.4, "A100-40GB"),
        ("NVIDIA A100 80GB PCIe", 79.2, "A100-80GB"),
        ("NVIDIA GeForce RTX 4090", 23.6, "RTX4090-24GB"),
        ("Tesla T4", 14.6, "T4-16GB"),
        ("Some Future GPU", 140.0, "H200-141GB"),
    ],
)
def test_the_drivers_names_find_their_data_sheet_and_keep_their_real_memory(name, gib, like):
    gpu = visible_gpu_shape(name, int(gib * GIB))
    assert gpu.bandwidth == PRODUCTS[like].bandwidth
    assert gpu.memory_bytes == int(gib * GIB)


def test_a_mig_slice_has_its_share_of_the_bandwidth():
    gpu = visible_gpu_shape("NVIDIA H100 80GB HBM3 MIG 1g.10gb", int(9.9 * GIB))
    assert gpu.bandwidth == pytest.approx(PRODUCTS["H100-80GB"].bandwidth / 8, rel=0.01)


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("NVIDIA-H100-80GB-HBM3", "H100-80GB"),
        ("NVIDIA-H100-PCIe", "H100-PCIE-80GB"),
        ("NVIDIA-A100-SXM4-40GB", "A100-40GB"),
        ("NVIDIA-GeForce-RTX-4090", "RTX4090-24GB"),
        ("NVIDIA-H100-80GB-HBM3-MIG-1g.10gb", None),
        ("", None),
    ],
)
def test_node_labels_name_products(label, name):
    gpu = product_named(label)
    assert (gpu.name if gpu else None) == name


def test_the_cpu_is_a_device_with_the_hosts_memory():
    assert cpu_shape().is_cpu
    assert cpu_shape().memory_bytes > 0
    assert cpu_shape(5 * GIB).memory_bytes == 5 * GIB


def test_a_containers_memory_limit_counts_where_it_is_lower(tmp_path):
    limit = tmp_path / "memory.max"
    limit.write_text("1048576\n")
    assert _host_memory(limit) == 1 << 20
    limit.write_text("max\n")
    assert _host_memory(limit) == _host_memory(tmp_path / "none") > 1 << 20
