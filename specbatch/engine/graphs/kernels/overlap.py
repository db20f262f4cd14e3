"""Programmatic dependent launch: a kernel starts while the one before it ends, which hides most of what a boundary costs.

Every kernel that is launched so calls gdc_wait before it reads or writes what a kernel before it may write or read. Most call
gdc_launch_dependents after that, when only their last stores are left: the next one then starts when all but this one have ended.

A linear may call it first of all (`early`). The one that follows starts while those before are still at work, and asks for its weights;
it may let the next one in as early, and so on: as far ahead as the multiprocessors have registers. Kernels that stand behind one
therefore read nothing before gdc_wait but weights and what was written before the step's first linear: rows, positions, page tables.
Which kernels do so was tried out in every combination (decision 0015): attention does not.

gdc_wait returns when the kernel before has ended, which has itself waited for the one before: so everything is there after it.
Kernels of PyTorch's, launched without, wait as they always do.
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
