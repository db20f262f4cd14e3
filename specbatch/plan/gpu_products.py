"""The GPUs that are known by name: memory, bandwidth and arithmetic of their data sheets, and the names people, drivers and node labels have for them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from specbatch.plan.types import GpuShape

GIB = 1 << 30
_FP16_ONLY = (
    "computes in float16 and float32 only, and specbatch in bfloat16 or float32: it will be much slower than predicted"
)
_AMD = "is untested with specbatch: PyTorch for ROCm is needed, and the recorded rounds' kernels have run on NVIDIA GPUs only"


def gpu(name: str, gib: float, terabytes_a_second: float, teraflops: float, remark: str = "") -> GpuShape:
    """A GPU from its data sheet's units."""
    return GpuShape(name, int(gib * GIB), terabytes_a_second * 1e12, teraflops * 1e12, remark)


# Memory as CUDA or HIP reports it (GiB, with ECC where that is the default), bandwidth (TB/s), dense bf16 with float32 sums (TFLOP/s, without
# sparsity; fp16 where there is no bf16). One with a variant (PCIE, NVL) stands behind the plain one; of one name, the first is meant.
PRODUCTS = {
    one.name: one
    for one in (
        # NVIDIA, data centre. Source: the data sheet of each on nvidia.com; Blackwell: HGX and GB200 NVL72 data sheets, a GPU's share.
        gpu("GB200-186GB", 184.3, 8.0, 2500),  # GB200 NVL72: 360 PFLOP/s with sparsity over 72 GPUs
        gpu("B300-288GB", 267.6, 8.0, 2250),  # HGX B300: 36 PFLOP/s with sparsity over 8
        gpu("B200-180GB", 178.3, 8.0, 2250),  # HGX B200: 36 PFLOP/s with sparsity over 8
        gpu("GH200-96GB", 94.5, 4.0, 989),  # Grace Hopper, HBM3
        gpu("GH200-144GB", 139.8, 4.9, 989),  # Grace Hopper, HBM3e
        gpu("H200-141GB", 139.8, 4.8, 989),
        gpu("H200-NVL-141GB", 139.8, 4.8, 836),
        gpu("H100-80GB", 79.2, 3.35, 989),  # SXM5
        gpu("H100-PCIE-80GB", 79.2, 2.0, 756),
        gpu("H100-NVL-94GB", 93.1, 3.9, 835),
        gpu("H800-80GB", 79.2, 3.35, 989),
        gpu("H20-96GB", 95.1, 4.0, 148),
        gpu("A100-80GB", 79.2, 2.039, 312),  # SXM4
        gpu("A100-40GB", 39.4, 1.555, 312),
        gpu("A100-PCIE-80GB", 79.2, 1.935, 312),
        gpu("A100-PCIE-40GB", 39.4, 1.555, 312),
        gpu("A800-80GB", 79.2, 2.039, 312),
        gpu("A40-48GB", 44.4, 0.696, 150),
        gpu("A30-24GB", 23.5, 0.933, 165),
        gpu("A10-24GB", 22.1, 0.6, 125),
        gpu("A10G-24GB", 22.1, 0.6, 70),  # AWS G5
        gpu("L40S-48GB", 44.4, 0.864, 362),
        gpu("L40-48GB", 44.4, 0.864, 181),
        gpu("L20-48GB", 44.4, 0.864, 119.5),
        gpu("L4-24GB", 22.1, 0.3, 121),
        gpu("T4-16GB", 14.6, 0.32, 65, _FP16_ONLY),
        gpu("V100-32GB", 31.7, 0.9, 125, _FP16_ONLY),
        gpu("V100-16GB", 15.8, 0.9, 125, _FP16_ONLY),
        # NVIDIA, workstation. Source: data sheets on nvidia.com; of the FP16 rate with sparsity the half.
        gpu("RTXPRO6000-96GB", 94.9, 1.792, 503),  # Blackwell, Workstation Edition
        gpu("RTXPRO6000-SERVER-96GB", 94.9, 1.597, 503),  # Blackwell, Server Edition
        gpu("RTX6000ADA-48GB", 47.4, 0.96, 364),
        gpu("RTXA6000-48GB", 47.4, 0.768, 155),
        gpu("GB10-128GB", 119.6, 0.273, 125),  # DGX Spark: memory shared with the host
        # NVIDIA, GeForce. Source: the white papers of the Ampere, Ada and Blackwell architectures (FP16 with FP32 accumulate).
        gpu("RTX5090-32GB", 31.3, 1.792, 209.5),
        gpu("RTX5080-16GB", 15.5, 0.96, 112.6),
        gpu("RTX4090-24GB", 23.5, 1.008, 165),
        gpu("RTX4080-16GB", 15.6, 0.717, 97.5),
        gpu("RTX3090-24GB", 23.6, 0.936, 71),
        # AMD. Source: data sheets on amd.com.
        gpu("MI355X-288GB", 287.5, 8.0, 2516, _AMD),
        gpu("MI325X-256GB", 255.5, 6.0, 1307, _AMD),
        gpu("MI300X-192GB", 191.5, 5.3, 1307, _AMD),
        gpu("MI250X-64GB", 63.9, 1.638, 191.5, _AMD),  # one of its two dies, which is a device of its own
        gpu("MI210-64GB", 63.9, 1.638, 181, _AMD),
    )
}

