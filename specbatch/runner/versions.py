"""Versions of the packages that decide on results and speed, and the hardware: both go into the manifest."""

from __future__ import annotations

import contextlib
import os
import platform
from collections import Counter
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

import specbatch
from specbatch.plan.types import Plan
from specbatch.results.hardware import Hardware

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


def hardware(plan: Plan, cpuinfo: Path = Path("/proc/cpuinfo")) -> Hardware:
    """The devices that a plan uses, and this host."""
    gpus = Counter(use.gpu for use in plan.devices if use.gpu != "CPU" and use.weight_bytes)
    return Hardware(gpus=dict(gpus), cpus=os.cpu_count() or 0, cpu=_processor(cpuinfo))


def _processor(cpuinfo: Path) -> str:
    with contextlib.suppress(OSError):
        for line in cpuinfo.read_text("utf-8", "replace").splitlines():
            if line.startswith("model name"):
                return " ".join(line.partition(":")[2].split())
    return platform.processor()
