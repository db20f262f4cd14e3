"""Turns prepared rows into engine requests, and keeps track of the rows in flight."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, Self

from specbatch.engine.request import Request, SamplingParams
from specbatch.runner.models.stop_strings import StopStrings
from specbatch.runner.models.tokenizer import Detokenizer
from specbatch.runner.rows.prefetcher import PreparedRow
from specbatch.runner.rows.token_options import until_min_tokens


@dataclass(frozen=True, slots=True)
class RequestMaker:
    """Makes engine requests. `eos_token_ids` are the target's."""

    detokenizer: Detokenizer
    eos_token_ids: frozenset[int]

    def __call__(self, prepared: PreparedRow) -> Request:
        """The request of a row."""
        decoding = prepared.row.decoding
        ends = self.eos_token_ids.union(decoding.stop_token_ids)
        return Request(
            id=prepared.row.id,
            prompt_token_ids=prepared.prompt_token_ids,
            max_new_tokens=decoding.max_new_tokens,
            sampling=SamplingParams(decoding.temperature, decoding.top_k, decoding.top_p),
            seed=decoding.seed,
            eos_token_ids=frozenset(decoding.stop_token_ids) if decoding.ignore_eos else ends,
            stop=StopStrings(self.detokenizer, decoding.stop, decoding.min_tokens) if decoding.stop else None,
            logits=until_min_tokens(prepared.logits, ends, decoding.min_tokens),
        )


class RowQueue(Protocol):
    """Where prepared rows come from; several threads may take from it."""

    def take(self, *, wait: bool) -> PreparedRow | None:
        """The next row; None where none is left, or, unless `wait`, where none is ready."""
        ...

    def wait_for_row(self) -> bool:
        """Waits until a row is ready or there is none left; whether one is ready."""
        ...


class RequestSource:
    """The requests of one engine, taken from the queue of rows as its slots come free.

    While rows are being decoded it never waits: where no row is ready it ends *for now*, and the engine goes on with what it has. The
    engine asks again before its next round. With no row in flight there is nothing to hold up, and it waits.
    """

    def __init__(self, rows: RowQueue, make_request: RequestMaker) -> None:
        self._rows = rows
        self._make_request = make_request
        self._in_flight: dict[
            str, tuple[PreparedRow, float]
        ] = {}  # by row id, which is unique in a run; and since when

    def __iter__(self) -> Iterator[Request]:
        return self

    def __next__(self) -> Request:
        prepared = self._rows.take(wait=not self._in_flight)
        if prepared is None:
            raise StopIteration
        self._in_flight[prepared.row.id] = prepared, time.monotonic()
        return self._make_request(prepared)

    @property
    def in_flight(self) -> int:
        """Rows given to the engine that have not ended."""
        return len(self._in_flight)

    def finish(self, request: Request) -> tuple[PreparedRow, float]:
        """The row of a request that has ended, and its latency in seconds."""
        prepared, began = self._in_flight.pop(request.id)
        return prepared, time.monotonic() - began

    def more(self) -> bool:
        """Waits until a row is ready or none is left; whether one is ready."""
        return self._rows.wait_for_row()

    def copy(self) -> Self:
        """Another engine's source, of the same queue."""
        return type(self)(self._rows, self._make_request)
