"""Which rows are finished when a shard is opened, and what they add up to."""

from __future__ import annotations

from specbatch.errors import ResultsError
from specbatch.results.identity import WAYS_OUT
from specbatch.results.rows import ErrorRow, ResultRow, resume_key
from specbatch.results.shard.keys import IndexSet, KeySet
from specbatch.results.totals import Totals
from specbatch.results.wire import decode_error, decode_result


class FinishedRows:
    """What the lines of a shard's part and errors files say.

    Args:
        where: the run's directory, for people.

    Attributes:
        totals: over the rows; one that is there twice, after a volume was lost and restored, counts once.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        self._keys = KeySet()
        self._indices = IndexSet()
        self.totals = Totals()

    def add_result(self, line: bytes) -> None:
        """A line of a part file; ValueError where it is no row."""
        row = decode_result(line)
        if self._is_new(row):
            self.totals.add_result(row)

    def add_error(self, line: bytes) -> None:
        """A line of an errors file; ValueError where it is no row."""
        row = decode_error(line)
        if self._is_new(row):
            self.totals.add_error(row)

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

    def _is_new(self, row: ResultRow | ErrorRow) -> bool:
        if row.index < 0:
            raise ValueError("an index counts from 0")
        new = self._keys.add(resume_key(row.id, row.fingerprint))
        self._indices.add(row.index)
        return new
