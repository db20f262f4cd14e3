"""The time that a run's chat templates are shown, where they read the clock: one for every shard, attempt and `verify`.

The first shard decides. Later ones find it in the identity files, here or where the run is published; until the first of these is there,
a small file keeps it: where the run is published, which shards without a common volume share, or else in the run's directory.
"""

from __future__ import annotations

import fcntl
import json
import os
from datetime import datetime
from pathlib import Path

from specbatch.errors import OutOfReachError, ResultsError
from specbatch.results.identity import Identity
from specbatch.results.layout import CLOCK, ShardFile, parse_names
from specbatch.results.storage.durable import make_directory, open_plain, results_error, sync_directory
from specbatch.results.storage.folder import Folder
from specbatch.results.storage.locking import lock_within
from specbatch.results.storage.typed import load_json

_LOCK_SECONDS = 10.0  # others hold the file for an instant only


def agreed_instant(run_dir: Path, published: Folder | None, file: ShardFile, proposal: datetime, *, fresh: bool) -> str:
    """The run's instant, ISO 8601 with its offset from UTC; whichever shard asks first sets it.

    Args:
        run_dir: the run's directory.
        published: where the run is published to.
        file: the asking shard's identity file.
        proposal: what it is where nothing says so yet.
        fresh: the shard's old results are about to be deleted, here and there: they do not count.

    Raises:
        ResultsError, OutOfReachError: neither the directory nor where it is published can be asked.
    """
    if (found := _of_identities(Folder(run_dir), file, fresh=fresh)) is not None:
        return found
    if published is None:
        if fresh:
            Folder(run_dir).remove(CLOCK)
        return _agree_here(run_dir, _encode(proposal))
    try:
        return _of_identities(published, file, fresh=fresh) or _agree_there(published, _encode(proposal), fresh=fresh)
    except (ResultsError, OutOfReachError) as error:
        raise type(error)(
            f"the chat template reads the clock, and which time the run shows must be asked where it is published: {error.message}",
            where=error.where,
            remedy=error.remedy,
        ) from error


def _of_identities(folder: Folder, file: ShardFile, *, fresh: bool) -> str | None:
    """What an identity file of the run says, if there is one that stays."""
    for other in parse_names(folder.sizes(), "identity"):
        if fresh and (other == file or other.shards != file.shards):
            continue
        try:
            instant = Identity.from_json(load_json(folder.read(other.name))).instant
        except (ValueError, KeyError, TypeError):
            continue  # whoever claims the folder says what is wrong with it
        if instant:
            return instant
    return None


def _agree_here(run_dir: Path, encoded: bytes) -> str:
    make_directory(run_dir)
    path = run_dir / CLOCK
    try:
        descriptor = open_plain(path, os.O_RDWR | os.O_CREAT)
        try:
            if not lock_within(descriptor, fcntl.LOCK_EX, _LOCK_SECONDS):
                raise ResultsError("another process holds the file", where=str(path), remedy="start again")
            found = os.pread(descriptor, 1 << 12, 0)
            if not found.endswith(b"\n"):  # a new file, or what a dying writer left: nobody has gone by that
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, encoded, 0)
                os.fsync(descriptor)
                sync_directory(run_dir)
                found = encoded
        finally:
            os.close(descriptor)
    except OSError as error:
        raise results_error(error, path, "agree on the run's time") from error
    return _decode(found, str(path))


def _agree_there(published: Folder, encoded: bytes, *, fresh: bool) -> str:
    if fresh:
        published.remove(CLOCK)
    published.write(CLOCK, encoded, new=True)
    return _decode(
        published.read(CLOCK), published.path_of(CLOCK)
    )  # of several that wrote at once the one that the store kept


def _encode(instant: datetime) -> bytes:
    return json.dumps({"instant": instant.isoformat(timespec="seconds")}).encode() + b"\n"


def _decode(data: bytes, where: str) -> str:
    try:
        return datetime.fromisoformat(load_json(data)["instant"]).isoformat()
    except (ValueError, KeyError, TypeError) as error:
        raise ResultsError(
            "not the file of a run's time", where=where, remedy="delete it; the next attempt makes a new one"
        ) from error
