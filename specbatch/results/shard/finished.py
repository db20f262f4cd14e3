"""Which rows are finished when a shard is opened, and what they add up to."""

from __future__ import annotations

from specbatch.errors import ResultsError
from specbatch.results.identity import WAYS_OUT
from specbatch.results.layout import Kind
from specbatch.results.rows import ErrorRow, ResultRow, resume_key
from specbatch.results.scan import ScannedRow, scan_result
from specbatch.results.shard.keys import IndexSet, KeySet
from specbatch.results.totals import Totals
from specbatch.results.wire import decode_error


class FinishedRows:
    """What the lines of part and errors files say: give it those of other shards first.

    Args:
        shard: whose rows are looked for.
        shards: out of how many.
        where: the run's directory, for people.

    Attributes:
        found: totals over the rows in the shard's files: its own, and those of old splits that it answers for.
        adopted: totals over the latter alone.
        rows, errors: of the shard's share, in whatever file.
        old_rows, old_rows_here: see `Ended`.
        duplicates: rows found there that had been found before: a volume was lost and restored; they count once.
    """

    def __init__(self, shard: int, shards: int, where: str) -> None:
        self._shard = shard
        self._shards = shards
        self._where = where
        self._keys = KeySet()
        self._indices = IndexSet()
        self.found = Totals()
        self.adopted = Totals()
        self.rows = self.errors = 0
        self.old_rows = self.old_rows_here = 0
        self.duplicates = 0

    @property
    def moved(self) -> int:
        """Rows in the shard's files beyond those of its share that have ended: not 0 only where the number of shards changed.

        Less than 0 where rows of its share stand in the files of others.
        """
        return self.found.rows - self.rows

    def add_result(self, line: bytes) -> None:
        """A line of one of the shard's part files; ValueError where it is no row."""
        self._add("part", line, self.found)

    def add_error(self, line: bytes) -> None:
        """A line of one of the shard's errors files; ValueError where it is no row."""
        self._add("errors", line, self.found)

    def add_adopted(self, kind: Kind, line: bytes) -> None:
        """A line of an old split's file that the shard answers for; ValueError where it is no row."""
        self._add(kind, line, self.found, self.adopted)

    def add_elsewhere(self, kind: Kind, line: bytes) -> None:
        """A line of a file that another shard answers for; ValueError where it is no row."""
        row = _decoded(kind, line)
        here = row.index % self._shards == self._shard
        self._count_old(row.index, here=here)
        if here:  # the keys of all others would only take memory
            self._is_new(row)

    def check(self, row_id: str, fingerprint: str, index: int) -> bool:
        """Whether a row of the dataset is among them.

        Raises:
            ResultsError: another row had ended at its index: the dataset is not the one that the results are of.
        """
        if resume_key(row_id, fingerprint) in self._keys:
            return True
        if index in self._indices:
            raise ResultsError(
                f"the results hold another row {index} (counted from 0) than the dataset does now: it has changed since",
                where=self._where,
                remedy=f"put the old dataset back, or {WAYS_OUT}",
            )
        return False

    def _add(self, kind: Kind, line: bytes, *totals: Totals) -> None:
        row = _decoded(kind, line)
        if len(totals) > 1:
            self._count_old(row.index, here=row.index % self._shards == self._shard)
        if not self._is_new(row):
            self.duplicates += 1
            return
        for one in totals:
            one.add_error(row) if isinstance(row, ErrorRow) else one.add_result(row)

    def _count_old(self, index: int, *, here: bool) -> None:
        if self._indices.add(index):
            self.old_rows += 1
            self.old_rows_here += here

    def _is_new(self, row: ScannedRow | ResultRow | ErrorRow) -> bool:
        new = self._keys.add(resume_key(row.id, row.fingerprint))
        self._indices.add(row.index)
        if new and row.index % self._shards == self._shard:
            self.rows += 1
            self.errors += isinstance(row, ErrorRow)
        return new


def _decoded(kind: Kind, line: bytes) -> ScannedRow | ResultRow | ErrorRow:
    row = scan_result(line) if kind == "part" else decode_error(line)
    if row.index < 0:
        raise ValueError("an index counts from 0")
    return row
