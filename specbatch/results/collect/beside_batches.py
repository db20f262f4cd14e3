"""A dataset of Parquet or Arrow files with its answers, as Parquet: every column as its file has it, those of an answer after them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, BinaryIO

from specbatch.errors import ResultsError
from specbatch.results.collect.answers import Answer
from specbatch.results.collect.beside import answer_names
from specbatch.results.collect.parquet_table import with_pyarrow

_GROUP_ROWS = 1 << 15
_GROUP_BYTES = 64 << 20


class BesideBatches:
    """Writes record batches, the columns of an answer beside their own; those of a row group are held in memory.

    Raises:
        ResultsError: pyarrow is not installed, or the files of the dataset do not have the same columns.
    """

    formulas = 0

    def __init__(self, file: BinaryIO) -> None:
        self._pa, self._new_writer = with_pyarrow()
        self._file = file
        self._schema: Any = None
        self._writer: Any = None
        self._held: list[Any] = []
        self._rows = self._bytes = 0

    def write(self, batch: Any, answers: Sequence[Answer]) -> None:
        """The rows of a batch, and the answer of each."""
        pa = self._pa
        if self._schema is None:
            text = [pa.field(name, pa.string()) for name in answer_names(set(batch.schema.names))]
            self._schema = pa.schema([*batch.schema, *text], batch.schema.metadata)
            self._writer = self._new_writer(self._file, self._schema, compression="zstd")
        own = self._schema.names[: len(batch.schema)]
        types = self._schema.types[: len(batch.schema)]
        if batch.schema.names != own or batch.schema.types != types:
            raise ResultsError(
                f"the files of the dataset have different columns: {', '.join(map(str, batch.schema))[:300]}",
                remedy="join as lines of JSON: -o FILE.jsonl",
            )
        cells = zip(*(answer.cells for answer in answers), strict=True)
        arrays = [*batch.columns, *(pa.array([text_of(cell) for cell in column], pa.string()) for column in cells)]
        self._held.append(pa.RecordBatch.from_arrays(arrays, schema=self._schema))
        self._rows += batch.num_rows
        self._bytes += self._held[-1].nbytes
        if self._rows >= _GROUP_ROWS or self._bytes >= _GROUP_BYTES:
            self._write_group()

    def close(self) -> None:
        """After the last batch; the file stays open."""
        try:
            self._write_group()
        finally:
            if self._writer is not None:
                self._writer.close()

    def _write_group(self) -> None:
        held, self._held, self._rows, self._bytes = self._held, [], 0, 0
        if held:
            self._writer.write_table(self._pa.Table.from_batches(held), row_group_size=_GROUP_ROWS)


def text_of(cell: str | None) -> str | None:
    """What UTF-8 can carry of it."""
    return None if cell is None else cell.encode("utf-8", "replace").decode()
