"""Rows of old splits that are published and not here: read where they are, to know which rows are finished."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Sequence
from typing import cast

from specbatch.backoff import Backoff
from specbatch.errors import ResultsError
from specbatch.results.layout import ShardFile
from specbatch.results.shard.old_splits import DamagedRowsError, SeeLine, see_lines
from specbatch.results.storage.folder import Folder

_READ_BYTES = 1 << 20


def read_published(
    folder: Folder,
    files: Sequence[ShardFile],
    on_line: SeeLine,
    *,
    seconds: float,
    say: Callable[[str], None],
    backoff: Backoff | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Gives every row of the files; one that was read in part when the store failed is read again from its begin.

    Args:
        folder: where they are.
        files: which ones.
        on_line: gets the rows; those that it does not get are decoded again.
        seconds: give up after so long without any success.
        say: shows a line to people.
        backoff: between tries.
        clock: seconds.
        sleep: waits.
    """
    if files:
        say(f"reading {len(files)} published files of the run as it was split before: none are here")
    backoff = backoff or Backoff()
    left, failures, moved_at = list(files), 0, clock()
    while left:
        try:
            _read(folder, left[0], on_line)
        except DamagedRowsError as error:
            say(f"published file {left.pop(0).name}: {error.message}: rows after that are decoded again")
        except ResultsError as error:
            failures += 1
            if clock() - moved_at < seconds:
                sleep(backoff.seconds(failures))
                continue
            say(f"{len(left)} published files cannot be read, their rows are decoded again: {error.message}")
            return
        else:
            left.pop(0)
        failures, moved_at = 0, clock()


def _read(folder: Folder, file: ShardFile, on_line: SeeLine) -> None:
    with (
        folder.explained("read the file", file.name),
        folder.open(file.name) as stream,
        io.BufferedReader(cast("io.RawIOBase", stream), _READ_BYTES) as lines,
    ):
        see_lines(lines, file, folder.path_of(file.name), on_line)
