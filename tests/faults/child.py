"""What goes wrong in an attempt: done in the forked process, before the run begins."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any


def prepare(setup: dict[str, Any]) -> Callable[[], None]:
    """Takes the keys faults (layer.Plan), clock (jumps: [after seconds, by seconds]), uid (whom to become).

    Returns:
        What to call at the end.
    """
    if "uid" in setup:
        os.setgroups([])
        os.setgid(setup["uid"])
        os.setuid(setup["uid"])
    if "clock" in setup:
        _let_clock_jump(setup["clock"])
    if "faults" in setup:
        from tests.faults.layer import Layer, Plan

        layer = Layer(Plan(**setup["faults"]))
        layer.install()
        return layer.finish
    return lambda: None


def _let_clock_jump(jumps: list[list[float]]) -> None:
    """The wall clock as an administrator or NTP sets it; the monotonic one goes on."""
    real, began = time.time, time.monotonic()

    def jumping() -> float:
        passed = time.monotonic() - began
        return real() + sum(by for after, by in jumps if passed >= after)

    time.time = jumping
