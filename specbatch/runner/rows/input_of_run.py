"""The dataset of a finished run, read again from its beginning: `collect --join` puts answers beside its rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from specbatch.api.dataset import DatasetSpec
from specbatch.api.decoding import DecodingSpec
from specbatch.errors import DatasetError
from specbatch.results.collect.formats import ExportFormat
from specbatch.results.identity import Identity
from specbatch.runner.dataset.chunks import ReadPosition, opened
from specbatch.runner.dataset.dataset import Dataset
from specbatch.runner.dataset.file_kinds import TABLES, Table
from specbatch.runner.dataset.lines import RawRow
from specbatch.runner.dataset.source import Source
from specbatch.runner.dataset.tables import open_table
from specbatch.runner.retry import Retrier
from specbatch.runner.rows.forms import RowRules
from specbatch.runner.rows.row_reader import RowReader

_HEAD_BYTES = 16


class InputOfRun:
    """The rows that a run was given.

    Args:
        identity: what the run is.
        uri: where the dataset is now; None: where the run read it.
        retrier: for a store that is out of reach.

    Attributes:
        form: the dataset's own: csv or parquet of tables, jsonl of all others.
        where: its URI.

    Raises:
        DatasetError: it cannot be read, or is another one.
        OutOfReachError: the store could not be reached.
    """

    def __init__(self, identity: Identity | None, uri: str | None = None, retrier: Retrier | None = None) -> None:
        self._retrier = retrier
        self._spec = _dataset_spec(identity, uri)
        self._reader = RowReader(RowRules(DecodingSpec(), self._spec))
        self.where = self._spec.uri
        dataset = self._dataset(moved=uri is not None)
        if identity is None or dataset.fingerprint() != identity.dataset:
            raise DatasetError(
                "it is not the dataset of that run any more: other files, or other content",
                where=self.where,
                remedy="name the dataset as it was: --input FILE; or collect without --join",
            )
        self._tables = [(source, table_of(source)) for source in dataset.sources]
        self.form: ExportFormat = "jsonl"
        if all(table is not None for _, table in self._tables):
            self.form = "parquet"
        elif (first := next(dataset.head(), None)) and first.fields is not None and first.untyped:
            self.form = "csv"

    def rows(self) -> Iterator[RawRow]:
        """Every row, from the beginning; errors as the class."""
        return self._dataset().rows()

    def _dataset(self, *, moved: bool = True) -> Dataset:
        try:
            return Dataset(self._spec, self._retrier)
        except DatasetError as error:
            if moved:
                raise
            remedy = "name where the dataset of that run is now: --input FILE"
            raise DatasetError(error.message, where=error.where, remedy=remedy) from error

    def batches(self) -> Iterator[Any]:
        """The rows of Parquet and Arrow files as record batches with all their columns; errors as the class."""
        left = self._spec.limit
        for source, kind in self._tables:
            assert kind is not None, source.name
            with open_table(source, kind.format, is_stream=kind.is_stream) as table:
                for batch in table.batches(ReadPosition(), whole=True):
                    part = batch if left is None else batch.slice(0, left)
                    left = None if left is None else left - part.num_rows
                    if part.num_rows:
                        yield part

    def id_of(self, row: RawRow) -> str:
        """The id that the run gave a row."""
        return self._reader.id_of(row)


def table_of(source: Source) -> Table | None:
    """What a Parquet or Arrow file is; None of any other."""
    with opened(source) as stored:
        head = stored.read(_HEAD_BYTES)
    return next((table for table in TABLES if table.magic.match(head)), None)


def _dataset_spec(identity: Identity | None, uri: str | None) -> DatasetSpec:
    try:
        if identity is not None:
            fields = {**identity.spec["dataset"], **({} if uri is None else {"uri": uri})}
            return DatasetSpec.model_validate_json(json.dumps(fields))
    except (KeyError, TypeError, ValueError):
        pass
    raise DatasetError(
        "the run does not say which dataset it was",
        where="collect --join",
        remedy="its manifests or identity files are missing; collect without --join",
    )
