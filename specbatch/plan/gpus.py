"""GPUs as they are written on a command line: `8xH100-80GB`, or a shape by hand; and the CPU as a device."""

from __future__ import annotations

import os
import re
from pathlib import Path

from specbatch.errors import DeviceError
from specbatch.plan.gpu_products import GIB, PRODUCTS, gpu, nearest_names, product_named
from specbatch.plan.types import GpuShape

_CPU_BANDWIDTH = 20e9
_CPU_FLOPS = 0.2e12
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")

_COUNTED = re.compile(r"(?:(\d+)\s*[x\N{MULTIPLICATION SIGN}*]\s*)?(.+)", re.IGNORECASE)
_CUSTOM = re.compile(r"(N)\s*GB@(N)\s*([GT])B/s(?:@(N)\s*TF)?".replace("N", r"\d+(?:\.\d+)?"), re.IGNORECASE)


def parse_gpus(text: str, count: int | None = None) -> tuple[GpuShape, ...]:
    """GPUs from `8xH100-80GB`, `H100`, of several products `2xA100-80GB,2xA100-40GB`, or of any make: `4x96GB@3.3TB/s@900TF`.

    Args:
        text: how many (may be left out), and which; cuda:0 first.
        count: how many when the text does not say; 1 when None.

    Raises:
        DeviceError: the text is malformed or the product is not known.
    """
    kinds = [_counted(part) for part in text.split(",")]
    each = count or 1 if len(kinds) == 1 else 1
    return tuple(gpu for number, name in kinds for gpu in (_product(name),) * (number or each))


def counted(text: str) -> int | None:
    """How many GPUs the text says there are: of `8xH100` 8; None where it names one product without a count.

    Raises:
        DeviceError: no product is named, or the count is 0.
    """
    numbers = [_counted(part)[0] for part in text.split(",")]
    return numbers[0] if len(numbers) == 1 else sum(number or 1 for number in numbers)


def _counted(text: str) -> tuple[int | None, str]:
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
        gigabytes, terabytes = float(custom[1]), float(custom[2]) / (1000 if custom[3] in "gG" else 1)
        # Without a figure for arithmetic, the ratio of an H100: bandwidth then decides, as it does in decoding.
        teraflops = float(custom[4]) if custom[4] else terabytes * 295
        if not min(gigabytes, terabytes, teraflops):
            raise DeviceError(
                "a GPU without memory or speed", where=name, remedy="write for example 96GB@3.3TB/s@900TF"
            )
        return gpu(name, gigabytes * 1e9 / GIB, terabytes, teraflops)
    product = product_named(name)
    if product is not None:
        return product
    close = nearest_names(name)
    known = f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(PRODUCTS)}."
    raise DeviceError(
        f"GPU {name!r} is not known",
        remedy=f"{known} Any other is given as memory@bandwidth@arithmetic, by its data sheet: 96GB@3.3TB/s@900TF",
    )


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
