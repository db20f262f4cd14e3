"""The files of one shard's run where it is published: what is there, as last seen, and whether it is what the files here are."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from specbatch.errors import ResultsError
from specbatch.results.manifest import FileEntry
from specbatch.results.published_record import PublishedRecord
from specbatch.results.storage.checksums import Checksum, has_checksum
from specbatch.results.storage.durable import results_error
from specbatch.results.storage.folder import Folder

_READ_BYTES = 1 << 20


class PublishedFiles:
    """Reads, puts and removes files of a published folder. Whatever failed may be called again; one thread at a time.

    Args:
        folder: where the run is published.
        run_dir: where its files are here.
        record: what was put there from here.

    Attributes:
        sizes: name -> bytes of what is there, as last seen.
        hashes: name -> sha256 of this shard's rows there, as far as known.
        on_call: called with the bytes to be moved before the store is asked for something.

    Every method raises ResultsError where the store fails; the message says why.
    """

    def __init__(self, folder: Folder, run_dir: Path, record: PublishedRecord) -> None:
        self.sizes: dict[str, int] = {}
        self.hashes: dict[str, str] = {}
        self.on_call: Callable[[int], None] = lambda _size: None
        self._folder = folder
        self._run_dir = run_dir
        self._record = record
        self._checksums: dict[str, Checksum | None] = {}  # of what is there, as last seen
        self._verified: dict[str, Checksum | None] = {}  # those whose content was compared with ours

    def list(self) -> None:
        """Looks what is there."""
        self.on_call(0)
        self.sizes = self._folder.sizes()
        self._checksums = dict(self._folder.checksums)

    def read(self, name: str) -> tuple[str, int]:
        """sha256 and lines of a file there."""
        digest, rows = hashlib.sha256(), 0
        self.on_call(0)
        with self._folder.explained("read the file", name), self._folder.open(name) as stream:
            while data := stream.read(_READ_BYTES):
                self.on_call(_READ_BYTES)
                digest.update(data)
                rows += data.count(b"\n")
        return digest.hexdigest(), rows

    def holds(self, name: str, entry: FileEntry) -> bool:
        """Whether an object is what the file here is: by the store's hash, or else by reading it, once."""
        if self.sizes[name] != entry.bytes:
            return False
        checksum = self._checksums.get(name)
        if name in self._verified and self._verified[name] == checksum:
            return True
        if not self._has_checksum(entry, checksum):
            digest = self.read(name)[0]
            if digest != entry.sha256:
                self.hashes.setdefault(name, digest)
                return False
        self._verified[name] = checksum
        return True

    def put(self, name: str, *, new: bool = False) -> bool:
        """Puts a file there, with `new` only where there is none of its name; whether it was put."""
        return self._put(name, self._run_dir / name, new=new)

    def put_rows(self, name: str, entry: FileEntry, *, new: bool = False) -> bool:
        """Puts a file of rows there under a name, as `put`, and looks what has arrived.

        Raises:
            ResultsError: it has not arrived as it was sent.
        """
        if not self._put(name, self._run_dir / entry.name, new=new):
            return False
        self.hashes[name] = entry.sha256
        if entry.bytes:  # an empty one may be filled by a later attempt
            self._record.add(name, entry.sha256)
        self._verified.pop(name, None)
        self.on_call(0)
        found = self._folder.look(name)
        self.sizes[name] = -1 if found is None else found.size
        self._checksums[name] = None if found is None else found.checksum
        if found is not None and found.checksum is None and found.size == entry.bytes:
            self._verified[name] = None  # the store says no more than that
        if not self.holds(name, entry):
            raise ResultsError(
                f"{name} has not arrived as it was sent: {self.sizes[name]:,} bytes there, {entry.bytes:,} here",
                where=self._folder.path_of(name),
                remedy="it is put there again; should that go on, look for what else writes there",
            )
        return True

    def remove(self, name: str) -> None:
        """Removes a file there, if there is one."""
        if name in self.sizes:
            self.on_call(0)
            self._folder.remove(name)
            del self.sizes[name]

    def _put(self, name: str, path: Path, *, new: bool) -> bool:
        try:
            size = path.stat().st_size
        except OSError as error:
            raise results_error(error, path, "read the file") from error
        self.on_call(size)
        done = self._folder.put(name, path, new=new)
        if done:
            self.sizes[name] = size
        return done

    def _has_checksum(self, entry: FileEntry, checksum: Checksum | None) -> bool:
        try:
            return checksum is not None and has_checksum(self._run_dir / entry.name, checksum)
        except OSError:  # the object must do without the file
            return False
