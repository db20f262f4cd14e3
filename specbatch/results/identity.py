"""What a run is, kept beside its results: a directory never mixes the rows of two runs."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from specbatch.api.hash import leaves
from specbatch.errors import OtherRunError, ResultsError
from specbatch.results.layout import FIGURES, REPORT, ROW_KINDS, SUCCESS, ShardFile, parse_names, shard_files
from specbatch.results.published_record import record_path
from specbatch.results.storage.durable import open_plain, results_error, sync_directory, write_atomic
from specbatch.results.storage.folder import Folder
from specbatch.results.storage.locking import lock
from specbatch.results.storage.typed import as_type, load_json

WAYS_OUT = "start with --fresh to delete the old results, or set another results.dir (or metadata.name) to keep them"
_SHOWN_DIFFERENCES = 12
_SHOWN_CHARS = 80
_LINE_CHARS = 240


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What makes two starts the same run: rows of the one may stand beside rows of the other.

    Batch size and placement are no part of it: they change no text.

    Args:
        spec_hash: `job.spec_hash()`.
        dataset: the dataset's fingerprint.
        models: role -> "model@revision", with the revision that was loaded: {"target": "Qwen/Qwen3-8B@b968826d..."}.
        spec: the fields that went into the hash, for saying what changed: nested dicts or flat ones.
        recipe: version of the code that knows finished rows again and draws their tokens: another one would decode them anew.
        files: "target/tokenizer.json" -> hash: what decides on text beside the weights, by file. Empty in runs of older releases.
        engine: that decodes the rows, with its version where it is not our own: "native", "vllm 0.32.0".
        instant: ISO 8601, the time that chat templates which read the clock are shown; "" where the template reads none.
    """

    spec_hash: str
    dataset: str
    models: Mapping[str, str]
    spec: Mapping[str, Any] = field(default_factory=dict)
    recipe: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    instant: str = ""
    engine: str = "native"

    def to_json(self) -> dict[str, Any]:
        """As it is kept."""
        return asdict(self)

    def encode(self) -> bytes:
        """An identity file."""
        return json.dumps(self.to_json(), indent=1, default=str).encode() + b"\n"

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Identity:
        """From the file; ValueError where it is none."""
        return as_type(value, cls)

    def differences(self, old: Identity) -> list[str]:
        """One line for each field in which this run is not `old`: "path: old -> new"."""
        mine, theirs = dict(leaves(_plain(self.spec))), dict(leaves(_plain(old.spec)))
        lines = [
            f"{path}: {_show(theirs.get(path, _ABSENT))} -> {_show(mine.get(path, _ABSENT))}"
            for path in {**theirs, **mine}
            if theirs.get(path, _ABSENT) != mine.get(path, _ABSENT)
        ]
        for role in {**old.models, **self.models}:
            before, after = old.models.get(role, _ABSENT), self.models.get(role, _ABSENT)
            if before != after:
                lines.append(f"{role} as loaded: {_show(before)} -> {_show(after)}")
        for name in sorted({*old.files, *self.files}) if old.files and self.files else ():
            was, now = old.files.get(name, _ABSENT), self.files.get(name, _ABSENT)
            if was != now:
                lines.append(f"content of {name}: {_show(was)} -> {_show(now)}")
        if self.engine != old.engine:
            lines.append(f"engine: {old.engine} -> {self.engine}")
        if old.instant and self.instant and self.instant != old.instant:
            lines.append(f"time that the chat template is shown: {old.instant} -> {self.instant}")
        if self.dataset != old.dataset:
            lines.append(f"dataset content: {_show(old.dataset)} -> {_show(self.dataset)}")
        if self.recipe != old.recipe:
            lines.append(f"specbatch's own recipe for rows: {_show(old.recipe)} -> {_show(self.recipe)}")
        if self.spec_hash != old.spec_hash and not lines:
            lines.append(f"spec hash: {_show(old.spec_hash)} -> {_show(self.spec_hash)}")
        return lines


class _Absent:
    def __repr__(self) -> str:
        return "(not set)"


_ABSENT = _Absent()


class UnknownRunError(ResultsError):
    """What run the results belong to cannot be told."""


