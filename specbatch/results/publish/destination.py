"""The folder that one shard is published to: which files are there, and the order in which they come.

splits, identity, then part and errors files as they are closed, progress, report.html, the shard's manifest, and _SUCCESS once every
shard's manifest is there and complete. Part and errors files never change once they are there; one that was changed behind our back,
and is not what this run put there, is put there again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from pathlib import Path

from specbatch.results.identity import Identity
from specbatch.results.layout import NEW_COUNT, ROW_KINDS, SUCCESS, ShardFile, own_files, parse_names
from specbatch.results.manifest import FileEntry, read_manifests, success_of
from specbatch.results.publish.ownership import PublishedSplit, old_names, refuse_others, restore_identity
from specbatch.results.publish.published_files import PublishedFiles
from specbatch.results.published_record import PublishedRecord
from specbatch.results.storage.durable import read_plain, results_error
from specbatch.results.storage.folder import Folder
from specbatch.results.storage.typed import load_json


class Destination:
    """Publishes files of a run directory in their order. Whatever failed may be called again; one thread at a time.

    Args:
        folder: where to.
        run_dir: where from.
        file: the shard's identity file.
        identity: what the run is.
        fresh: at first contact, delete what is there of an earlier run.

    Attributes:
        folder, run_dir, file, identity: as given.
        fresh: whether old files are still to be deleted.
        files: what is there.
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
        self.fresh = fresh
        self.say: Callable[[str], None] = lambda _line: None
        self._record = PublishedRecord(run_dir, file)
        self.files = PublishedFiles(folder, run_dir, self._record)
        self._manifest = replace(file, kind="manifest").name
        self._reached = False
        self._split = PublishedSplit(folder, file.shards)
        self._stale: tuple[str, ...] = ()  # what goes before the first new rows come
        self._placed: dict[str, str] = {}  # name here -> name there

    def reach(self) -> None:
        """First contact: looks what is there, and deletes it, if told so. After that worked, a further call does nothing.

        Raises:
            RefusedError: it belongs to another run, or is split into another number of shards.
            ResultsError: the store cannot be reached; the message says why.
        """
        if self._reached:
            return
        there = self.files
        there.list()
        if self.fresh:
            for name in old_names(there.sizes, self.file):
                there.remove(name)
            self._split.start_over(there)
            self.fresh = False
            self._record.forget()
        there.on_call(0)
        if restore_identity(self.folder, there.sizes, self.file, self.identity, self._record.known):
            self.say(f"{self.file.name} was removed from {self.folder.uri}: it is put there again")
        refuse_others(self.folder, there.sizes, self.file, self.identity)
        self._split.check(there.sizes)
        # An incomplete manifest stays true when rows are added.
        self._stale = (SUCCESS, self._manifest) if self._read_manifest() else (SUCCESS,)
        there.hashes |= {name: digest for name, digest in self._record.known.items() if name in there.sizes}
        self._reached = True

    def claim(self) -> None:
        """Puts the split and the identity file there: before anything else. Errors as `reach`."""
        self.reach()
        self._keep_split()
        if self.file.name not in self.files.sizes and not self.files.put(self.file.name, new=True):
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
        there, name = self.files, self._placed.get(entry.name, entry.name)
        if name not in there.sizes:
            self._keep_split()
            self._withdraw()
            there.on_call(0)
            if self.folder.size(name) is not None or not there.put_rows(name, entry, new=True):
                # It has come since we looked: we did not put it there, or did not hear that it had worked.
                there.list()
                there.hashes[name] = there.read(name)[0]
        if there.sizes[name] == 0 < entry.bytes:  # it was empty when an earlier attempt ended
            self._withdraw()
            there.put_rows(name, entry)
        if not there.holds(name, entry) and there.hashes.get(name) == entry.sha256:
            self.say(f"{name} is not what was published to {self.folder.uri}: it is put there again")
            there.put_rows(name, entry)
        if there.sizes[name] != entry.bytes or there.hashes.get(name, entry.sha256) != entry.sha256:
            if not entry.bytes:
                return None
            name = self._put_under_another_name(entry)
        self._placed[entry.name] = name
        return name

    def put_latest(self, name: str) -> None:
        """Puts a file for people there, if there is one, over an older one: progress, report. Errors as `put_rows`."""
        if (self.run_dir / name).is_file():
            self.files.put(name)

    def seal(self) -> None:
        """Puts the manifest there, once all that it lists is; and _SUCCESS, if this was the last one. Errors as `put_rows`."""
        path, there = self.run_dir / self._manifest, self.files
        try:
            value = load_json(read_plain(path))
        except OSError as error:
            raise results_error(error, path, "read the manifest") from error
        mine = [FileEntry(**entry) for entry in value["files"]]
        there.list()  # what was removed behind our back is put there again
        if self.file.name not in there.sizes:
            there.put(self.file.name, new=True)
        placed = ((entry, self.put_rows(entry)) for entry in mine)
        files = [replace(entry, name=name) for entry, name in placed if name is not None]
        files += self._not_here({entry.name for entry in files})
        self._keep_split()
        value["files"] = [asdict(entry) for entry in sorted(files, key=lambda entry: entry.name)]
        there.on_call(0)
        self.folder.write(self._manifest, json.dumps(value, indent=1).encode() + b"\n")
        if not value["complete"]:
            there.remove(SUCCESS)
            return
        there.list()
        manifests = parse_names(there.sizes, "manifest")
        if sum(file.shards == self.file.shards for file in manifests) == self.file.shards:
            there.on_call(0)
            data = success_of(read_manifests(self.folder))
            if data is not None:  # whoever else ends now writes the same
                changed = SUCCESS in there.sizes and self.folder.read(SUCCESS) != data
                self.folder.write(SUCCESS, data, new=not changed)

    def _read_manifest(self) -> bool:
        """Notes the hashes that the shard's manifest there lists, if there is one; whether it may say complete."""
        data = self.folder.read(self._manifest) if self._manifest in self.files.sizes else b""
        try:
            value = load_json(data)
            # Those that were empty may have grown since; rows never change.
            self.files.hashes |= {entry["name"]: entry["sha256"] for entry in value["files"] if entry["bytes"]}
            return bool(value["complete"])
        except (ValueError, KeyError, TypeError):  # a broken one, or none, says nothing, and is about to be replaced
            return True

    def _keep_split(self) -> None:
        self.files.on_call(0)
        self._split.keep()

    def _put_under_another_name(self, entry: FileEntry) -> str:
        """Its name is taken: finds where an earlier attempt put it, or puts it under a name that nothing else will have."""
        own, there = ShardFile.parse(entry.name), self.files
        assert own is not None
        others = own_files(there.sizes, own, own.kind)
        for other in others:
            if there.sizes[other.name] == entry.bytes:
                if other.name not in there.hashes:
                    there.hashes[other.name] = there.read(other.name)[0]
                if there.hashes[other.name] == entry.sha256:
                    return other.name
        self._withdraw()
        sequence = free_sequence(other.sequence for other in others)
        while not there.put_rows(replace(own, sequence=sequence).name, entry, new=True):
            sequence += 1
        return replace(own, sequence=sequence).name

    def _not_here(self, here: set[str]) -> list[FileEntry]:
        """This shard's rows that are there and not here, of a lost volume: only what is listed can be checked."""
        found = []
        for name in (file.name for file in own_files(self.files.sizes, self.file, *ROW_KINDS)):
            if name in here:
                continue
            digest, rows = self.files.read(name)
            if self.files.hashes.get(name, digest) != digest:
                self.say(
                    f"{name} is not what was published to {self.folder.uri}, nor here: it is removed, its rows were decoded again"
                )
                self.files.remove(name)
                continue
            found.append(FileEntry(name=name, rows=rows, bytes=self.files.sizes[name], sha256=digest))
        return found

    def _withdraw(self) -> None:
        for name in self._stale:
            self.files.remove(name)
        self._stale = ()


def free_sequence(taken: Iterable[int] = ()) -> int:
    """The number of a file whose name nothing else has: the Unix time, which no counting from 0 will reach."""
    return max(NEW_COUNT, int(time.time()), *(number + 1 for number in taken))
