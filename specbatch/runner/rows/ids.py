"""Row ids: derived where a row has none, and kept in little memory to find duplicates."""

from __future__ import annotations

import hashlib

from specbatch.results.shard.keys import KeySet

MAX_ID_CHARACTERS = 512


def made_id(index: int, data: bytes) -> str:
    """An id from position and content, the same on every start."""
    return f"row-{index:08d}-{hashlib.blake2b(data, digest_size=6).hexdigest()}"


class IdSet:
    """The ids seen so far, each as 16 bytes of hash."""

    def __init__(self) -> None:
        self._keys = KeySet()

    def add(self, row_id: str) -> bool:
        """Adds an id; whether it was new."""
        return self._keys.add(hashlib.blake2b(row_id.encode(), digest_size=16).digest())