# Left out when names are compared: makers, lines, sockets and what else stands in nvidia-smi and in the label nvidia.com/gpu.product.
_NOISE = re.compile(
    r"NVIDIA|AMD|TESLA(?!.A100)|GEFORCE|INSTINCT|GENERATION|BLACKWELL|EDITION|WORKSTATION|GRACE|HOPPER"
    r"|SXM\d?|OAM|HBM\d?E?|SHARED|\bGPUS?\b|\bRADEON\b|\bDGX\b|\bSPARK\b|\bAC\b|\bNVL72\b"
)
_MEMORY = re.compile(r"(?<![A-Z0-9])(\d+)\s*G(?:I?B)?(?![A-Z0-9])")
_MIG = re.compile(r"(?<![A-Z0-9])MIG(?![A-Z0-9]).*")
# Of a name without its noise and memory; with both where the memory is not the GPU's.
_ALIASES = {
    "GH200480GB": "GH200-96GB",  # the 480 GB are the host's
    "GH200120GB": "GH200-96GB",
    "TESLAA100": "A100-40GB",  # as GKE calls it
    "RTX6000PROSERVER": "RTXPRO6000-SERVER-96GB",
    "RTX6000PRO": "RTXPRO6000-96GB",
    "PRO6000": "RTXPRO6000-96GB",
    "RTXPRO6000MAXQ": "RTXPRO6000-96GB",
    "6000ADA": "RTX6000ADA-48GB",
    "A6000": "RTXA6000-48GB",
    "MI250": "MI250X-64GB",
}


def product_named(name: str) -> GpuShape | None:
    """The product that a person (`h100`, `A100-40GB`, `4090`), a driver or a node label (NVIDIA-H100-80GB-HBM3) names.

    Without its memory the first of that name: A100 is A100-80GB. None: not one we know, of another memory, or a MIG slice.
    """
    if _MIG.search(name.upper()):
        return None
    name = _ALIASES.get(_squashed(name), name)
    memory = _MEMORY.search(name.upper())
    return next((one for one in _of_name(name) if memory is None or one.name.endswith(f"-{memory[1]}GB")), None)


def nearest_names(name: str) -> list[str]:
    """Up to three products whose names are nearly that."""
    keys = {_key(product): product for product in PRODUCTS} | {_squashed(product): product for product in PRODUCTS}
    wanted = (_squashed(name), _key(name))
    close = [keys[key] for text in wanted for key in difflib.get_close_matches(text, keys, cutoff=0.76)]
    close += [product for key, product in keys.items() if len(key) > 2 and key in wanted[1]]
    return list(dict.fromkeys(close))[:3]


def visible_gpu_shape(name: str, memory_bytes: int) -> GpuShape:
    """The shape of a GPU that the driver calls `name`, such as "NVIDIA H100 80GB HBM3", with its real memory.

    A MIG slice gets the share of the bandwidth and arithmetic that it has of the memory. A product that is not known
    gets the figures of the known product nearest in memory: a rough ceiling is better than none.
    """
    found = _of_name(_MIG.sub("", name.upper()))
    candidates = found or list(PRODUCTS.values())
    if _MIG.search(name.upper()):
        whole = max(candidates, key=lambda one: one.memory_bytes)
        share = min(1.0, memory_bytes / whole.memory_bytes)
        return GpuShape(name, memory_bytes, whole.bandwidth * share, whole.flops * share, whole.remark)
    nearest = min(candidates, key=lambda one: abs(one.memory_bytes - memory_bytes))
    remark = nearest.remark if found else f"is not a known product: the figures of {nearest.name} stand in for its own"
    return GpuShape(name, memory_bytes, nearest.bandwidth, nearest.flops, remark)


def _of_name(name: str) -> Sequence[GpuShape]:
    """The products of that name, of whatever memory: of the variant that it has (PCIE, NVL), else of the plain one."""
    for key in (_squashed(name), _key(name), f"RTX{_key(name)}", _key(name).removesuffix("PCIE")):
        wanted = _key(_ALIASES.get(key, key))
        found = [one for product, one in PRODUCTS.items() if _key(product) == wanted]
        if found:
            return found
    return []


def _squashed(name: str) -> str:
    return re.sub(r"[^A-Z0-9]+", "", _NOISE.sub("", name.upper()))


def _key(name: str) -> str:
    """A name without its noise and memory: "NVIDIA A100 80GB PCIe" is A100PCIE."""
    return _squashed(_MEMORY.sub("", name.upper()))
