import pytest

from specbatch.errors import DeviceError
from specbatch.plan.gpu_products import GIB
from specbatch.plan.gpus import _host_memory, counted, cpu_shape, parse_gpus


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
    assert parse_gpus("24GB@936GB/s@71TF")[0].bandwidth == 936e9


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "0xH100",
        "8x",
        "H1000",
        "8xbanana",
        "H100-40GB",
        "RTX 4090 Laptop GPU",
        "1..2GB@3TB/s",
        "0GB@1TB/s",
        "24GB@0TB/s",
    ],
)
def test_what_is_no_gpu_is_refused_with_a_remedy(text):
    with pytest.raises(DeviceError, match="remedy"):
        parse_gpus(text)


def test_a_near_miss_is_pointed_out():
    with pytest.raises(DeviceError, match=r"did you mean H200-141GB or .* Any other is given as memory@bandwidth"):
        parse_gpus("H20O-141GB")
    with pytest.raises(DeviceError, match=r"known: .*L40S-48GB, .*Any other is given as memory@bandwidth"):
        parse_gpus("banana")


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


def test_gpus_of_several_products_are_named_one_after_the_other():
    gpus = parse_gpus("2xH100, A100-40GB,2xL4")
    assert [gpu.name for gpu in gpus] == ["H100-80GB", "H100-80GB", "A100-40GB", "L4-24GB", "L4-24GB"]
    assert counted("2xH100, A100-40GB,2xL4") == 5
    assert (counted("8xH100"), counted("H100")) == (8, None)
    with pytest.raises(DeviceError, match="no GPU is named"):
        parse_gpus("2xH100,")
