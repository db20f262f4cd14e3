"""What this volume has put at the destination, kept beside the run's folder: by it an object that was changed there is told from another's."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from specbatch.results.layout import ShardFile
from specbatch.results.storage.durable import read_plain


class PublishedRecord:
    """name there -> sha256 of what was put, as far as remembered: lines of JSON, appended and not synced, as nothing depends on one.

    Args:
        run_dir: the run's directory.
        file: any file of the shard.
    """

    def __init__(self, run_dir: Path, file: ShardFile) -> None:
        self._path = record_path(run_dir, file.shard, file.shards)
        self._known: dict[str, str] = {}
        with contextlib.suppress(OSError):
            for line in read_plain(self._path).splitlines():
                with contextlib.suppress(ValueError, TypeError, RecursionError):
                    name, digest = json.loads(line)
                    self._known[str(name)] = str(digest)

    @property
    def known(self) -> dict[str, str]:
        """All of it."""
        return dict(self._known)

    def add(self, name: str, sha256: str) -> None:
        """Something was put there."""
        if self._known.get(name) == sha256:
            return
        self._known[name] = sha256
        with contextlib.suppress(OSError), self._path.open("a") as file:
            file.write(json.dumps([name, sha256]) + "\n")

    def forget(self) -> None:
        """What was there is deleted."""
        self._known = {}
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)


def record_path(run_dir: Path, shard: int, shards: int) -> Path:
    """Where it is kept: not in the folder, which holds what is published and nothing else."""
    return run_dir.parent / f".{run_dir.name}.published-{shard:05d}-of-{shards:05d}"
