"""The folder that one shard is published to: which files are there, and the order in which they come.

splits, identity, then part and errors files as they are closed, progress, report.html, the shard's manifest, and _SUCCESS once every
shard's manifest is there and complete. Part and errors files never change once they are there; one that was changed behind our back,
and is not what this run put there, is put there again.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from pathlib import Path

from specbatch.errors import ResultsError
from specbatch.results.identity import Identity
from specbatch.results.layout import NEW_COUNT, SUCCESS, ShardFile, own_files, owned_files, parse_names
from specbatch.results.manifest import FileEntry, read_manifests, success_of
from specbatch.results.publish.ownership import old_names, refuse_others, restore_identity
from specbatch.results.publish.split import PublishedSplit
from specbatch.results.published_record import PublishedRecord
from specbatch.results.splits import read_history
from specbatch.results.storage.checksums import Checksum, has_checksum
from specbatch.results.storage.durable import read_plain, results_error
from specbatch.results.storage.folder import Folder
from specbatch.results.storage.typed import load_json

_READ_BYTES = 1 << 20


class Destination:
    """Puts files of a run directory into a folder. Whatever failed may be called again; one thread at a time.

    Args:
        folder: where to.
        run_dir: where from.
        file: the shard's identity file.
        identity: what the run is.
        fresh: at first contact, delete what is there of an earlier run.

    Attributes:
        folder, run_dir, file, identity: as given.
        fresh: whether old files are still to be deleted.
        sizes: name -> bytes of what is there, as last seen.
        hashes: name -> sha256 of this shard's rows there, as far as known.
        history: the splits that the run has had there, as of first contact.
        on_call: called with the bytes to be moved before the store is asked for something.
        say: shows a line to people.
    """

    def __init__(
        self, folder: Folder, run_dir: Path, file: ShardFile, identity: Identity, *, fresh: bool = False
    ) -> None:
        assert file.kind == "identity"
        self.folder = folder
        self.run_dir = run_dir
        self.file = file
        self.identity = identity
        self.sizes: dict[str, int] = {}
        self.hashes: dict[str, str] = {}
        self.history: tuple[int, ...] = ()
        self.on_call: Callable[[int], None] = lambda _size: None
        self.say: Callable[[str], None] = lambda _line: None
        self._manifest = ShardFile("manifest", file.shard, file.shards).name
        self.fresh = fresh
        self._reached = False
        self._split = PublishedSplit(folder, run_dir, file.shards)
        self._stale: tuple[str, ...] = ()  # what goes before the first new rows come
        self._placed: dict[str, str] = {}  # name here -> name there
        self._checksums: dict[str, Checksum | None] = {}  # of what is there, as last seen
        self._verified: dict[str, Checksum | None] = {}  # those whose content was compared with ours
        self._record = PublishedRecord(run_dir, file)

    def reach(self) -> None:
        """First contact: looks what is there, and deletes it, if told so. After that worked, a further call does nothing.

        Raises:
            RefusedError: it belongs to another run.
            ResultsError: the store cannot be reached; the message says why.
        """
        if self._reached:
            return
        self._look()
        if self.fresh:
            for name in old_names(self.sizes, self.file):
                self._remove(name)
            self.fresh = False
            self._record.forget()
        self.on_call(0)
        if restore_identity(self.folder, self.sizes, self.file, self.identity, self._record.known):
            self.say(f"{self.file.name} was removed from {self.folder.uri}: it is put there again")
        refuse_others(self.folder, self.sizes, self.file, self.identity)
        self.history = read_history(self.folder, self.sizes)
        groups = {replace(other, kind="manifest", sequence=0) for other in owned_files(self.sizes, self.file)}
        for name in sorted({other.name for other in groups} - {self._manifest}):
            self._read_manifest(name)
        # An incomplete manifest stays true when rows are added.
        self._stale = (SUCCESS, self._manifest) if self._read_manifest(self._manifest) else (SUCCESS,)
        self.hashes |= {name: digest for name, digest in self._record.known.items() if name in self.sizes}
        self._reached = True

    def claim(self) -> None:
        """Puts the split and the identity file there: before anything else. Errors as `reach`."""
        self.reach()
        self._check_split()
        name = self.file.name
        if name not in self.sizes and not self._put(name, self.run_dir / name, new=True):
            self._reached = False  # another process was faster: is it of this run?
            self.reach()

    def put_rows(self, entry: FileEntry) -> str | None:
        """Puts a closed part or errors file there, unless it is.

        What another process put there under its name is never replaced; what we put there, and is not that any more, is.

        Returns:
            Its name there: another one where a file that is not the same had its name. That happens where a volume was lost, or
            where two processes ran the same shard: rows are then there twice, and `collect` keeps one of each. None for an
            empty file in that case: it is not needed.

        Raises:
            ResultsError: that failed.
        """
        name = self._placed.get(entry.name, entry.name)
        if name not in self.sizes:
            self._check_split()
            self._withdraw()
            self.on_call(0)
            if self.folder.size(name) is None and self._put_entry(name, entry, new=True):
                pass
            else:  # it has come since we looked: we did not put it there, or did not hear that it had worked
                self._look()
                self.hashes[name] = self._read(name)[0]
        if self.sizes[name] == 0 < entry.bytes:  # it was empty when an earlier attempt ended
            self._withdraw()
            self._put_entry(name, entry)
        if not self._holds(name, entry) and self.hashes.get(name) == entry.sha256:
            self.say(f"{name} is not what was published to {self.folder.uri}: it is put there again")
            self._put_entry(name, entry)
        if self.sizes[name] != entry.bytes or self.hashes.get(name, entry.sha256) != entry.sha256:
            if not entry.bytes:
                return None
            name = self._place_elsewhere(entry)
        self._placed[entry.name] = name
        return name

    def put_latest(self, name: str) -> None:
        """Puts a file for people there, if there is one, over an older one: progress, report. Errors as `put_rows`."""
        if (self.run_dir / name).is_file():
            self._put(name, self.run_dir / name)

    def seal(self) -> None:
        """Puts the manifest there, once all that it lists is; and _SUCCESS, if this was the last one. Errors as `put_rows`."""
        path = self.run_dir / self._manifest
        try:
            value = load_json(read_plain(path))
        except OSError as error:
            raise results_error(error, path, "read the manifest") from error
        mine = [FileEntry(**entry) for entry in value["files"]]
        self._look()  # what was removed behind our back is put there again
        if self.file.name not in self.sizes:
            self._put(self.file.name, self.run_dir / self.file.name, new=True)
        placed = ((entry, self.put_rows(entry)) for entry in mine)
        files = [replace(entry, name=name) for entry, name in placed if name is not None]
        files += self._strangers({entry.name for entry in files})
        self._check_split()
        value["generation"] = self._split.generation
        value["files"] = [asdict(entry) for entry in sorted(files, key=lambda entry: entry.name)]
        self.on_call(0)
        self.folder.write(self._manifest, json.dumps(value, indent=1).encode() + b"\n")
        if not value["complete"]:
            if SUCCESS in self.sizes:
                self._remove(SUCCESS)
            return
        self._look()
        there = parse_names(self.sizes, "manifest")
        if sum(file.shards == self.file.shards for file in there) == self.file.shards:
            self.on_call(0)
            data = success_of(read_manifests(self.folder))
            if data is not None:  # whoever else ends now writes the same
                changed = SUCCESS in self.sizes and self.folder.read(SUCCESS) != data
                self.folder.write(SUCCESS, data, new=not changed)

    def _read_manifest(self, name: str) -> bool:
        """Notes the hashes that a manifest there lists, if there is one; whether it may say complete."""
        data = self.folder.read(name) if name in self.sizes else b""
        try:
            value = load_json(data)
            # Those that were empty may have grown since; rows never change.
            self.hashes |= {entry["name"]: entry["sha256"] for entry in value["files"] if entry["bytes"]}
            return bool(value["complete"])
        except (ValueError, KeyError, TypeError):  # a broken one, or none, says nothing, and is about to be replaced
            return True

    def _check_split(self) -> None:
        """Nothing is put there once the run goes on in another split."""
        self.on_call(0)
        if not self._split.is_ours():
            self._look()
            self._split.join(self.sizes, self._remove, self.history)

    def _place_elsewhere(self, entry: FileEntry) -> str:
        """Its name is taken: finds where an earlier attempt put it, or puts it under a name that nothing else will have."""
        own = ShardFile.parse(entry.name)
        assert own is not None
        others = own_files(self.sizes, own, own.kind)
        for other in others:
            if self.sizes[other.name] == entry.bytes:
                if other.name not in self.hashes:
                    self.hashes[other.name] = self._read(other.name)[0]
                if self.hashes[other.name] == entry.sha256:
                    return other.name
        self._withdraw()
        sequence = free_sequence(other.sequence for other in others)
        while not self._put_entry(replace(own, sequence=sequence).name, entry, new=True):
            sequence += 1
        return replace(own, sequence=sequence).name

    def _strangers(self, ours: set[str]) -> list[FileEntry]:
        """This shard's rows that are there and not here, of a lost volume: only what is listed can be checked."""
        found = []
        for other in owned_files(self.sizes, self.file):
            if other.name not in ours:
                digest, rows = self._read(other.name)
                if self.hashes.get(other.name, digest) != digest:
                    self.say(
                        f"{other.name} is not what was published to {self.folder.uri}, nor here: it is removed, its rows were decoded again"
                    )
                    self._remove(other.name)
                    continue
                found.append(FileEntry(name=other.name, rows=rows, bytes=self.sizes[other.name], sha256=digest))
        return found

    def _withdraw(self) -> None:
        for name in self._stale:
            if name in self.sizes:
                self._remove(name)
        self._stale = ()

    def _read(self, name: str) -> tuple[str, int]:
        """sha256 and lines of a file there."""
        digest, rows = hashlib.sha256(), 0
        self.on_call(0)
        with self.folder.explained("read the file", name), self.folder.open(name) as stream:
            while data := stream.read(_READ_BYTES):
                self.on_call(_READ_BYTES)
                digest.update(data)
                rows += data.count(b"\n")
        return digest.hexdigest(), rows

    def _look(self) -> None:
        self.on_call(0)
        self.sizes = self.folder.sizes()
        self._checksums = dict(self.folder.checksums)

    def _holds(self, name: str, entry: FileEntry) -> bool:
        """Whether an object is what the file here is: by the store's hash, or else by reading it, once."""
        if self.sizes[name] != entry.bytes:
            return False
        checksum = self._checksums.get(name)
        if name in self._verified and self._verified[name] == checksum:
            return True
        if not self._has_checksum(entry, checksum):
            digest = self._read(name)[0]
            if digest != entry.sha256:
                self.hashes.setdefault(name, digest)
                return False
        self._verified[name] = checksum
        return True

    def _has_checksum(self, entry: FileEntry, checksum: Checksum | None) -> bool:
        try:
            return checksum is not None and has_checksum(self.run_dir / entry.name, checksum)
        except OSError:  # the object must do without the file
            return False

    def _put_entry(self, name: str, entry: FileEntry, *, new: bool = False) -> bool:
        """Puts a file of rows there, and looks what has arrived; whether it was put.

        Raises:
            ResultsError: it has not arrived as it was sent.
        """
        if not self._put(name, self.run_dir / entry.name, new=new):
            return False
        self.hashes[name] = entry.sha256
        if entry.bytes:  # an empty one may be filled by whoever adopts it
            self._record.add(name, entry.sha256)
        self._verified.pop(name, None)
        self.on_call(0)
        found = self.folder.look(name)
        self.sizes[name] = -1 if found is None else found.size
        self._checksums[name] = None if found is None else found.checksum
        if found is not None and found.checksum is None and found.size == entry.bytes:
            self._verified[name] = None  # the store says no more than that
        if not self._holds(name, entry):
            raise ResultsError(
                f"{name} has not arrived as it was sent: {self.sizes[name]:,} bytes there, {entry.bytes:,} here",
                where=self.folder.path_of(name),
                remedy="it is put there again; should that go on, look for what else writes there",
            )
        return True

    def _put(self, name: str, path: Path, *, new: bool = False) -> bool:
        try:
            size = path.stat().st_size
        except OSError as error:
            raise results_error(error, path, "read the file") from error
        self.on_call(size)
        done = self.folder.put(name, path, new=new)
        if done:
            self.sizes[name] = size
        return done

    def _remove(self, name: str) -> None:
        self.on_call(0)
        self.folder.remove(name)
        self.sizes.pop(name, None)


def free_sequence(taken: Iterable[int] = ()) -> int:
    """The number of a file whose name nothing else has: the Unix time, which no counting from 0 will reach."""
    return max(NEW_COUNT, int(time.time()), *(number + 1 for number in taken))
