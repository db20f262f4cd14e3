"""Runs one or several engines over one queue of rows, and merges their completions into one stream."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

from specbatch.engine.memory import loaded_set_aside
from specbatch.engine.request import Completion, Request
from specbatch.engine.stats import EngineStats
from specbatch.runner.requests import Decoded, RequestSource

_POLL_SECONDS = 0.1


class EngineProtocol(Protocol):
    """What the runner uses of an Engine."""

    stats: EngineStats

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Decodes the requests, in finishing order."""
        ...


def decode_all(engines: Sequence[EngineProtocol], source: RequestSource) -> Iterator[Decoded]:
    """Decodes every row of the source. One engine works in the calling thread, several in one thread each.

    Raises:
        whatever an engine raises; other replicas then stop at their next free slot.
    """
    with loaded_set_aside():
        if len(engines) == 1:
            yield from _decode(engines[0], source)
        else:
            yield from _merged([_Worker(engine, source.copy()) for engine in engines])


def _decode(engine: EngineProtocol, source: RequestSource) -> Iterator[Decoded]:
    while source.more():
        for completion in engine.generate(source):
            decoded = source.finish(completion)
            if decoded is not None:
                yield decoded
        assert not source.in_flight, "the engine ended with rows in flight"


class _Worker:
    """One replica's thread. It is a daemon: after a stop signal the process does not wait for rows in flight."""

    def __init__(self, engine: EngineProtocol, source: RequestSource) -> None:
        self._engine = engine
        self._source = source

    def start(self, put: Callable[[Decoded | BaseException | None], None]) -> None:
        threading.Thread(target=self._run, args=(put,), name="specbatch-replica", daemon=True).start()

    def _run(self, put: Callable[[Decoded | BaseException | None], None]) -> None:
        try:
            for decoded in _decode(self._engine, self._source):
                put(decoded)
        except BaseException as error:  # noqa: BLE001 - raised again in the main thread
            put(error)
        else:
            put(None)


def _merged(workers: Sequence[_Worker]) -> Iterator[Decoded]:
    done: queue.SimpleQueue[Decoded | BaseException | None] = queue.SimpleQueue()
    for worker in workers:
        worker.start(done.put)
    running = len(workers)
    while running:
        try:
            item = done.get(timeout=_POLL_SECONDS)  # a bounded wait lets signals in
        except queue.Empty:
            continue
        if item is None:
            running -= 1
        elif isinstance(item, BaseException):
            raise item
        else:
            yield item
