"""Finds rows of a finished run in its dataset: the ids of missing rows, the prompt of a row that was not stored."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from specbatch.api.dataset import DatasetSpec
from specbatch.api.decoding import DecodingSpec
from specbatch.errors import DatasetError, OutOfReachError
from specbatch.results.identity import Identity
from specbatch.runner.dataset.dataset import Dataset
from specbatch.runner.dataset.lines import RawRow
from specbatch.runner.retry import Retrier
from specbatch.runner.rows.find_form import form_of
from specbatch.runner.rows.forms import RowRules
from specbatch.runner.rows.row import BadRow, Row
from specbatch.runner.rows.row_reader import RowReader


class RowLookup:
    """Reads rows of the dataset that a run's identity names; `problem` says why it cannot.

    Args:
        retrier: for a store that is out of reach.
    """

    def __init__(self, retrier: Retrier | None = None) -> None:
        self._retrier = retrier
        self.problem = ""

    def ids(self, identity: Identity | None, indices: Iterable[int]) -> Iterator[tuple[int, str | None]]:
        """(index, id) of the rows at ascending indices; None for an id that cannot be found."""
        for index, row in self._rows(identity, indices):
            yield index, row.id if row else None

    def prompt(self, identity: Identity | None, index: int, row_id: str) -> tuple[Any, str]:
        """The prompt or messages of a row, and where it was found; or None, and why it was not."""
        _, row = next(self._rows(identity, [index]))
        if isinstance(row, Row) and row.id == row_id and identity is not None:
            return row.messages or row.prompt, f"it was read from the dataset, {identity.spec['dataset']['uri']}"
        return None, self.problem or "the dataset has another row in its place"

    def _rows(self, identity: Identity | None, indices: Iterable[int]) -> Iterator[tuple[int, Row | BadRow | None]]:
        found = self._dataset_rows(identity)
        raw = next(found, None)
        for index in indices:
            while raw is not None and raw[0].index < index:
                raw = next(found, None)
            if raw is None or raw[0].index != index:
                yield index, None
            else:
                yield index, RowReader(raw[1]).read(raw[0])  # a new one: a reader remembers every id that it saw

    def _dataset_rows(self, identity: Identity | None) -> Iterator[tuple[RawRow, RowRules]]:
        if identity is None:
            self.problem = "nothing there says which dataset it was"
            return
        try:
            spec = DatasetSpec.model_validate_json(json.dumps(identity.spec["dataset"]))
            dataset = Dataset(spec, self._retrier)
            if dataset.fingerprint() != identity.dataset:
                self.problem = f"{spec.uri} is not the dataset of that run any more"
                return
            rules = RowRules(DecodingSpec(), spec, found=form_of(dataset, spec))
            for raw in dataset.rows():
                yield raw, rules
        except (DatasetError, OutOfReachError) as error:
            self.problem = f"{error.where}: {error.message}"
        except (KeyError, TypeError, ValueError):
            self.problem = "the run does not say which dataset it was"
