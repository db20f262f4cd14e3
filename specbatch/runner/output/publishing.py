"""Publishes results during a run: checks the destination first, uploads while rows are decoded, waits at the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from specbatch.api.quantity import quantity_value
from specbatch.api.results import ResultsSpec
from specbatch.errors import DatasetError, ResultsError
from specbatch.results.identity import Identity
from specbatch.results.layout import ShardFile
from specbatch.results.protocol import PublishState
from specbatch.results.publish.destination import Destination
from specbatch.results.publish.publish import STOP_SECONDS, Publisher
from specbatch.results.publish.restore import Restored, restore
from specbatch.results.shard.parts import PartPolicy
from specbatch.results.shard.unanswered import unanswered
from specbatch.results.storage.folder import Folder
from specbatch.runner.dataset.lines import Shard
from specbatch.runner.stopping import StopSignals, stopped

_CALL_SECONDS = 30.0  # a store that has not answered by then is tried again


def published_folder(results: ResultsSpec, run_dir: Path) -> Folder | None:
    """Where the run is published, if it is."""
    if results.publish is None:
        return None
    return Folder(f"{results.publish.rstrip('/')}/{run_dir.name}", seconds=_CALL_SECONDS)


class Publishing:
    """A context around the open results; does nothing where spec.results.publish is not set.

    On entering, another run's destination is refused, with `fresh` this one's is deleted, and a lost volume's rows come back. On leaving
    by an error, what is closed by then has a few seconds to get there, and the error stays what it is.

    Args:
        results: spec.results.
        run_dir: the run's directory.
        shard: which rows are ours.
        identity: what the run is.
        fresh: delete what was published.
        signals: stop signals.
        say: shows a line to people; called from other threads too.
    """

    def __init__(
        self,
        results: ResultsSpec,
        run_dir: Path,
        shard: Shard,
        identity: Identity,
        *,
        fresh: bool,
        signals: StopSignals,
        say: Callable[[str], None],
    ) -> None:
        self._results = results
        self._signals = signals
        self._say = say
        self._publisher: Publisher | None = None
        self._destination: Destination | None = None
        self._started = False
        self._restored = Restored()
        if (folder := published_folder(results, run_dir)) is not None:
            file = ShardFile("identity", shard.number, shard.count)
            self._destination = Destination(folder, run_dir, file, identity, fresh=fresh)
            self._destination.say = say

    def __enter__(self) -> Self:
        if self._destination is not None:
            self._restored = restore(self._destination, seconds=self._results.publish_retry_seconds, say=self._say)
            self._publisher = Publisher(self._destination, say=self._say)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._publisher is None:
            return
        if self._started and error is not None:
            try:
                self._publisher.finish(seconds=STOP_SECONDS, at_most=STOP_SECONDS)
            except ResultsError as unfinished:
                self._say(f"{unfinished.message}; {unfinished.remedy}")
        self._publisher.close()

    @property
    def policy(self) -> PartPolicy:
        """How rows are written, and when a file is closed: then it may be published."""
        results, publisher = self._results, self._publisher
        policy = PartPolicy(
            fsync_seconds=results.fsync_seconds,
            fsync_rows=results.fsync_rows,
            max_bytes=int(quantity_value(results.part_size)),
            first_sequence=self._restored.first_sequence,
        )
        if publisher is None:
            return policy
        return replace(policy, max_seconds=results.publish_seconds, on_closed=publisher.offer)

    def start(self) -> None:
        """The results are open: publishing may begin."""
        if self._publisher is not None:
            self._publisher.start()
            self._started = True

    def state(self) -> PublishState | None:
        """How far it is; None where nothing is published."""
        return None if self._publisher is None else self._publisher.state

    def unanswered(self) -> DatasetError | None:
        """The error of a run that is published whole, with no row answered: its shards may have nothing else in common."""
        return None if self._destination is None else unanswered(self._destination.folder)

    def finish(self, save_progress: Callable[[], None]) -> None:
        """Waits until all is there: the manifest must have been written.

        Args:
            save_progress: called once every row is there, before the progress file follows.

        Raises:
            ResultsError: some files are only here.
            StoppedError: stopped by a signal before all was there.
        """
        if self._publisher is None:
            return
        self._started = False
        pending = self._publisher.state.pending_files
        if pending:
            self._say(f"publishing {pending} more files")
        try:
            self._publisher.finish(
                seconds=self._results.publish_retry_seconds, hurry=self._signals.requested, save_progress=save_progress
            )
        except ResultsError as unfinished:
            if not self._signals.requested.is_set():
                raise
            self._say(f"{unfinished.message}; {unfinished.remedy}")
            raise stopped() from unfinished
