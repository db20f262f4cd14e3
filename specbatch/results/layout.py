"""The names of the files of a run, once: the runner writes them, collect and report find them again.

<results.dir>/<metadata.name>/
    splits.jsonl                   a line for each number of shards that the run has had; the last one counts
    identity-00000-of-00004.json   what the run is: spec, dataset, models; another run is refused here
    part-00000-of-00004.jsonl      one line a finished row, in finishing order; once it is large
    part-00000-of-00004-00001.jsonl  the next one is begun, and this one never changes again
    errors-00000-of-00004.jsonl    one line a row that could not be decoded; continued in the same way
    progress-00000-of-00004.json   attempts and live numbers, rewritten every few seconds
    manifest-00000-of-00004.json   what the shard holds, with sha256; written when the shard ends
    clock.json                     the time that chat templates which read the clock are shown; only where they do
    report.html  figures/*.png     for people
    _SUCCESS                       written last, once every shard is complete

Row i belongs to shard i mod N. Files of another N than splits.jsonl says do not count: `specbatch reshard` had not finished. The progress
files of an earlier N stay, for the report.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Kind = Literal["identity", "part", "errors", "progress", "manifest"]
SUFFIXES: dict[Kind, str] = {
    "identity": ".json",
    "part": ".jsonl",
    "errors": ".jsonl",
    "progress": ".json",
    "manifest": ".json",
}
SPLITS = "splits.jsonl"
CLOCK = "clock.json"
SUCCESS = "_SUCCESS"
REPORT = "report.html"
FIGURES = "figures"

ROW_KINDS: tuple[Kind, ...] = ("part", "errors")  # those that hold rows, and may be continued in a next file

# Files of rows count from 0. A volume that was lost while the store was out of reach begins a new count, at the Unix time: the
# names of the old one may stand where they were published.
NEW_COUNT = 1_000_000_000

MAX_SHARDS = 100_000  # as job.completions has it

_NAME = re.compile(r"(identity|part|errors|progress|manifest)-(\d{5,})-of-(\d{5,})(?:-(\d{5,}))?(\.jsonl?)")


@dataclass(frozen=True, slots=True, order=True)
class ShardFile:
    """One file of one shard, found by its name; `sequence` counts the files of one kind of rows from 0."""

    kind: Kind
    shard: int
    shards: int
    sequence: int = 0

    def __post_init__(self) -> None:
        assert 0 <= self.shard < self.shards, (self.shard, self.shards)
        assert self.sequence == 0 or self.kind in ROW_KINDS, (self.kind, self.sequence)

    @property
    def name(self) -> str:
        """The file's name: part-00000-of-00004.jsonl, then part-00000-of-00004-00001.jsonl."""
        sequence = f"-{self.sequence:05d}" if self.sequence else ""
        return f"{self.kind}-{self.shard:05d}-of-{self.shards:05d}{sequence}{SUFFIXES[self.kind]}"

    @classmethod
    def parse(cls, name: str) -> ShardFile | None:
        """The file that a name stands for; None for any other name."""
        match = _NAME.fullmatch(name)
        if match is None:
            return None
        kind, shard, shards, sequence = match[1], int(match[2]), int(match[3]), int(match[4] or 0)
        if not shard < shards <= MAX_SHARDS or (sequence and kind not in ROW_KINDS):
            return None
        file = cls(kind, shard, shards, sequence)  # type: ignore[arg-type]  # the pattern allows the five kinds only
        return file if file.name == name else None


def run_directory(results_dir: str | Path, name: str) -> Path:
    """Where a run keeps its files under `results.dir`: in the folder `results.name`, or else `metadata.name`."""
    return Path(results_dir).expanduser() / name


def shard_files(run_dir: Path, kind: Kind | None = None) -> Iterator[ShardFile]:
    """The shard files in a run directory, as `parse_names` gives them; none where the directory does not exist."""
    if run_dir.is_dir():
        yield from parse_names((path.name for path in run_dir.iterdir()), kind)


def parse_names(names: Iterable[str], kind: Kind | None = None) -> list[ShardFile]:
    """The shard files among the names, in order of kind, shard and sequence."""
    found = (ShardFile.parse(name) for name in names)
    return sorted(file for file in found if file is not None and kind in {None, file.kind})


def own_files(names: Iterable[str], file: ShardFile, *kinds: Kind) -> list[ShardFile]:
    """The files of the same shard and split as `file` that are among the names."""
    return [
        other
        for other in parse_names(names)
        if other.kind in kinds and (other.shard, other.shards) == (file.shard, file.shards)
    ]


def rows_of_share(shard: int, shards: int, rows: int) -> int:
    """How many of a dataset's rows one of so many shards has: those at shard, shard + shards, ..."""
    return max(0, -(-(rows - shard) // shards))