def claim(run_dir: Path, file: ShardFile, identity: Identity) -> None:
    """Makes the directory this run's for a shard, or finds that it is; errors as `check_owner`."""
    names = [path.name for path in run_dir.iterdir()]
    check_owner(Folder(run_dir), names, file, identity)
    if file.name not in names:
        write_atomic(run_dir / file.name, identity.encode())


def check_owner(
    folder: Folder, names: Collection[str], file: ShardFile, identity: Identity, remedy: str = WAYS_OUT
) -> None:
    """Finds that a folder holds this run, or none.

    Args:
        folder: the folder.
        names: of the files in it.
        file: the shard's identity file.
        identity: what the run is.
        remedy: for errors.

    Raises:
        OtherRunError: it belongs to another run (the message says what differs).
        UnknownRunError: whose it is cannot be told.
        ResultsError: it cannot be read.
    """
    known = {other.name for other in parse_names(names, "identity")}
    for other in parse_names(names):
        mine = (other.shard, other.shards) == (file.shard, file.shards)
        if other.kind in ROW_KINDS and (file.name not in known if mine else not known):
            missing = replace(other, kind="identity", sequence=0).name
            raise UnknownRunError(
                f"{other.name} is there without {missing}: what run it belongs to cannot be told",
                where=folder.uri,
                remedy=remedy,
            )
    refuse_other_run(folder, [file.name] if file.name in known else known, identity, remedy)


def refuse_other_run(folder: Folder, names: Iterable[str], identity: Identity, remedy: str = WAYS_OUT) -> None:
    """Compares an identity file among the names with what the run is, and does nothing where there is none; errors as `check_owner`."""
    for file in parse_names(names, "identity"):
        try:
            found = Identity.from_json(load_json(folder.read(file.name)))
        except ResultsError as error:
            if isinstance(error.__cause__, FileNotFoundError):  # removed since it was listed
                continue
            raise
        except (ValueError, KeyError, TypeError) as error:
            raise UnknownRunError(
                "not an identity file of a run", where=folder.path_of(file.name), remedy=remedy
            ) from error
        refuse_other(folder.uri, found, identity, remedy)
        return


def remove_old(run_dir: Path, shard: int, shards: int) -> None:
    """--fresh: removes what an earlier run left behind, but for shards of the same split, whose own pods do so.

    Raises:
        ResultsError: another process is still writing there; nothing of its is removed.
    """
    old = [file for file in shard_files(run_dir) if file.shards != shards or file.shard == shard]
    # Success goes first and identity last: a kill in between leaves a directory that still says whose it is.
    old.sort(key=lambda file: file.kind == "identity")
    try:
        with contextlib.ExitStack() as held:
            for file in old:
                if file.kind in ROW_KINDS:
                    _hold(run_dir / file.name, held)
            figures = (run_dir / FIGURES).glob("*.png")
            for path in [
                run_dir / SUCCESS,
                run_dir / REPORT,
                *figures,
                record_path(run_dir, shard, shards),
                *(run_dir / file.name for file in old),
            ]:
                path.unlink(missing_ok=True)
        if run_dir.is_dir():
            sync_directory(run_dir)
    except OSError as error:
        raise results_error(error, run_dir, "remove the old results") from error


def _hold(path: Path, held: contextlib.ExitStack) -> None:
    """Takes a file's writer lock until the stack is left."""
    descriptor = open_plain(path, os.O_RDWR)
    held.callback(os.close, descriptor)
    lock(descriptor, path)


def refuse_other(where: str, old: Identity, new: Identity, remedy: str = WAYS_OUT) -> None:
    """Raises OtherRunError, with what differs, if the results at `where` are of another run."""
    lines = new.differences(old)
    if not lines:
        return
    shown = [line if len(line) <= _LINE_CHARS else f"{line[:_LINE_CHARS]}..." for line in lines[:_SHOWN_DIFFERENCES]]
    if len(lines) > len(shown):
        shown.append(f"and {len(lines) - len(shown)} more")
    raise OtherRunError(
        "the results there belong to another run:" + "".join(f"\n    {line}" for line in shown),
        where=where,
        remedy=remedy,
    )


def _plain(value: Any) -> Any:
    """As JSON gives it back, so that a tuple equals the list it was written as."""
    return json.loads(json.dumps(value, default=str))


def _show(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value) if value is _ABSENT else json.dumps(value)
    return text if len(text) <= _SHOWN_CHARS else text[: _SHOWN_CHARS - 3] + "..."
