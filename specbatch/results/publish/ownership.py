"""Whose run it is that a folder holds, before files are published to it or restored from it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from specbatch.errors import OtherRunError, ResultsError, SplitError
from specbatch.results.identity import Identity, UnknownRunError, check_owner
from specbatch.results.layout import (
    REPORT,
    ROW_KINDS,
    SPLITS,
    SUCCESS,
    ShardFile,
    own_files,
    parse_names,
)
from specbatch.results.publish.published_files import PublishedFiles
from specbatch.results.splits import check_split, encode_split, read_split
from specbatch.results.storage.folder import Folder
from specbatch.results.storage.typed import load_json

WAYS_OUT = (
    "start with --fresh to delete what is published there, or set another results.publish (or metadata.name) to keep it"
)


class RefusedError(ResultsError):
    """Nothing may be put at the destination: trying again is useless."""


class OtherRunPublishedError(OtherRunError, RefusedError):
    """What is at the destination belongs to another run."""


class OtherSplitPublishedError(SplitError, RefusedError):
    """What is at the destination is split into another number of shards."""


class PublishedSplit:
    """The split of a run where it is published. A store has no locks: a process looks before every file whether it is still its own.

    Args:
        folder: where the run is published.
        shards: into how many shards this process has it split.

    Every method raises RefusedError where the run is split into another number, and ResultsError where the store fails.
    """

    def __init__(self, folder: Folder, shards: int) -> None:
        self._folder = folder
        self._shards = shards
        self._bytes: int | None = None  # of the list of splits, when it was last found to be right

    def check(self, names: Collection[str]) -> int | None:
        """Finds that the run is split so, or not at all yet; into how many shards it is. `names` are those of the files there."""
        there = read_split(self._folder, names)
        try:
            check_split(self._folder.uri, there, self._shards)
        except SplitError as error:
            raise OtherSplitPublishedError(error.message, where=error.where, remedy=error.remedy) from None
        return there

    def keep(self) -> None:
        """Finds that the run is still split so; says so there, where nothing does."""
        size = self._folder.size(SPLITS)
        if size is None:
            self._folder.write(SPLITS, encode_split(self._shards), new=True)
        if size is None or size != self._bytes:  # of several that wrote at once the store has kept one
            self.check([SPLITS])
            self._bytes = size

    def start_over(self, there: PublishedFiles) -> None:
        """--fresh: another split than ours is forgotten, and ours where no file of the run is left."""
        names = there.sizes
        if SPLITS in names and (not parse_names(names) or read_split(self._folder, [SPLITS]) != self._shards):
            there.remove(SPLITS)


def refuse_others(folder: Folder, sizes: Mapping[str, int], file: ShardFile, identity: Identity) -> None:
    """Finds that the folder is this run's, or nobody's.

    Args:
        folder: the folder.
        sizes: what it holds.
        file: the shard's identity file.
        identity: what the run is.

    Raises:
        OtherRunPublishedError: it belongs to another run (the message says what differs).
        ResultsError: the store cannot be reached.
    """
    try:
        check_owner(folder, sizes, file, identity, WAYS_OUT)
    except (OtherRunError, UnknownRunError) as error:
        raise OtherRunPublishedError(error.message, where=error.where, remedy=error.remedy) from error


def restore_identity(
    folder: Folder, sizes: dict[str, int], file: ShardFile, identity: Identity, known: Collection[str]
) -> bool:
    """Puts our identity back where somebody removed it; whether it did.

    Args:
        folder: the folder.
        sizes: what it holds; kept up to date.
        file: the shard's identity file.
        identity: what the run is.
        known: names that this volume has put there: by them, or by the manifest there, we know that the rows are ours.

    Raises:
        ResultsError: the store cannot be reached.
    """
    rows = own_files(sizes, file, *ROW_KINDS)
    if file.name in sizes or not rows:
        return False
    if not (all(row.name in known for row in rows) or _manifest_is_of(folder, sizes, file, identity)):
        return False
    data = identity.encode()
    folder.write(file.name, data, new=True)
    sizes[file.name] = len(data)
    return True


def _manifest_is_of(folder: Folder, sizes: Mapping[str, int], file: ShardFile, identity: Identity) -> bool:
    name = replace(file, kind="manifest").name
    if name not in sizes:
        return False
    data = folder.read(name)
    try:
        return not identity.differences(Identity.from_json(load_json(data)["identity"]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False


def old_names(sizes: Mapping[str, int], file: ShardFile) -> list[str]:
    """What --fresh deletes, as `identity.remove_old` does: this shard's files, and those of any other split.

    _SUCCESS comes first and identities last: whatever happens in between, what is left says whose it is.
    """
    old = [other for other in parse_names(sizes) if other.shards != file.shards or other.shard == file.shard]
    old.sort(key=lambda other: (other.kind == "identity", other.kind != "manifest"))
    return [SUCCESS, REPORT, *(other.name for other in old)]
