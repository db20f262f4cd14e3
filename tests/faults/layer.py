"""Between a run and its files: counts every call that changes what is under a root, and dies or fails at the one it is told.

It stands in for os.open, os.write, os.fsync, ... and open() of the forked process, and keeps `Disk` up to date. A test proves
that nothing goes past it: at the end of a run the disk's picture must be what really is there.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import pickle
import re
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.disk import Disk

_WRITING = os.O_WRONLY | os.O_RDWR


@dataclass
class Plan:
    """What is to happen.

    Args:
        root: the folder that is watched.
        dump: where to leave `Report` when the process dies or ends.
        at: the number of the call, from 1; 0: none.
        how: dies "before", in the "middle" of (writes only; others: before) or "after" the call; or it fails with an "error", a
            write where `torn` after half of its bytes; or SIGTERM comes just before ("told").
        error: the error's name: ENOSPC, ...
        lasting: whether all later calls that take room fail too.
        disk: a `Report` of the attempt before, killed on a machine that went on: what was not safe then is not safe now.
    """

    root: str
    dump: str
    at: int = 0
    how: str = "before"
    error: str = ""
    torn: bool = False
    lasting: bool = False
    disk: str = ""


@dataclass
class Report:
    """What an attempt leaves to those who look at it: its calls, in order, and the disk."""

    calls: list[str] = field(default_factory=list)
    disk: Disk | None = None

    @staticmethod
    def read(path: str | Path) -> Report:
        """As it was left."""
        report = pickle.loads(Path(path).read_bytes())
        assert isinstance(report, Report)
        return report


class Layer:
    """Installed once in a process; `finish` at its end."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._root = os.path.abspath(plan.root)
        self._disk = Report.read(plan.disk).disk if plan.disk else Disk(Path(self._root))
        self._calls: list[str] = []
        self._lock = threading.RLock()
        self._real = {name: getattr(os, name) for name in _CALLS}
        self._real_open = io.open

    def install(self) -> None:
        """From here on every call of this process goes through here."""
        for name in _CALLS:
            setattr(os, name, getattr(self, f"_{name}"))
        os.rename, os.remove, os.fdatasync = os.replace, os.unlink, os.fsync
        builtins.open = io.open = self._open_file

    def finish(self) -> None:
        """Leaves the report of a process that ends by itself."""
        with self._lock:
            self._leave()

    def _call(self, what: str, name: str, do: Callable[[], Any], *, half: Callable[[], Any] = lambda: None) -> Any:
        """One call that changes something: this is the boundary."""
        plan = self._plan
        with self._lock:
            self._calls.append(f"{what} {_plain(name)}")
            hit = len(self._calls) == plan.at
            if plan.how == "error":
                if (hit or (plan.lasting and len(self._calls) > plan.at)) and (
                    hit or what not in {"unlink", "replace"}
                ):
                    if plan.torn:
                        half()
                    number = getattr(errno, plan.error)
                    raise OSError(number, os.strerror(number), name)
                return do()
            if plan.how == "told":
                if hit:
                    os.kill(os.getpid(), signal.SIGTERM)
                return do()
            if hit and plan.how != "after":
                if plan.how == "middle":
                    half()
                self._die()
            try:
                return do()
            finally:
                if hit:
                    self._die()

    def _die(self) -> None:
        self._leave()
        os.kill(os.getpid(), signal.SIGKILL)

    def _leave(self) -> None:
        report = Report(self._calls, self._disk.freeze())
        with self._real_open(self._plan.dump, "wb", opener=self._real["open"]) as file:
            file.write(pickle.dumps(report))

    def _open(self, path, flags, mode=0o777, *, dir_fd=None):
        full = self._inside(path)
        if full is None or not flags & _WRITING:
            return self._real["open"](path, flags, mode, dir_fd=dir_fd)
        name = self._disk.name(full)
        new = not os.path.exists(full)
        if not (new and flags & os.O_CREAT) and not flags & os.O_TRUNC:
            return self._real["open"](path, flags, mode, dir_fd=dir_fd)

        def do():
            descriptor = self._real["open"](path, flags, mode, dir_fd=dir_fd)
            if new:
                self._disk.make(name)
            return descriptor

        return self._call("create" if new else "empty", name, do)

    def _write(self, descriptor, data):
        name = self._name_of(descriptor)
        if name is None:
            return self._real["write"](descriptor, data)
        view = memoryview(data)
        half = view[: len(view) // 2]
        return self._call(
            "write",
            name,
            lambda: self._real["write"](descriptor, data),
            half=lambda: half and self._real["write"](descriptor, half),
        )

    def _fsync(self, descriptor):
        name = self._name_of(descriptor)
        if name is None:
            return self._real["fsync"](descriptor)

        def do():
            self._real["fsync"](descriptor)
            self._disk.sync(name)

        return self._call("fsync", name, do)

    def _ftruncate(self, descriptor, length):
        name = self._name_of(descriptor)
        do = lambda: self._real["ftruncate"](descriptor, length)  # noqa: E731
        return do() if name is None else self._call("truncate", name, do)

    def _replace(self, old, new, *, src_dir_fd=None, dst_dir_fd=None):
        if self._inside(new) is None:
            return self._real["replace"](old, new, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
        before, after = self._disk.name(self._inside(old)), self._disk.name(self._inside(new))

        def do():
            self._disk.rename(before, after)
            self._real["replace"](old, new)

        return self._call("replace", after, do)

    def _unlink(self, path, *, dir_fd=None):
        full = self._inside(path)
        if full is None or not os.path.lexists(full):
            return self._real["unlink"](path, dir_fd=dir_fd)
        name = self._disk.name(full)

        def do():
            self._disk.remove(name)
            self._real["unlink"](path)

        return self._call("unlink", name, do)

    def _mkdir(self, path, mode=0o777, *, dir_fd=None):
        full = self._inside(path)
        if full is None or os.path.lexists(full):
            return self._real["mkdir"](path, mode, dir_fd=dir_fd)
        name = self._disk.name(full)

        def do():
            self._real["mkdir"](path, mode)
            self._disk.make(name, is_dir=True)

        return self._call("mkdir", name, do)

    def _open_file(
        self, file, mode="r", buffering=-1, encoding=None, errors=None, newline=None, closefd=True, opener=None
    ):
        if isinstance(file, int) or self._inside(file) is None or not set(mode) & set("wax+"):
            return self._real_open(file, mode, buffering, encoding, errors, newline, closefd, opener)
        raw = _CountedFile(os.fspath(file), mode.replace("b", "").replace("t", ""), opener=lambda path, flags: os.open(path, flags, 0o666))  # fmt: skip
        if buffering == 0:
            return raw
        binary = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return binary if "b" in mode else io.TextIOWrapper(binary, encoding, errors, newline)

    def _inside(self, path) -> str | None:
        """The absolute path, where it is under the root."""
        if isinstance(path, int):
            return None
        full = os.path.abspath(os.fsdecode(path))
        return full if full.startswith(self._root + "/") else None

    def _name_of(self, descriptor: int) -> str | None:
        """Which file under the root a descriptor is of; None for others."""
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        if path == self._root:
            return "."
        return self._disk.name(path) if path.startswith(self._root + "/") and " (deleted)" not in path else None


_CALLS = ("open", "write", "fsync", "ftruncate", "replace", "unlink", "mkdir")


class _CountedFile(io.FileIO):
    """A file whose writes are os.write, and so are seen."""

    def write(self, data):
        return os.write(self.fileno(), data)

    def truncate(self, size=None):
        size = self.tell() if size is None else size
        os.ftruncate(self.fileno(), size)
        return size


def _plain(name: str) -> str:
    """The name without what makes it another's."""
    return re.sub(r"\.\d+-[0-9a-f]+\.tmp$", ".tmp", name)
