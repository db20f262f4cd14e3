"""Chooses the files of a folder or glob that hold rows, by name. Files left out are reported, and none is taken twice."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from specbatch.errors import DatasetError
from specbatch.formatting import first_lines
from specbatch.results.layout import ShardFile
from specbatch.runner.dataset.compressions import uncompressed_name

_ROW_ENDINGS = (".jsonl", ".ndjson", ".jsonlines", ".json", ".txt")
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
        DatasetError: a file is there twice, with and without compression.
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
            left_out[path] = "not named .jsonl, .json or .txt"
    refuse_twins(taken)
    left_out |= {path: what for path, what in sorted(others.items()) if not _file(path).startswith((".", "_"))}
    return Chosen(taken, left_out | about)


def refuse_twins(paths: Iterable[str]) -> None:
    """Refuses rows.jsonl beside rows.jsonl.gz, as gzip -k leaves them: every row would be there twice.

    Raises:
        DatasetError: which.
    """
    seen: dict[str, str] = {}
    for path in paths:
        first = seen.setdefault(uncompressed_name(path), path)
        if first != path:
            raise DatasetError(
                f"{_file(first)} and {_file(path)} look like the same rows, with and without compression",
                where=path,
                remedy=f"move one of them away, or name the files that are meant, such as {first.rpartition('/')[0] or '.'}/*.jsonl",
            )


def is_text_name(name: str) -> bool:
    """Whether a file's name says that every line is a prompt (.txt)."""
    path = name.partition("?")[0] if "://" in name else name
    return uncompressed_name(path.lower()).endswith(".txt")


def _file(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]
