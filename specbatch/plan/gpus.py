"""GPU products and their data sheets; `8xH100-80GB` and custom shapes, parsed."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Sequence
from pathlib import Path

from specbatch.errors import DeviceError
from specbatch.plan.types import GpuShape

GIB = 1 << 30


def _gpu(name: str, gib: float, terabytes_a_second: float, teraflops: float) -> GpuShape:
    return GpuShape(name, int(gib * GIB), terabytes_a_second * 1e12, teraflops * 1e12)


# Memory as the driver shows it (GiB), bandwidth and dense bf16 (fp16 where there is no bf16) from the data sheets.
PRODUCTS = {
    gpu.name: gpu
    for gpu in (
        _gpu("B200-180GB", 178.0, 8.0, 2250),
        _gpu("H200-141GB", 139.8, 4.8, 989),
        _gpu("H100-80GB", 79.2, 3.35, 989),
        _gpu("H100-PCIE-80GB", 79.2, 2.0, 756),
        _gpu("H100-NVL-94GB", 93.1, 3.9, 835),
        _gpu("H20-96GB", 95.6, 4.0, 148),
        _gpu("A100-80GB", 79.2, 2.039, 312),
        _gpu("A100-40GB", 39.4, 1.555, 312),
        _gpu("A800-80GB", 79.2, 2.039, 312),
        _gpu("A30-24GB", 23.6, 0.933, 165),
        _gpu("A10-24GB", 22.5, 0.6, 125),
        _gpu("L4-24GB", 22.5, 0.3, 121),
        _gpu("L40S-48GB", 44.7, 0.864, 362),
        _gpu("T4-16GB", 14.6, 0.32, 65),
        _gpu("V100-32GB", 31.7, 0.9, 125),
        _gpu("RTX4090-24GB", 23.5, 1.008, 165),
        _gpu("RTX3090-24GB", 23.6, 0.936, 71),
        _gpu("MI300X-192GB", 191.5, 5.3, 1307),
    )
}

_CPU_BANDWIDTH = 20e9
_CPU_FLOPS = 0.2e12
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")

_COUNTED = re.compile(r"(?:(\d+)\s*[x\N{MULTIPLICATION SIGN}*]\s*)?(.+)", re.IGNORECASE)
_CUSTOM = re.compile(r"([\d.]+)\s*GB@([\d.]+)\s*TB/s(?:@([\d.]+)\s*TF)?", re.IGNORECASE)


def parse_gpus(text: str, count: int | None = None) -> tuple[GpuShape, ...]:
    """GPUs from `8xH100-80GB`, `H100`, `2xA100-40GB`, or of any make: `4x96GB@3.3TB/s@900TF`.

    Args:
        text: how many (may be left out), and which.
        count: how many when the text does not say; 1 when None.

    Raises:
        DeviceError: the text is malformed or the product is not known.
    """
    number, name = counted(text)
    return (_product(name),) * (number or count or 1)


def counted(text: str) -> tuple[int | None, str]:
    """`8xH100` as (8, "H100"); the count is None where it is left out.

    Raises:
        DeviceError: no product is named, or the count is 0.
    """
    found = _COUNTED.fullmatch(text.strip())
    if not found:
        raise DeviceError("no GPU is named", where=repr(text), remedy="write for example 8xH100-80GB")
    if found[1] and int(found[1]) == 0:
        raise DeviceError(
            "the count of GPUs is 0",
            where=repr(text),
            remedy="leave --gpus out, and set placement.gpus to 0 for the CPU",
        )
    return (int(found[1]) if found[1] else None), found[2].strip()


def _product(name: str) -> GpuShape:
    custom = _CUSTOM.fullmatch(name)
    if custom:
        gigabytes, terabytes = float(custom[1]), float(custom[2])
        # Without a figure for arithmetic, the ratio of an H100: bandwidth then decides, as it does in decoding.
        teraflops = float(custom[3]) if custom[3] else terabytes * 295
        return _gpu(name, gigabytes * 1e9 / GIB, terabytes, teraflops)
    product = product_named(name)
    if product is not None:
        return product
    close = difflib.get_close_matches(name.upper(), PRODUCTS, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    raise DeviceError(
        f"GPU {name!r} is not known",
        remedy=f"{hint}known: {', '.join(PRODUCTS)}; any other as memory@bandwidth@arithmetic: 96GB@3.3TB/s@900TF",
    )


def visible_gpu_shape(name: str, memory_bytes: int) -> GpuShape:
    """The shape of a GPU that the driver calls `name`, such as "NVIDIA H100 80GB HBM3", with its real memory.

    A MIG slice gets the share of the bandwidth and arithmetic that it has of the memory. A product that is not known
    gets the figures of the known product nearest in memory: a rough ceiling is better than none.
    """
    words = _words(name)
    candidates = _of_name(words) or list(PRODUCTS.values())
    if "MIG" in words:
        whole = max(candidates, key=lambda gpu: gpu.memory_bytes)
        share = min(1.0, memory_bytes / whole.memory_bytes)
        return GpuShape(name, memory_bytes, whole.bandwidth * share, whole.flops * share)
    nearest = min(candidates, key=lambda gpu: abs(gpu.memory_bytes - memory_bytes))
    return GpuShape(name, memory_bytes, nearest.bandwidth, nearest.flops)


def product_named(name: str) -> GpuShape | None:
    """The product that a person (`h100`, `A100-40GB`) or a node label (nvidia.com/gpu.product=NVIDIA-H100-80GB-HBM3) names.

    Without its memory the first of that name: A100 is A100-80GB. None: not one we know, of another memory, or a MIG slice.
    """
    words = _words(name)
    candidates = [] if "MIG" in words else _of_name(words)
    if any(re.fullmatch(r"[0-9]+GI?B?", word) for word in words):
        candidates = [gpu for gpu in candidates if gpu.name.rsplit("-", 1)[1] in words]
    return next(iter(candidates), None)


def _words(name: str) -> list[str]:
    return re.split(r"[^A-Z0-9]+", re.sub(r"RTX[ -]", "RTX", name.upper()))


def _of_name(words: Sequence[str]) -> list[GpuShape]:
    """The products of that name: of the variant (PCIE, NVL) that the words hold, else of the plain one."""
    alike = [(gpu, gpu.name.split("-")) for gpu in PRODUCTS.values()]
    alike = [(gpu, parts) for gpu, parts in alike if parts[0] in words]
    variants = [gpu for gpu, parts in alike if len(parts) == 3 and parts[1] in words]
    return variants or [gpu for gpu, parts in alike if len(parts) == 2]


def cpu_shape(
    memory_bytes: int | None = None, *, bandwidth: float = _CPU_BANDWIDTH, flops: float = _CPU_FLOPS
) -> GpuShape:
    """The host as a device.

    Args:
        memory_bytes: what this process may use, when None.
        bandwidth: bytes a second; the default is that of a common server, a rough guess: machines differ too much.
        flops: the same.
    """
    return GpuShape("CPU", _host_memory() if memory_bytes is None else memory_bytes, bandwidth, flops)


def _host_memory(limit_file: Path = _CGROUP_LIMIT) -> int:
    """Physical memory, or the container's limit where that is less."""
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        return min(physical, int(limit_file.read_text()))
    except (OSError, ValueError):  # no cgroup v2 here, or "max"
        return physical
