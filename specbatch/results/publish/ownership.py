"""Whose run it is that a folder holds, before files are published to it or restored from it."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import replace

from specbatch.errors import OtherRunError, ResultsError
from specbatch.results.identity import Identity, refuse_other
from specbatch.results.layout import (
    REPORT,
    ROW_KINDS,
    SPLITS,
    SUCCESS,
    ShardFile,
    own_files,
    parse_names,
)
from specbatch.results.storage.folder import Folder
from specbatch.results.storage.typed import load_json

WAYS_OUT = (
    "start with --fresh to delete what is published there, or set another results.publish (or metadata.name) to keep it"
)


class RefusedError(ResultsError):
    """Nothing may be put at the destination: trying again is useless."""


class OtherRunPublishedError(OtherRunError, RefusedError):
    """What is at the destination belongs to another run."""


def refuse_others(folder: Folder, sizes: Mapping[str, int], file: ShardFile, identity: Identity) -> None:
    """Finds that the folder is this run's, however it was split, or nobody's.

    Args:
        folder: the folder.
        sizes: what it holds.
        file: the shard's identity file.
        identity: what the run is.

    Raises:
        OtherRunPublishedError: it belongs to another run (the message says what differs).
        ResultsError: the store cannot be reached.
    """
    files = parse_names(sizes)
    identities = [other for other in files if other.kind == "identity"]
    for other in files:
        mine = (other.shard, other.shards) == (file.shard, file.shards)
        if other.kind in ROW_KINDS and (file not in identities if mine else not identities):
            raise OtherRunPublishedError(
                f"{other.name} is there without {replace(other, kind='identity', sequence=0).name}: "
                "what run it belongs to cannot be told",
                where=folder.uri,
                remedy=WAYS_OUT,
            )
    known = {identity.shards: identity for identity in identities}  # one of each split
    if file in identities:
        known[file.shards] = file  # ours, or else anyone's
    for one in known.values():
        name = one.name
        data = folder.read(name)
        try:
            refuse_other(folder.uri, Identity.from_json(load_json(data)), identity, WAYS_OUT)
        except OtherRunError as error:
            raise OtherRunPublishedError(error.message, where=error.where, remedy=error.remedy) from None
        except (ValueError, KeyError, TypeError) as error:
            raise OtherRunPublishedError(
                "not an identity file of a run", where=folder.path_of(name), remedy=WAYS_OUT
            ) from error


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
    data = json.dumps(identity.to_json(), indent=1, default=str).encode() + b"\n"
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
    files = parse_names(sizes)
    old = [other for other in files if other.shards != file.shards or other.shard == file.shard]
    old.sort(key=lambda other: (other.kind == "identity", other.kind != "manifest"))
    last = [SPLITS] if len(old) == len(files) else []
    return [name for name in (SUCCESS, REPORT, *(other.name for other in old), *last) if name in sizes]
