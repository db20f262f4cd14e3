"""The manifest of a shard: what was run, what came out, and the hashes that prove the files whole. _SUCCESS comes after it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from specbatch.errors import ResultsError
from specbatch.results.attempts import Attempt
from specbatch.results.hardware import Hardware
from specbatch.results.identity import Identity
from specbatch.results.latency import percentile
from specbatch.results.layout import MAX_SHARDS, SUCCESS, ShardFile
from specbatch.results.splits import files_of_run
from specbatch.results.storage.appender import check_size
from specbatch.results.storage.durable import read_plain, results_error, write_atomic
from specbatch.results.storage.folder import Folder
from specbatch.results.storage.typed import as_type, load_json
from specbatch.results.summary import RunSummary, combine
from specbatch.results.totals import Totals

FORMAT = 1
_REASON_CHARS = 300
_ALWAYS_THERE = (
    "attempts",
    "spec",
    "versions",
    "placement",
    "placement_tree",
    "env",
)  # in a file, whatever the defaults


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """One file as it must be found."""

    name: str
    rows: int
    bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What is written when an attempt at a shard ends; `complete` once every row of the shard has ended.

    Args:
        name: metadata.name.
        shard: which shard, from 0.
        shards: out of how many.
        complete: whether every row of the shard has ended.
        identity: `store.identity`: spec hash, dataset, models with revisions.
        files: `store.files`.
        totals: `store.totals`.
        attempts: `store.attempts`; `summary` adds them up.
        skipped: rows that were finished when the last attempt began.
        spec: the resolved spec.
        versions: specbatch, python, torch, transformers, ...
        placement: role -> module -> device, as read back from the loaded parameters.
        placement_tree: the same for people, as the plan prints it.
        env: TARGET_GPU, DRAFTER_GPU, ... as resolved.
        hardware: what the placement stands on; None in manifests of earlier releases, and where nothing was loaded.
        other_models: rows of the shard that named another model than the target, answered or refused.
        dataset_rows: rows of the whole dataset, all shards'; None where it was not read to its end.
        prompts: how they were read from the dataset's rows, for people.
        warnings: what the target's folder asks for and the run did not do, a sentence each.
        verification: what `specbatch verify` found, as results.verification writes it; None before it ran.
    """

    name: str
    shard: int
    shards: int
    complete: bool
    identity: Identity
    files: tuple[FileEntry, ...]
    totals: Totals
    attempts: tuple[Attempt, ...] = ()
    skipped: int = 0
    spec: Mapping[str, Any] = {}
    versions: Mapping[str, str] = {}
    placement: Mapping[str, Mapping[str, str]] = {}
    placement_tree: str = ""
    env: Mapping[str, str] = {}
    hardware: Hardware | None = None
    other_models: int = 0
    dataset_rows: int | None = None
    prompts: str = ""
    warnings: tuple[str, ...] = ()
    verification: Mapping[str, Any] | None = None

    @property
    def summary(self) -> RunSummary:
        """All attempts as one."""
        return combine((attempt.summary for attempt in self.attempts), self.totals)

    def to_json(self) -> dict[str, Any]:
        """As the file holds it: the fields, and for readers the figures that follow from them."""
        summary, fields = self.summary, msgspec.to_builtins(self, enc_hook=str)
        return {
            "format": FORMAT,
            "written_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "rows": {
                "results": self.totals.results,
                "errors": self.totals.errors,
                "skipped": fields.pop("skipped"),
                "other_models": fields.pop("other_models"),
                "dataset": fields.pop("dataset_rows"),
            },
            "throughput": {
                "tokens_per_second": summary.tokens_per_second,
                "predicted_tokens_per_second": summary.predicted_tokens_per_second,
                "fraction_of_ceiling": summary.fraction_of_ceiling,
                "target_only_tokens_per_second": summary.target_only_tokens_per_second,
            },
            "row_latency_seconds": {f"p{share}": percentile(summary.row_latency, share / 100) for share in (50, 90, 99)}
            if summary.row_latency
            else None,
            "acceptance": {
                "acceptance_rate": summary.acceptance_rate if summary.drafted else None,
                "mean_acceptance_length": summary.mean_acceptance_length if summary.drafted else None,
                "drafted_by_position": summary.drafted_by_position,
                "accepted_by_position": summary.accepted_by_position,
            },
            "k_changes": summary.k_changes,
            "phase_seconds": summary.phase_seconds,
            **fields,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Manifest:
        """From the file; ValueError, KeyError or TypeError where it is none."""
        rows = value["rows"]
        counts = {
            "skipped": rows["skipped"],
            "other_models": rows.get("other_models", 0),
            "dataset_rows": rows.get("dataset"),
        }
        manifest = as_type({**{name: value[name] for name in _ALWAYS_THERE}, **value, **counts}, cls)
        if not 0 <= manifest.shard < manifest.shards <= MAX_SHARDS:
            raise ValueError(f"there is no shard {manifest.shard} of {manifest.shards}")
        return manifest


