"""What there is to collect: a run's manifests and row files, found to belong together before a row is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from specbatch.errors import ResultsError
from specbatch.formatting import pluralize
from specbatch.results.identity import Identity
from specbatch.results.layout import ROW_KINDS, SUCCESS, ShardFile, parse_names, rows_of_share
from specbatch.results.manifest import FileEntry, Manifest, answers_none, read_manifests
from specbatch.results.splits import no_run, read_split
from specbatch.results.storage.folder import Folder
from specbatch.results.storage.typed import load_json

_SHOWN = 12
_RESTORE = (
    "restore it from a copy (results.publish, a backup); or delete it and its shard's manifest and start the run again: "
    "the rows it held are decoded once more"
)


@dataclass(frozen=True, slots=True)
class RowFile:
    """One file of rows; `entry` is what the manifest says of it, None where no manifest lists it."""

    file: ShardFile
    entry: FileEntry | None

    @property
    def is_errors(self) -> bool:
        """Whether its rows are error rows."""
        return self.file.kind == "errors"


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundRun:
    """A run as it lies in a folder.

    Attributes:
        manifests: those that are there, in order of shard.
        identity: what the run is; None where neither a manifest nor an identity file is there.
        files: every file of rows: results and errors of a shard together, in order of sequence.
        dataset_rows: rows of the whole dataset; None where no manifest knows.
        unfinished: a sentence for each thing that says the run is not complete; empty where it is.
    """

    folder: Folder
    shards: int
    manifests: Sequence[Manifest]
    identity: Identity | None
    files: Sequence[RowFile]
    dataset_rows: int | None
    unfinished: Sequence[str]


def find_run(folder: Folder, *, resharding: bool = False) -> FoundRun:
    """Reads the manifests and looks for every file that they name.

    Args:
        folder: the run's.
        resharding: what another `specbatch reshard` has left there is passed over.

    Raises:
        ResultsError: no run is there, files are missing or cut, or they belong to different runs.
    """
    sizes = folder.sizes()
    shards = read_split(folder, sizes)
    files = [file for file in parse_names(sizes) if file.shards == shards]
    if shards is None or not files:
        raise no_run(folder)
    others = [file for file in parse_names(sizes) if file.shards != shards and file.kind in ROW_KINDS]
    if others and not resharding:
        raise ResultsError(
            f"{others[0].name} lies beside a run that is split into {pluralize(shards, 'shard')}: a reshard did not finish",
            where=folder.uri,
            remedy=f"end it: specbatch reshard {folder.uri} --completions N, with its N or with {shards}; rows are not lost",
        )
    manifests = {one.shard: one for one in read_manifests(folder)}
    identity = _one_identity(folder, files, manifests)
    dataset_rows = _dataset_rows(folder, manifests.values())
    found: list[RowFile] = []
    unfinished: list[str] = []
    for shard in range(shards):
        there = [file for file in files if file.shard == shard and file.kind in ROW_KINDS]
        manifest = manifests.get(shard)
        if manifest:
            listed = _listed(folder, manifest, sizes)
            found += listed
            names = {one.file.name for one in listed}
            there = [file for file in there if file.name not in names and sizes[file.name]]
        found += [RowFile(file, None) for file in there]
        unfinished += _unfinished(shard, shards, manifest, dataset_rows, [(one.name, sizes[one.name]) for one in there])
    rows = sum(one.totals.rows for one in manifests.values())
    if not unfinished and dataset_rows is not None and rows < dataset_rows:
        unfinished.append(f"its manifests say complete, with {rows:,} of {dataset_rows:,} rows")
    if not unfinished and SUCCESS not in sizes and not answers_none(tuple(manifests.values())):
        unfinished.append(f"{SUCCESS} is not there: the run has not said that it is complete")
    found.sort(key=lambda one: (one.file.shards, one.file.shard, one.file.sequence, one.is_errors))
    return FoundRun(
        folder=folder,
        shards=shards,
        manifests=tuple(manifests[shard] for shard in sorted(manifests)),
        identity=identity,
        files=tuple(found),
        dataset_rows=dataset_rows,
        unfinished=tuple(unfinished),
    )


def damaged(folder: Folder, name: str, message: str) -> ResultsError:
    """The error for a file that is not what its manifest says."""
    return ResultsError(message, where=folder.path_of(name), remedy=_RESTORE)


def _one_identity(folder: Folder, files: Sequence[ShardFile], manifests: Mapping[int, Manifest]) -> Identity | None:
    """All shards must be of one run; a shard without a manifest is known by its identity file, where that is there."""
    known = [(ShardFile("manifest", one.shard, one.shards).name, one.identity) for one in manifests.values()]
    spoken_for = {(one.shard, one.shards) for one in manifests.values()}
    alone = [file.name for file in files if file.kind == "identity" and (file.shard, file.shards) not in spoken_for]
    known += [(name, _identity(folder, name)) for name in alone]
    for name, identity in known[1:]:
        first, reference = known[0]
        lines = identity.differences(reference)
        if lines:
            more = [f"and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
            raise ResultsError(
                f"{first} and {name} belong to different runs:"
                + "".join(f"\n    {line}" for line in [*lines[:_SHOWN], *more]),
                where=folder.uri,
                remedy="keep the files of one run, and move the others to a folder of their own",
            )
    return known[0][1] if known else None


def _identity(folder: Folder, name: str) -> Identity:
    try:
        return Identity.from_json(load_json(folder.read(name)))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ResultsError(
            "not an identity file of a run",
            where=folder.path_of(name),
            remedy="restore it from a copy, or start the run again with --fresh",
        ) from error


def _dataset_rows(folder: Folder, manifests: Iterable[Manifest]) -> int | None:
    counts = sorted({one.dataset_rows for one in manifests if one.dataset_rows is not None})
    if len(counts) > 1:
        raise ResultsError(
            f"the manifests disagree on the rows of the dataset: {', '.join(f'{count:,}' for count in counts)}",
            where=folder.uri,
            remedy="the dataset changed between the shards: run those with the wrong count again, with --fresh",
        )
    return counts[0] if counts else None


def _listed(folder: Folder, manifest: Manifest, sizes: Mapping[str, int]) -> list[RowFile]:
    """The files that a manifest lists; those that cannot be right are found before anything is read."""
    found = []
    for entry in manifest.files:
        file = ShardFile.parse(entry.name)
        if file is None or file.kind not in ROW_KINDS or (file.shard, file.shards) != (manifest.shard, manifest.shards):
            name = ShardFile("manifest", manifest.shard, manifest.shards).name
            raise damaged(folder, name, f"it lists {entry.name!r}, which is no file of its shard")
        if not entry.bytes and sizes.get(entry.name) != 0:
            continue  # it is not needed; or a later attempt, which has no manifest yet, has put rows there
        if entry.name not in sizes:
            raise damaged(folder, entry.name, f"the file is missing: its manifest lists it with {entry.rows:,} rows")
        if sizes[entry.name] not in {entry.bytes, 0}:  # 0: some stores do not say
            raise damaged(
                folder, entry.name, f"it has {sizes[entry.name]:,} bytes, and its manifest says {entry.bytes:,}"
            )
        found.append(RowFile(file, entry))
    return found


def _unfinished(
    shard: int,
    shards: int,
    manifest: Manifest | None,
    dataset_rows: int | None,
    unlisted: Sequence[tuple[str, int]],
) -> list[str]:
    """Why a shard is not complete."""
    share = None if dataset_rows is None else rows_of_share(shard, shards, dataset_rows)
    of = "" if share is None else f" of {share:,}"
    where = f"shard {shard:05d}-of-{shards:05d}"
    if manifest is None:
        size = sum(size for _, size in unlisted)
        are = "is" if len(unlisted) == 1 else "are"
        there = f"{pluralize(len(unlisted), 'file')} with {size:,} bytes {are} there" if size else "nothing is there"
        return [f"{where}: no manifest; {there}{f' for its {share:,} rows' if share is not None else ''}"]
    sentences = []
    if not manifest.complete:
        sentences.append(f"{where}: {manifest.totals.rows:,}{of} rows have ended")
    elif share is not None and manifest.totals.rows < share:
        sentences.append(f"{where}: its manifest says complete, with {manifest.totals.rows:,}{of} rows")
    if unlisted:
        names = ", ".join(name for name, _ in unlisted[:3])
        sentences.append(f"{where}: its manifest does not list {names}: is the run still going on?")
    return sentences
