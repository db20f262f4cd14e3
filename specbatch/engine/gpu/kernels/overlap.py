"""Programmatic dependent launch: a kernel starts while the one before it ends, which hides most of what a boundary costs.

Every kernel that is launched so calls gdc_wait before it reads or writes what the kernel before it may write or read, and
gdc_launch_dependents after that, when only its last stores are left. So when a kernel starts, all but the one before it have
ended: what those wrote may be read before gdc_wait. Kernels of PyTorch's, launched without, wait as they always do.
"""

from __future__ import annotations

import os
from functools import cache

import torch
import triton

_HOPPER = 9


@cache
def overlap(device: torch.device) -> dict[str, bool]:
    """Launch options of a kernel with the constant `overlapped`: on from Hopper, off by SPECBATCH_NO_OVERLAP=1."""
    able = (
        device.type == "cuda"
        and not triton.knobs.runtime.interpret
        and torch.cuda.get_device_capability(device)[0] >= _HOPPER
        and os.environ.get("SPECBATCH_NO_OVERLAP") != "1"
    )
    return {"overlapped": True, "launch_pdl": True} if able else {"overlapped": False}
