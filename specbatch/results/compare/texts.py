"""How many rows of several runs have the same text: read as streams, held against each other in bounded memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import groupby
from pathlib import Path

from specbatch.errors import ResultsError
from specbatch.results.report.facts import row_lines
from specbatch.results.storage.folder import Folder
from specbatch.results.storage.sorting import Keyed, LineSorter
from specbatch.results.wire import decode_result

_RUN_AT = 44  # bits of a rank: the run, then the row's number in it, so that no two are equal
_HALF = 8


@dataclass(frozen=True, slots=True)
class SameTexts:
    """Rows with the same index and id in this run and the first: how many there are, and how many have the same text."""

    both: int
    same: int

    @property
    def share(self) -> float | None:
        """same / both; None where the runs have no row in common."""
        return self.same / self.both if self.both else None


def same_texts(folders: Sequence[Folder]) -> list[SameTexts]:
    """For each run, how many of its texts are those of the first.

    Raises:
        ResultsError: rows cannot be read, or there is no room for temporary files (the environment's TMPDIR).
    """
    both, same = [0] * len(folders), [0] * len(folders)
    directory = Path(tempfile.gettempdir())
    try:
        with LineSorter(directory) as sorter:
            for run, folder in enumerate(folders):
                for number, (index, digest) in enumerate(_digests(folder)):
                    sorter.add(index, run << _RUN_AT | number, digest)
            for _, group in groupby(sorter.sorted(), lambda keyed: keyed[0]):
                _count(group, both, same)
    except OSError as error:
        raise ResultsError(
            f"no room to sort rows: {error.strerror}",
            where=str(directory),
            remedy="set TMPDIR, or leave texts out: --no-texts",
        ) from error
    return [SameTexts(*counts) for counts in zip(both, same, strict=True)]


def _digests(folder: Folder) -> Iterator[tuple[int, bytes]]:
    """(index, hash of the id and hash of the text) of every row."""
    for line in row_lines(folder, "part"):
        try:
            row = decode_result(line)
        except ValueError:
            continue  # the report counts these
        yield row.index, _hash(row.id) + _hash(row.text)


def _hash(text: str) -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_HALF).digest()


def _count(group: Iterator[Keyed], both: list[int], same: list[int]) -> None:
    """The rows of one index: of each run the first, as after a lost volume there may be a second."""
    reference = b""
    seen = -1
    for _, rank, digest in group:
        run = rank >> _RUN_AT
        if run == seen:
            continue
        seen = run
        if run == 0:
            reference = digest
        if reference and digest[:_HALF] == reference[:_HALF]:
            both[run] += 1
            same[run] += digest == reference
