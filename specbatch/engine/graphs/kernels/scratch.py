"""Memory that kernels share from launch to launch: a piece for each lane of a device, since lanes run at once."""

from __future__ import annotations

import threading

_thread = threading.local()


def use_lane(number: int) -> None:
    """What this thread launches from now on belongs to the lane."""
    _thread.lane = number


def current_lane() -> int:
    """The lane that this thread launches for; 0 where nobody has said."""
    return getattr(_thread, "lane", 0)