def write_manifest(run_dir: str | Path, manifest: Manifest) -> Path:
    """Writes the shard's manifest in one step; close the store first, so that what it vouches for is on the disk."""
    path = Path(run_dir) / ShardFile("manifest", manifest.shard, manifest.shards).name
    write_atomic(path, json.dumps(manifest.to_json(), indent=1, default=str).encode() + b"\n")
    return path


def read_manifests(run_dir: str | Path | Folder) -> tuple[Manifest, ...]:
    """The manifests in the folder, in order of shard.

    Raises:
        ResultsError: one cannot be read, or is no manifest.
    """
    folder = run_dir if isinstance(run_dir, Folder) else Folder(run_dir)
    names = folder.sizes()
    return tuple(_read(folder, file.name) for file in files_of_run(folder, names, "manifest"))


def synced_of(run_dir: Path, shard: int, shards: int) -> dict[str, int]:
    """name -> bytes of the files that the shard's manifest vouches for; nothing where there is none, or a broken one."""
    try:
        value = load_json(read_plain(run_dir / ShardFile("manifest", shard, shards).name))
        return {str(entry["name"]): int(entry["bytes"]) for entry in value["files"]}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}


def check_files(run_dir: Path, manifests: Iterable[Manifest]) -> None:
    """Looks at every file that the manifests list.

    Raises:
        ResultsError: one is not there, is no plain file, or has another size.
    """
    for entry in (entry for one in manifests for entry in one.files):
        path = run_dir / entry.name
        try:
            found = path.lstat()
        except OSError as error:
            raise results_error(error, path, "find a file that the manifest lists") from error
        check_size(path, found, entry.bytes)


def write_success(run_dir: str | Path) -> bool:
    """Writes _SUCCESS if every shard's manifest is there and complete; says whether it did.

    Each pod calls this last: the one that ends last finds the others' manifests.

    Raises:
        ResultsError: a file that a manifest lists is not there as it was written.
    """
    manifests = read_manifests(run_dir)
    data = success_of(manifests)
    if data is not None:
        check_files(Path(run_dir), manifests)
        write_atomic(Path(run_dir) / SUCCESS, data)
    return data is not None


def success_of(manifests: Sequence[Manifest]) -> bytes | None:
    """What _SUCCESS holds; None where a manifest is missing or not complete, or no row was answered."""
    if not manifests or len(manifests) != manifests[0].shards or not all(one.complete for one in manifests):
        return None
    value = {
        "shards": len(manifests),
        "results": sum(one.totals.results for one in manifests),
        "errors": sum(one.totals.errors for one in manifests),
    }
    if answers_none(manifests):
        return None
    return json.dumps(value).encode() + b"\n"


def answers_none(manifests: Sequence[Manifest]) -> bool:
    """Whether every shard is complete, and every row of the run ended as an error."""
    whole = bool(manifests) and len(manifests) == manifests[0].shards and all(one.complete for one in manifests)
    return whole and any(one.totals.errors for one in manifests) and not any(one.totals.results for one in manifests)


def _read(folder: Folder, name: str) -> Manifest:
    data = folder.read(name)
    try:
        manifest = Manifest.from_json(load_json(data))
    except (ValueError, KeyError, TypeError) as error:
        raise ResultsError(
            f"not a manifest: {type(error).__name__}: {str(error)[:_REASON_CHARS]}",
            where=folder.path_of(name),
            remedy="start the run again: it writes a new manifest once it ends",
        ) from error
    if ShardFile.parse(name) != ShardFile("manifest", manifest.shard, manifest.shards):
        raise ResultsError(
            "it is the manifest of another shard than its name says",
            where=folder.path_of(name),
            remedy="give the file its name back, or start the run again: it writes a new manifest once it ends",
        )
    return manifest
