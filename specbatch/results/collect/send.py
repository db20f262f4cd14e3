"""Sends the files of a run to standard output: what `specbatch collect NAME` runs in a pod that sees the volume.

    python -m specbatch.results.collect.send DIR [NAME OFFSET]

For each file a line of JSON {"name", "offset", "size"}, and after it the file's bytes from the offset up to the size; at the end
{"end": true}, or {"error": why, "beside": folders that are there, "denied": true where they may not be read}. With NAME and OFFSET it goes on there after a lost connection.

Rows come last: what a manifest says of a file is in the file by then, also while the run goes on. Needs nothing but Python.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from specbatch.results.layout import REPORT, ROW_KINDS, SUCCESS

_BYTES = 1 << 18
_SHOWN = 10


def send(folder: Path, out: BinaryIO, after: tuple[str, int] | None = None) -> None:
    """Writes every file of a run to a stream.

    Args:
        folder: the run's.
        out: the stream.
        after: (name, offset) to go on at. Only files of rows are gone on with, as they only grow; others begin again.
    """
    if not folder.is_dir():
        beside = (
            sorted(path.name for path in folder.parent.iterdir() if path.is_dir()) if folder.parent.is_dir() else []
        )
        _say(out, error=f"there is no folder {folder}", beside=beside[:_SHOWN])
        return
    names = [path.name for path in folder.iterdir() if path.name != REPORT and path.name[0] != "." and path.is_file()]
    for name in sorted(names, key=_order):
        if after is None or _order(name) >= _order(after[0]):
            begin = after[1] if after is not None and name == after[0] and _grows(name) else 0
            _send_file(folder / name, out, begin)
    _say(out, end=True)


def _order(name: str) -> tuple[int, str]:
    return (0 if name == SUCCESS else 2 if _grows(name) else 1), name


def _grows(name: str) -> bool:
    return name.startswith(tuple(f"{kind}-" for kind in ROW_KINDS))


def _send_file(path: Path, out: BinaryIO, begin: int) -> None:
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return  # replaced by another, or taken away, since the listing
    with file:
        size = os.fstat(file.fileno()).st_size
        begin = begin if begin <= size else 0
        _say(out, name=path.name, offset=begin, size=size)
        file.seek(begin)
        left = size - begin
        while left:
            data = file.read(min(left, _BYTES))
            if not data:
                raise SystemExit(f"{path} became shorter while it was read")
            out.write(data)
            left -= len(data)


def _say(out: BinaryIO, **fields: object) -> None:
    out.write(json.dumps(fields).encode() + b"\n")


def main(arguments: Sequence[str]) -> None:
    """The command line above."""
    folder, *after = arguments
    try:
        send(Path(folder), sys.stdout.buffer, (after[0], int(after[1])) if after else None)
    except PermissionError as error:  # only ever before a file's first byte
        groups = ", ".join(map(str, sorted({os.getegid(), *os.getgroups()})))
        who = f"the pod is user {os.geteuid()} in groups {groups}"
        _say(sys.stdout.buffer, error=f"{error.filename}: {error.strerror}: {who}", denied=True)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
