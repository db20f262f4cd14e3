import pytest

from specbatch.plan.gpu_products import GIB, PRODUCTS, nearest_names, product_named, visible_gpu_shape
from tests.plan.builders import plan_of

# As nvidia-smi and rocm-smi, node labels and people have them.
NAMES = {
    "NVIDIA H100 80GB HBM3": "H100-80GB",
    "NVIDIA-H100-80GB-HBM3": "H100-80GB",
    "h100 sxm5": "H100-80GB",
    "NVIDIA H100 PCIe": "H100-PCIE-80GB",
    "NVIDIA H100 NVL": "H100-NVL-94GB",
    "NVIDIA H200": "H200-141GB",
    "nvidia-h200-141gb": "H200-141GB",
    "NVIDIA GH200 480GB": "GH200-96GB",
    "NVIDIA GB200": "GB200-186GB",
    "NVIDIA B200": "B200-180GB",
    "NVIDIA B300 SXM6 AC": "B300-288GB",
    "NVIDIA-A100-SXM4-40GB": "A100-40GB",
    "NVIDIA-A100-SXM4-80GB": "A100-80GB",
    "NVIDIA A100 80GB PCIe": "A100-PCIE-80GB",
    "NVIDIA A100-PCIE-40GB": "A100-PCIE-40GB",
    "nvidia-tesla-a100": "A100-40GB",
    "a100 80g": "A100-80GB",
    "NVIDIA A10": "A10-24GB",
    "NVIDIA-A10G": "A10G-24GB",
    "NVIDIA-A10G-SHARED": "A10G-24GB",
    "NVIDIA L4": "L4-24GB",
    "NVIDIA L40S": "L40S-48GB",
    "Tesla T4": "T4-16GB",
    "Tesla-V100-SXM2-16GB": "V100-16GB",
    "Tesla V100-PCIE-32GB": "V100-32GB",
    "NVIDIA RTX 6000 Ada Generation": "RTX6000ADA-48GB",
    "NVIDIA RTX A6000": "RTXA6000-48GB",
    "NVIDIA RTX PRO 6000 Blackwell Workstation Edition": "RTXPRO6000-96GB",
    "NVIDIA RTX PRO 6000 Blackwell Server Edition": "RTXPRO6000-SERVER-96GB",
    "NVIDIA GeForce RTX 5090": "RTX5090-32GB",
    "NVIDIA-GeForce-RTX-4090": "RTX4090-24GB",
    "4090": "RTX4090-24GB",
    "AMD Instinct MI300X OAM": "MI300X-192GB",
    "AMD_Instinct_MI325X_OAM": "MI325X-256GB",
}


@pytest.mark.parametrize("name", [*NAMES, *PRODUCTS])
def test_a_gpu_is_found_by_every_name_that_it_goes_by(name):
    found = product_named(name)
    assert found is not None
    assert found.name == NAMES.get(name, name)


@pytest.mark.parametrize(
    "name", ["", "NVIDIA-H100-80GB-HBM3-MIG-1g.10gb", "NVIDIA GeForce RTX 4090 Laptop GPU", "RTX 4070 Ti", "H100-40GB"]
)
def test_a_gpu_that_is_like_a_known_one_is_not_taken_for_it(name):
    assert product_named(name) is None


def test_names_that_are_nearly_known_are_found():
    assert nearest_names("RTX 6000") == ["RTXA6000-48GB", "RTXPRO6000-96GB", "RTX6000ADA-48GB"]
    assert nearest_names("MI300")[0] == "MI300X-192GB"
    assert nearest_names("RTX 4090 Laptop GPU") == ["RTX4090-24GB"]
    assert nearest_names("banana") == []


@pytest.mark.parametrize(
    ("name", "gib", "like"),
    [
        ("NVIDIA H100 80GB HBM3", 79.1, "H100-80GB"),
        ("NVIDIA H100 PCIe", 79.1, "H100-PCIE-80GB"),
        ("NVIDIA A100-SXM4-40GB", 39.4, "A100-40GB"),
        ("NVIDIA GH200 480GB", 94.5, "GH200-96GB"),
        ("NVIDIA GeForce RTX 4090", 23.6, "RTX4090-24GB"),
        ("Tesla T4", 14.6, "T4-16GB"),
        ("Some Future GPU", 178.0, "B200-180GB"),
    ],
)
def test_the_drivers_names_find_their_data_sheet_and_keep_their_real_memory(name, gib, like):
    gpu = visible_gpu_shape(name, int(gib * GIB))
    assert gpu.memory_bytes == int(gib * GIB)
    assert (gpu.bandwidth, gpu.flops) == (PRODUCTS[like].bandwidth, PRODUCTS[like].flops)
    assert ("stand in for its own" in gpu.remark) == (name == "Some Future GPU")


def test_a_mig_slice_has_its_share_of_the_bandwidth():
    gpu = visible_gpu_shape("NVIDIA H100 80GB HBM3 MIG 1g.10gb", int(9.9 * GIB))
    assert gpu.bandwidth == pytest.approx(PRODUCTS["H100-80GB"].bandwidth / 8, rel=0.01)


@pytest.mark.parametrize(
    ("gpu", "said"), [("MI300X", "is untested with specbatch"), ("T4", "much slower than predicted")]
)
def test_what_a_gpu_lacks_is_said_in_the_plan(gpu, said):
    notes = plan_of(gpu, "batching.maxLength=512", drafter=None, target="qwen3-0.6b").notes
    assert any(note.startswith(f"GPU {gpu}-") and said in note for note in notes)
    assert not any(note.startswith("GPU ") for note in plan_of("H100").notes)
