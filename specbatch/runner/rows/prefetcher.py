"""Prefetches rows: reads, checks and tokenises them in a thread of its own, ahead of the engines by a bounded window."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from specbatch.engine.logits.options import NO_OPTIONS, LogitsOptions
from specbatch.errors import OutOfReachError
from specbatch.results.layout import rows_of_share
from specbatch.runner.dataset.bad_rows import RowError
from specbatch.runner.dataset.dataset import Dataset
from specbatch.runner.dataset.lines import Shard
from specbatch.runner.rows.prompts import PromptEncoder
from specbatch.runner.rows.row import BadRow, Row
from specbatch.runner.rows.row_reader import RowReader
from specbatch.runner.rows.window import RowWindow, as_bytes, as_tokens

if TYPE_CHECKING:
    from specbatch.runner.rows.grammars import RowGrammar

_POLL_SECONDS = 0.1
_OBJECT = 50  # bytes, of Python's own


@dataclass(frozen=True, slots=True)
class PreparedRow:
    """A row with its prompt's token ids, what it asks of its logits and of its text's form, and whether the prompt ends within reasoning."""

    row: Row
    prompt_token_ids: list[int]
    logits: LogitsOptions = NO_OPTIONS
    grammar: RowGrammar | None = None
    in_reasoning: bool = False

    @classmethod
    def of(cls, row: Row, encoder: PromptEncoder) -> Self:
        """Raises RowError as the encoder does."""
        prompt = encoder.prompt(row)
        return cls(
            row, prompt.token_ids, encoder.logits_options(row), encoder.grammar(row), in_reasoning=prompt.in_reasoning
        )


class RowPrefetcher:
    """Prepares rows ahead of time. Several threads may take from it; each row is given once.

    Args:
        dataset: where rows come from.
        reader: raw row -> row.
        encoder: row -> prompt tokens.
        shard: which rows are ours.
        finished: (id, fingerprint, index) -> whether the row had ended before this attempt.
        on_bad: takes rows that cannot be decoded, in the prefetching thread.
        capacity: rows held ready, at the most: see RowWindow for the order in which they are given.

    Attributes:
        skipped: rows that were finished before.
    """

    def __init__(
        self,
        dataset: Dataset,
        reader: RowReader,
        encoder: PromptEncoder,
        *,
        shard: Shard,
        finished: Callable[[str, str, int], bool],
        on_bad: Callable[[BadRow], None],
        capacity: int,
    ) -> None:
        self._dataset = dataset
        self._reader = reader
        self._encoder = encoder
        self._shard = shard
        self._finished = finished
        self._on_bad = on_bad
        self._ready: RowWindow[PreparedRow] = RowWindow(capacity)
        self._ended = threading.Event()  # nothing more will be put
        self._stop = threading.Event()
        self._arrived = threading.Event()  # something was put since someone last looked
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="specbatch-prefetch", daemon=True)
        self.skipped = 0

    def total_rows(self) -> int | None:
        """How many rows the shard has, as far as that is known."""
        rows = self._dataset.estimated_rows
        return None if rows is None else rows_of_share(self._shard.number, self._shard.count, rows)

    @property
    def other_models(self) -> int:
        """Rows of the shard read so far that name another model than the target."""
        return self._reader.other_models

    @property
    def dataset_rows(self) -> int | None:
        """Rows of the whole dataset, all shards'; None before it was read to its end."""
        return self._dataset.rows_in_all

    def start(self) -> None:
        """Begins to read."""
        self._thread.start()

    @property
    def waiting(self) -> str:
        """What of the dataset is waited for, and why; empty while it is read."""
        return str(self._dataset.retrier.waiting or "")

    def stop(self) -> None:
        """No more rows: what is ready is dropped, whoever waits for a row gets the end."""
        self._stop.set()
        self._dataset.retrier.cancel()

    def wait_for_row(self) -> bool:
        """Waits until a row is ready or there is none left; whether one is ready."""
        while not self._stop.is_set():
            if self._ready:
                return True
            if self._ended.is_set():
                return bool(self._ready)  # the last row may have come just before the end
            self._arrived.wait(_POLL_SECONDS)
            self._arrived.clear()
        return False

    def take(self, *, wait: bool, beside: PreparedRow | None = None) -> PreparedRow | None:
        """The next row; None where none is left, or, unless `wait`, where none is ready.

        Args:
            wait: for one to be ready.
            beside: what the caller took last: the next row is one that begins like it, where there is any.
        """
        last = None if beside is None else as_bytes(beside.prompt_token_ids)
        while not wait or self.wait_for_row():
            if self._stop.is_set():
                return None
            if (taken := self._ready.take(last)) is not None:
                row, prompt = taken
                return replace(row, prompt_token_ids=as_tokens(prompt))
            if not wait:  # else another thread was faster
                return None
        return None

    def close(self) -> None:
        """Stops, waits for the thread, and raises what ended it early.

        Raises:
            DatasetError: the dataset could not be read to its end.
            OutOfReachError: its store could not be reached for too long.
            ResultsError: it is not the one that the results are of.
        """
        self.stop()
        if self._thread.ident is not None:
            self._thread.join()
        if self._error is not None:
            raise self._error

    @property
    def exhausted(self) -> bool:
        """Whether every row of the shard was prepared and given, or found finished or bad."""
        return self._ended.is_set() and not self._stop.is_set() and self._error is None and not self._ready

    def _run(self) -> None:
        try:
            for raw in self._dataset.rows():
                if self._stop.is_set():
                    return
                if self._shard.holds(raw.index):
                    self._prepare(self._reader.read(raw))
                elif self._shard.count > 1:
                    self._reader.claim(raw)
        except OutOfReachError as error:
            if not self._stop.is_set():  # else the row that it waited for is not wanted any more
                self._error = error
        except BaseException as error:  # noqa: BLE001 - `close` raises it again in the main thread
            self._error = error
        finally:
            self._ended.set()
            self._arrived.set()

    def _prepare(self, row: Row | BadRow) -> None:
        if self._finished(row.id, row.fingerprint, row.index):
            self.skipped += 1
            return
        if isinstance(row, Row):
            try:
                self._put(PreparedRow.of(row, self._encoder))
            except RowError as error:
                self._on_bad(row.refused(error.code, error.message))
        else:
            self._on_bad(row)

    def _put(self, prepared: PreparedRow) -> None:
        row, tokens = replace(prepared, prompt_token_ids=[]), prepared.prompt_token_ids
        beside = _size(prepared.row)
        while not self._stop.is_set():
            if self._ready.put(row, tokens, _POLL_SECONDS, beside):
                self._arrived.set()
                return


def _size(row: Row) -> int:
    """Bytes of what a row holds beside its tokens, about: of its texts a character each."""
    size, values = 0, [row.prompt, row.messages, row.columns]
    while values:  # however deep it is nested
        value = values.pop()
        size += _OBJECT
        if isinstance(value, str):
            size += len(value)
        elif isinstance(value, Mapping):
            values += [*value, *value.values()]
        elif isinstance(value, list | tuple):
            values += value
    return size
