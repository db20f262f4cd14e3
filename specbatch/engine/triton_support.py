"""Whether Triton's kernels run on a GPU, and what to do where one does not."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_refused: dict[torch.device, str] = {}  # what has failed once is not tried again


class KernelError(Exception):
    """A kernel cannot be compiled or started on a GPU; from now on `why_no_kernels` says so."""


def why_no_kernels(device: torch.device) -> str | None:
    """What keeps Triton's kernels from running on a GPU, in words; None if nothing does. SPECBATCH_NO_TRITON=1 does."""
    if os.environ.get("SPECBATCH_NO_TRITON") == "1":
        return "SPECBATCH_NO_TRITON is set"
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed"
    if device not in _refused and (reason := _why_not_compiled()) is not None:
        _refused[device] = reason
    return _refused.get(device)


def _why_not_compiled() -> str | None:
    """Triton builds what launches a kernel with the machine's C compiler, which slim images lack; its driver is built alike."""
    from triton.runtime import driver  # noqa: PLC0415  # Triton is not installed with a CPU's torch

    try:
        driver.active.get_current_target()
    except Exception as error:  # noqa: BLE001 - no compiler, one that fails, nowhere to write to
        return f"Triton cannot compile here ({_first_line(error)}); it needs a C compiler, such as gcc, and Python's headers"
    return None


@contextmanager
def refusing_kernels(device: torch.device) -> Iterator[None]:
    """Makes of Triton's errors a KernelError."""
    try:
        yield
    except Exception as error:
        known = any(kind.__name__ == "TritonError" for kind in type(error).__mro__)
        if not known and "PassManager::run failed" not in str(error):  # a plain RuntimeError of Triton's compiler
            raise
        _refused[device] = f"a kernel does not run on this GPU ({_first_line(error)})"
        raise KernelError(_refused[device]) from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
