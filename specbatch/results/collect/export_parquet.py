"""Rows as a Parquet file, written a group of rows at a time."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any, BinaryIO

from specbatch.errors import ResultsError
from specbatch.results.rows import ResultRow
from specbatch.results.wire import decode_result

_GROUP_ROWS = 1 << 15
_GROUP_BYTES = 32 << 20
_SURROGATE = re.compile("[\ud800-\udfff]")
_COLUMNS: Mapping[str, tuple[str, Callable[[ResultRow], Any]]] = {
    "id": ("string", attrgetter("id")),
    "index": ("int64", attrgetter("index")),
    "text": ("string", attrgetter("text")),
    "finish_reason": ("string", attrgetter("finish_reason")),
    "prompt_tokens": ("int64", attrgetter("usage.prompt_tokens")),
    "completion_tokens": ("int64", attrgetter("usage.completion_tokens")),
    "rounds": ("int64", attrgetter("speculation.rounds")),
    "drafted": ("int64", attrgetter("speculation.drafted")),
    "accepted": ("int64", attrgetter("speculation.accepted")),
    "prompt": ("string", lambda row: None if row.prompt is None else json.dumps(row.prompt, ensure_ascii=False)),
    "answer": ("string", attrgetter("answer")),
    "correct": ("bool", attrgetter("correct")),
    "fingerprint": ("string", attrgetter("fingerprint")),
}
_NULLABLE = {"prompt", "answer", "correct"}


class ParquetRows:
    """Writes result rows as one flat table, compressed with zstd; the rows of a group are held in memory.

    | column | type | |
    |---|---|---|
    | id | string | |
    | index | int64 | position in the dataset, from 0 |
    | text | string | |
    | finish_reason | string | |
    | prompt_tokens, completion_tokens | int64 | |
    | rounds, drafted, accepted | int64 | the row's share of speculation |
    | prompt | string or null | JSON text, where the run kept prompts |
    | answer | string or null | the reference answer |
    | correct | bool or null | whether the text is the answer |
    | fingerprint | string | |

    Parquet's strings are UTF-8, which cannot carry half of a surrogate pair: such a half is replaced by U+FFFD. The jsonl form keeps it.

    Raises:
        ResultsError: pyarrow is not installed.
    """

    def __init__(self, file: BinaryIO, *, group_rows: int = _GROUP_ROWS) -> None:
        try:
            import pyarrow as pa  # noqa: PLC0415 - an extra
            from pyarrow.parquet import ParquetWriter  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise ResultsError(
                "--format parquet needs pyarrow", remedy="pip install 'specbatch[parquet]', or collect as jsonl"
            ) from error
        self._pa = pa
        types = {"string": pa.string(), "int64": pa.int64(), "bool": pa.bool_()}
        self._schema = pa.schema(
            [pa.field(name, types[kind], nullable=name in _NULLABLE) for name, (kind, _) in _COLUMNS.items()]
        )
        self._writer = ParquetWriter(file, self._schema, compression="zstd")
        self._group_rows = group_rows
        self._rows: list[tuple[Any, ...]] = []
        self._bytes = 0

    def write(self, line: bytes) -> None:
        """One row; ValueError where the line is none."""
        row = decode_result(line)
        self._rows.append(tuple(read(row) for _, read in _COLUMNS.values()))
        self._bytes += len(line)
        if len(self._rows) >= self._group_rows or self._bytes >= _GROUP_BYTES:
            self._write_group()

    def close(self) -> None:
        """Writes the last group and the footer; the file stays open."""
        try:
            self._write_group()
        finally:
            self._writer.close()

    def _write_group(self) -> None:
        if not self._rows:
            return
        values = list(zip(*self._rows, strict=True))
        self._rows, self._bytes = [], 0
        columns = [self._array(column, field.type) for column, field in zip(values, self._schema, strict=True)]
        self._writer.write_batch(self._pa.record_batch(columns, schema=self._schema))

    def _array(self, column: Sequence[Any], kind: Any) -> Any:
        try:
            return self._pa.array(column, kind)
        except UnicodeEncodeError:
            return self._pa.array([value and _SURROGATE.sub("\ufffd", value) for value in column], kind)
