"""Versions of the packages that decide on results and speed, and the hardware: both go into the manifest."""

from __future__ import annotations

import contextlib
import os
import platform
import re
from collections import Counter
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

import specbatch
from specbatch.plan.types import Plan
from specbatch.results.hardware import Hardware

_VERSION = re.compile(r"\b\d{3,}\.\d+(\.\d+)*\b")  # 580.82.07
_VERSIONED = ("torch", "transformers", "tokenizers", "accelerate", "safetensors", "gguf")


def versions() -> dict[str, str]:
    """Package -> version, as the manifest keeps them."""
    found = {"specbatch": specbatch.__version__, "python": platform.python_version()}
    for name in _VERSIONED:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    if torch.version.cuda:
        found["cuda"] = torch.version.cuda
    return found


def hardware(plan: Plan, proc: Path = Path("/proc")) -> Hardware:
    """The devices that a plan uses, and this host."""
    used = [use for use in plan.devices if use.gpu != "CPU" and use.weight_bytes]
    return Hardware(
        gpus=dict(Counter(use.gpu for use in used)),
        gpu_bytes={use.gpu: use.memory_bytes for use in used},
        driver=_driver(proc / "driver/nvidia/version") if used else "",
        cpus=os.cpu_count() or 0,
        cpu=_processor(proc / "cpuinfo"),
    )


def _driver(file: Path) -> str:
    """Of NVIDIA GPUs, as the kernel module says it: also in a container, which sees the host's."""
    with contextlib.suppress(OSError):
        if found := _VERSION.search(file.read_text("utf-8", "replace")):
            return found[0]
    return ""


def _processor(cpuinfo: Path) -> str:
    with contextlib.suppress(OSError):
        for line in cpuinfo.read_text("utf-8", "replace").splitlines():
            if line.startswith("model name"):
                return " ".join(line.partition(":")[2].split())
    return platform.processor()
