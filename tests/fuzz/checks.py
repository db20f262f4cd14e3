"""What must hold for whatever stands in a file: a valid answer or an error that says where, in bounded time."""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from specbatch.api import load_spec
from specbatch.errors import DatasetError, SpecError
from specbatch.results.rows import ErrorCode
from specbatch.results.wire import decode_error, encode_error
from specbatch.runner.dataset.bad_rows import RowError
from specbatch.runner.dataset.dataset import Dataset
from specbatch.runner.output.output_processor import OutputProcessor
from specbatch.runner.requests import RequestMaker
from specbatch.runner.rows.find_form import Head, find_form
from specbatch.runner.rows.form_text import form_sentence
from specbatch.runner.rows.forms import RowRules
from specbatch.runner.rows.prefetcher import PreparedRow
from specbatch.runner.rows.prompts import PromptEncoder
from specbatch.runner.rows.row import BadRow
from specbatch.runner.rows.row_reader import RowReader
from tests.runner.tiny import dataset_at

SECONDS = 10  # an input takes a thousandth of it; other processes may have the machine
MAX_LINE = 4096
MAX_MESSAGE = 1000


class Hang(BaseException):
    """An input took too long."""


@contextmanager
def bounded() -> Iterator[None]:
    """Raises Hang after some seconds."""

    def ring(number, frame):
        raise Hang(f"more than {SECONDS} s")

    former = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)


def check_spec(path: Path, overrides: tuple[str, ...] = ()) -> str:
    """A spec file is a valid job, or every problem has a path and a sentence; "valid" or "refused"."""
    with bounded():
        try:
            job = load_spec(path, overrides)
        except SpecError as error:
            assert error.problems  # noqa: PT017 - one of two good ends
            for problem in error.problems:
                assert problem.path.strip(), problem
                check_sentence(problem.message, 5000)
                str(problem).encode()
            return "refused"
        assert len(job.spec_hash()) == 64
        json.dumps(job.model_dump(mode="json", by_alias=True), allow_nan=False).encode()
        return "valid"


def check_sentence(text: str, length: int = MAX_MESSAGE) -> None:
    """A message for people: not empty, not a program's inside, one that can be printed."""
    assert text.strip(), "an empty message"
    assert len(text) <= length, f"{len(text)} characters: {text[:200]}"
    assert "Traceback" not in text, text
    assert " object at 0x" not in text, text
    text.encode()


class DatasetCheck:
    """Reads datasets as a run does, up to the engine's door."""

    def __init__(self, encoder: PromptEncoder, outputs: OutputProcessor, make_request: RequestMaker) -> None:
        self._encoder = encoder
        self._outputs = outputs
        self._make_request = make_request

    def check(self, uri: str, rules: RowRules, *, lines: int | None = None) -> Counter[str]:
        """Every row is prepared, or an error row with a stable code; or the dataset is refused as a whole.

        Args:
            uri: of the dataset.
            rules: how rows are read.
            lines: how many rows there must be, where that is known.
        """
        seen: Counter[str] = Counter()
        with bounded(), patch("specbatch.runner.dataset.readers.MAX_LINE_BYTES", MAX_LINE):
            try:
                dataset = dataset_at(uri, format=rules.dataset.format)
                dataset.check_readable()
                assert len(dataset.fingerprint()) == 32
                self._check_form(dataset, rules)
                reader, again = RowReader(rules), RowReader(rules)
                keys = set()
                for index, raw in enumerate(dataset.rows()):
                    assert raw.index == index
                    row = reader.read(raw)
                    assert row == again.read(raw), "another start must know the row again"
                    keys.add((row.id, row.fingerprint))
                    seen[self._prepare(row)] += 1
                    assert len(keys) == index + 1, f"two rows with one key: {row}"
                assert lines in {None, index + 1}, f"{index + 1} rows of {lines} lines"
                assert dataset.estimated_rows == index + 1
            except DatasetError as error:
                assert error.where  # noqa: PT017 - one of two good ends
                check_sentence(error.message, 3000)
                seen["refused"] += 1
        return seen

    def _check_form(self, dataset: Dataset, rules: RowRules) -> None:
        """A form is found and told, or the error says how to choose; rows are then read by the rules as they are."""
        head = Head.of(dataset.head())
        try:
            check_sentence(form_sentence(rules.dataset, find_form(rules.dataset, head), head), 3000)
        except DatasetError as error:
            assert error.remedy  # noqa: PT017 - one of two good ends
            check_sentence(error.message, 3000)

    def _prepare(self, row) -> str:
        if not isinstance(row, BadRow):
            try:
                tokens = self._encoder.encode(row)
            except RowError as error:
                row = row.refused(error.code, error.message)
            else:
                assert tokens
                self._make_request(PreparedRow(row, tokens))
                return "row"
        line = encode_error(self._outputs.bad(row))
        assert line.count(b"\n") == 1
        found = decode_error(line[:-1])
        assert (found.id, found.index, found.fingerprint, found.code) == (row.id, row.index, row.fingerprint, row.code)
        assert row.code in ErrorCode
        check_sentence(row.message)
        return str(row.code)
