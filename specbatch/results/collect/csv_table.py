"""A table as CSV by RFC 4180: UTF-8 without a mark, lines that end in CR LF, quotes where a cell needs them.

Cells are the data as they are. Spreadsheets run what begins like a formula; an apostrophe before it, their remedy, would change the text
for every other reader, so such cells are counted, and `collect` says how many there are.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from typing import Any, BinaryIO

from specbatch.results.collect.columns import Column, as_text

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class CsvTable:
    """Writes a line of names, then rows of values. None is an empty cell, and what is neither text nor a number is JSON.

    Half of a surrogate pair, which UTF-8 cannot carry, becomes "?".

    Attributes:
        formulas: cells so far that a spreadsheet would run.
    """

    def __init__(self, file: BinaryIO, columns: Sequence[Column], *, delimiter: str = ",") -> None:
        self.formulas = 0
        self._writer = csv.writer(_Encoded(file), delimiter=delimiter)
        self._writer.writerow([one.name for one in columns])

    def write(self, values: Sequence[Any], _size: int) -> None:
        """One row."""
        for value in values:
            if isinstance(value, str) and value.startswith(_FORMULA) and not _is_number(value):
                self.formulas += 1
        self._writer.writerow([as_text(value) for value in values])

    def close(self) -> None:
        """Nothing is left to do."""


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


class _Encoded:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, text: str) -> None:
        self._file.write(text.encode("utf-8", "replace"))
