"""Turns prepared rows into engine requests, and keeps track of the rows in flight."""

from __future__ import annotations

import copy
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, Self

from specbatch.engine.request import Completion, Request, SamplingParams
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
        if prepared.grammar is not None:
            ends |= prepared.grammar.ends
        # With an echo the prompt's tokens have what the new ones have.
        asked = decoding.prompt_logprobs, decoding.top_logprobs if decoding.echo else None
        of_prompt = [most for most in asked if most is not None]
        return Request(
            id=prepared.row.id,
            prompt_token_ids=prepared.prompt_token_ids,
            max_new_tokens=decoding.max_new_tokens,
            sampling=SamplingParams(decoding.temperature, decoding.top_k, decoding.top_p),
            seed=decoding.seed,
            eos_token_ids=frozenset(decoding.stop_token_ids) if decoding.ignore_eos else ends,
            stop=StopStrings(self.detokenizer, decoding.stop, decoding.min_tokens) if decoding.stop else None,
            logits=until_min_tokens(prepared.logits, ends, decoding.min_tokens),
            grammar=copy.copy(prepared.grammar),
            top_logprobs=decoding.top_logprobs,
            prompt_logprobs=max(of_prompt, default=None),
        )

    def all_of(self, prepared: PreparedRow) -> list[Request]:
        """The requests of a row, as many as it wants completions; each has a random stream of its own, by its id. The first one looks at the prompt."""
        count = prepared.row.decoding.n
        if count == 1:
            return [self(prepared)]
        first, *others = [replace(self(prepared), id=f"{prepared.row.id}#{number}") for number in range(count)]
        return [first, *(replace(other, prompt_logprobs=None) for other in others)]


class RowQueue(Protocol):
    """Where prepared rows come from; several threads may take from it."""

    def take(self, *, wait: bool, beside: PreparedRow | None = None) -> PreparedRow | None:
        """The next row, if any can be chosen one that begins like `beside`; None where none is left, or, unless `wait`, where none is ready."""
        ...

    def wait_for_row(self) -> bool:
        """Waits until a row is ready or there is none left; whether one is ready."""
        ...


@dataclass(frozen=True, slots=True)
class Decoded:
    """A row, its completions in the order of their numbers, and its latency (results.latency)."""

    prepared: PreparedRow
    completions: Sequence[Completion]
    seconds: float = 0.0


@dataclass(slots=True)
class _RowInFlight:
    """A row whose requests the engine has or will be given; `completions` by the identity of the request."""

    prepared: PreparedRow
    began: float
    requests: list[Request]
    completions: dict[int, Completion] = field(default_factory=dict)


class RequestSource:
    """The requests of one engine, taken from the queue of rows as its slots come free.

    While rows are being decoded it never waits: where no row is ready it ends *for now*, and the engine goes on with what it has. The
    engine asks again before its next round. With no row in flight there is nothing to hold up, and it waits.
    """

    def __init__(self, rows: RowQueue, make_request: RequestMaker) -> None:
        self._rows = rows
        self._make_request = make_request
        self._next: deque[Request] = deque()  # of a row that wants several completions
        self._last: PreparedRow | None = None
        self._row_of: dict[int, _RowInFlight] = {}  # by the identity of its requests

    def __iter__(self) -> Iterator[Request]:
        return self

    def __next__(self) -> Request:
        if not self._next:
            prepared = self._rows.take(wait=not self._row_of, beside=self._last)
            if prepared is None:
                raise StopIteration
            self._last = prepared
            requests = self._make_request.all_of(prepared)
            row = _RowInFlight(prepared, time.monotonic(), requests)
            self._row_of |= {id(request): row for request in requests}
            self._next.extend(requests)
        return self._next.popleft()

    @property
    def in_flight(self) -> int:
        """Requests of rows that the engine has begun and that have not ended."""
        return len(self._row_of)

    def finish(self, completion: Completion) -> Decoded | None:
        """Takes in a completion; the row, where it was the last one."""
        row = self._row_of.pop(id(completion.request))
        row.completions[id(completion.request)] = completion
        if len(row.completions) < len(row.requests):
            return None
        completions = [row.completions[id(request)] for request in row.requests]
        return Decoded(row.prepared, completions, time.monotonic() - row.began)

    def more(self) -> bool:
        """Waits until a row is ready or none is left; whether one is ready."""
        return bool(self._next) or self._rows.wait_for_row()

    def copy(self) -> Self:
        """Another engine's source, of the same queue."""
        return type(self)(self._rows, self._make_request)
