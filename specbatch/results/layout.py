"""The names of the files of a run, once: the runner writes them, collect and report find them again.

<results.dir>/<metadata.name>/
    identity-00000-of-00004.json   what the run is: spec, dataset, models; another run is refused here
    part-00000-of-00004.jsonl      one line a finished row, in finishing order
    errors-00000-of-00004.jsonl    one line a row that could not be decoded
    progress-00000-of-00004.json   attempts and live numbers, rewritten every few seconds
    manifest-00000-of-00004.json   what the shard holds, with sha256; written when the shard ends
    report.html  figures/*.png     for people
    _SUCCESS                       written last, once every shard is complete
"""

from __future__ import annotations

import re
from collections.abc import Iterator
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
SUCCESS = "_SUCCESS"
REPORT = "report.html"
FIGURES = "figures"

_NAME = re.compile(r"(identity|part|errors|progress|manifest)-(\d{5,})-of-(\d{5,})(\.jsonl?)")


@dataclass(frozen=True, slots=True, order=True)
class ShardFile:
    """One file of one shard, found by its name."""

    kind: Kind
    shard: int
    shards: int

    def __post_init__(self) -> None:
        assert 0 <= self.shard < self.shards, (self.shard, self.shards)

    @property
    def name(self) -> str:
        """The file's name: part-00000-of-00004.jsonl."""
        return f"{self.kind}-{self.shard:05d}-of-{self.shards:05d}{SUFFIXES[self.kind]}"

    @classmethod
    def parse(cls, name: str) -> ShardFile | None:
        """The file that a name stands for; None for any other name."""
        match = _NAME.fullmatch(name)
        if match is None or SUFFIXES[match[1]] != match[4]:  # type: ignore[index]  # the pattern allows the five kinds only
            return None
        shard, shards = int(match[2]), int(match[3])
        return cls(match[1], shard, shards) if shard < shards else None  # type: ignore[arg-type]  # as above


def run_directory(results_dir: str | Path, name: str) -> Path:
    """Where the run `metadata.name` keeps its files under `results.dir`."""
    return Path(results_dir).expanduser() / name


def shard_files(run_dir: Path, kind: Kind | None = None) -> Iterator[ShardFile]:
    """The shard files in a run directory, in order of kind and shard; none where the directory does not exist."""
    if not run_dir.is_dir():
        return
    found = (ShardFile.parse(path.name) for path in run_dir.iterdir())
    yield from sorted(file for file in found if file is not None and kind in {None, file.kind})
