"""What a run was decoded on: GPUs by product and number, and the host's CPUs. Kept in the manifests."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

_DEVICE = re.compile(r"^\W*(?:cuda:\d+ (\S+)|(cpu))\b", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """The devices that the placement uses, and their host.

    Args:
        gpus: product -> how many; empty on a CPU.
        gpu_bytes: product -> memory of one.
        driver: of the GPUs, its version; empty where that is not known.
        cpus: of the host; 0 where that is not known.
        cpu: the host's processor.
    """

    gpus: Mapping[str, int] = field(default_factory=dict)
    gpu_bytes: Mapping[str, int] = field(default_factory=dict)
    driver: str = ""
    cpus: int = 0
    cpu: str = ""

    def __str__(self) -> str:
        host = f"{self.cpus} CPUs" if self.cpus else "" if self.gpus else "CPU"
        if self.cpu:
            host += f" ({self.cpu})"
        gpus = [f"{count} x {product}" for product, count in self.gpus.items()]
        driver = [f"driver {self.driver}"] if self.driver else []
        return ", ".join([*gpus, *driver, *([host] if host else [])])


def products(placement_tree: str) -> list[str]:
    """The products that a manifest's placement names: of GPUs, or "cpu"."""
    return sorted({gpu or cpu for gpu, cpu in _DEVICE.findall(placement_tree)})
