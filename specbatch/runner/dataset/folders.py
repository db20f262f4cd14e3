"""Chooses the files of a folder or glob that hold rows, by name. Files left out are reported, and none is taken twice."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from specbatch.errors import DatasetError
from specbatch.formatting import first_lines
from specbatch.results.layout import ShardFile
from specbatch.runner.dataset.compressions import uncompressed_name

_TABLE_ENDINGS = (".csv", ".tsv", ".parquet", ".pq", ".arrow", ".feather", ".ipc")
_OBJECT_ENDINGS = (".jsonl", ".ndjson", ".jsonlines", ".json")
_ROW_ENDINGS = (*_OBJECT_ENDINGS, *_TABLE_ENDINGS, ".txt")
_ABOUT = re.compile(  # of dataset folders, and of a run's own
    r"(readme|licen[cs]e|notice|changelog)(\.(md|txt|rst))?|(dataset_infos?|dataset_dict|state|metadata|config|manifest)\.json|requirements\.txt|_.*"
)
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Chosen:
    """Of the entries of a folder those that hold rows, and why others were left out: name -> why."""

    taken: Sequence[str]
    left_out: Mapping[str, str]

    @property
    def sentence(self) -> str:
        """What was left out, for people; empty where nothing was."""
        if not self.left_out:
            return ""
        shown = [f"{_file(name)} ({why})" for name, why in self.left_out.items()]
        return f"left out of the dataset: {', '.join(first_lines(shown, _SHOWN))}"


def choose(files: Iterable[str], others: Mapping[str, str]) -> Chosen:
    """The files of a folder that hold rows.

    Args:
        files: paths.
        others: paths of what is no file -> what it is.

    Raises:
        DatasetError: a file is there twice, in two kinds, or with and without compression.
    """
    taken, left_out, about = [], {}, {}
    for path in sorted(files):
        name = _file(path).lower()
        if name.startswith("."):
            continue
        if _ABOUT.fullmatch(name) or (name.endswith(".json") and ShardFile.parse(name)):
            about[path] = "about the data"
        elif uncompressed_name(name).endswith(_ROW_ENDINGS):
            taken.append(path)
        else:
            left_out[path] = "not named like rows"
    refuse_twins(taken)
    left_out |= {path: what for path, what in sorted(others.items()) if not _file(path).startswith((".", "_"))}
    return Chosen(taken, left_out | about)


def holds_rows(path: str) -> bool:
    """Whether a file's name says that it holds rows."""
    name = _file(path).lower()
    about = _ABOUT.fullmatch(name) or (name.endswith(".json") and ShardFile.parse(name))
    return not name.startswith(".") and not about and uncompressed_name(name).endswith(_ROW_ENDINGS)


def refuse_twins(paths: Iterable[str]) -> None:
    """Refuses rows.jsonl beside rows.jsonl.gz, as gzip -k leaves them, and rows.parquet beside rows.csv: every row would be there twice.

    Raises:
        DatasetError: which.
    """
    seen: dict[str, str] = {}
    for path in paths:
        first = seen.setdefault(_stem(path), path)
        if first != path:
            both = (
                "in two kinds of file"
                if uncompressed_name(first) != uncompressed_name(path)
                else "with and without compression"
            )
            raise DatasetError(
                f"{_file(first)} and {_file(path)} look like the same rows, {both}",
                where=path,
                remedy=f"move one of them away, or name the files that are meant, such as {first.rpartition('/')[0] or '.'}/*.{first.rpartition('.')[2]}",
            )


def _stem(path: str) -> str:
    """A path without the endings that say how its rows are stored; .txt stays: it often holds something else."""
    name = uncompressed_name(path)
    ending = next((one for one in (*_OBJECT_ENDINGS, *_TABLE_ENDINGS) if name.lower().endswith(one)), "")
    return name[: len(name) - len(ending)] if ending else name


def bare_name(name: str) -> str:
    """A path or URI in small letters, without its query and the ending of a compression."""
    path = name.partition("?")[0] if "://" in name else name
    return uncompressed_name(path.lower())


def _file(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]
