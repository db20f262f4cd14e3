"""What a run was made with: versions of specbatch, Python and the packages that decide on results and speed."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

import torch

import specbatch

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
