"""Which process writes a shard, and whether it still lives: told from outside without touching anything of it.

No lock is taken to find out, not even a shared one for an instant: a run that starts in that instant would be refused. The process
names itself in the progress file instead, in a way that no later process can repeat; and the kernel's list of locks says, for those
that it shows, who holds a file before there is a progress file of theirs.
"""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path
from typing import Self

import msgspec

_PROC = Path("/proc")


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """A process for good: `space` is the boot and the pid namespace in which `pid` counts, `started` its start in clock ticks.

    Both are empty where the system does not tell (it is not Linux): then nobody can say from outside whether it lives.
    """

    host: str
    pid: int
    space: str = ""
    started: str = ""

    @classmethod
    def current(cls) -> Self:
        """This one."""
        pid = os.getpid()
        return cls(host=socket.gethostname(), pid=pid, space=_space(), started=_started(pid))

    @property
    def alive(self) -> bool | None:
        """Whether it lives; None where that cannot be told from here: another machine or another container."""
        if not self.space or not self.started or self.space != _space():
            return None
        return _started(self.pid) == self.started


def seen_locked(path: Path) -> bool:
    """Whether the kernel's list shows a writer's lock on the file. It is a list of this machine and container: False says nothing."""
    with contextlib.suppress(OSError):
        found = path.stat()
        device = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
        lines = (_PROC / "locks").read_text().splitlines()
        return any({"FLOCK", "WRITE", device} <= set(line.split()) for line in lines if "->" not in line)
    return False


def _space() -> str:
    with contextlib.suppress(OSError):
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {(_PROC / 'self/ns/pid').readlink()}"
    return ""


def _started(pid: int) -> str:
    """The start time of a process that lives, and is no zombie; empty where there is none."""
    with contextlib.suppress(OSError, IndexError):
        # The name stands in brackets and may hold anything; what follows the last bracket begins with the state.
        state, *rest = (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
        return "" if state in {"Z", "X"} else rest[18]
    return ""
