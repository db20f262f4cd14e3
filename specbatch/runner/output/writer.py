"""The only thread that writes rows: completions in, lines on the disk; the engine never waits for a file."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable

from specbatch.results.rows import ErrorRow, ResultRow
from specbatch.results.shard.shard import ShardResults
from specbatch.runner.budget import ErrorBudget

_POLL_SECONDS = 0.2
_PROGRESS_SECONDS = 2.0
_CAPACITY = 4096  # waiting lines; more only where the disk is slower than the engine, which then has to wait

MakeRow = Callable[[], ResultRow | ErrorRow]


class ResultWriter:
    """Writes rows in the order in which they are put. From `start` to `close` the store is this thread's alone.

    Args:
        store: where rows go.
        budget: judged at every error row.
        save_progress: called every few seconds, in this thread.
        on_failure: called once, in this thread, when writing has failed or the budget is spent.

    Attributes:
        failure: what ended the writing early.
    """

    def __init__(
        self,
        store: ShardResults,
        *,
        budget: ErrorBudget,
        save_progress: Callable[[], None] = lambda: None,
        on_failure: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._budget = budget
        self._save_progress = save_progress
        self._on_failure = on_failure
        self._waiting: queue.Queue[MakeRow | None] = queue.Queue(_CAPACITY)
        self._thread = threading.Thread(target=self._run, name="specbatch-writer", daemon=True)
        self.failure: BaseException | None = None

    def start(self) -> None:
        """Begins to write."""
        self._thread.start()

    def put(self, make_row: MakeRow) -> None:
        """Queues a row; it is made (decoded, compared) in the writer's thread. After a failure rows are dropped.

        A row dropped here is not lost: the next start finds it unfinished.
        """
        self._put(make_row)

    def close(self) -> None:
        """Writes what is queued and ends the thread; a second call only raises again.

        Raises:
            ResultsError: something could not be written.
            DatasetError: the error budget is spent.
        """
        if self._thread.is_alive():
            self._put(None)
            self._thread.join()
        if self.failure is not None:
            raise self.failure

    def _put(self, item: MakeRow | None) -> None:
        while self.failure is None:
            try:
                self._waiting.put(item, timeout=_POLL_SECONDS)
            except queue.Full:
                continue
            return

    def _run(self) -> None:
        try:
            self._write_all()
        except BaseException as error:  # noqa: BLE001 - `close` raises it again in the main thread
            self.failure = error
            self._on_failure()

    def _write_all(self) -> None:
        saved_at = time.monotonic()
        while True:
            try:
                make_row = self._waiting.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                self._store.maybe_sync()
            else:
                if make_row is None:
                    return
                self._write(make_row())
            if time.monotonic() - saved_at >= _PROGRESS_SECONDS:
                self._save_progress()
                saved_at = time.monotonic()

    def _write(self, row: ResultRow | ErrorRow) -> None:
        if isinstance(row, ResultRow):
            self._store.write(row)
        else:
            self._store.write_error(row)
            self._budget.check_count(self._store.totals.errors)
