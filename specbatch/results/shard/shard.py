"""One shard's results: what is finished already, and the files that finished rows are appended to."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from specbatch.errors import OtherRunError
from specbatch.results.attempts import Attempt, Outcome, read_attempts, write_attempts
from specbatch.results.ended import Ended, Lines
from specbatch.results.identity import Identity, claim, refuse_other_run, remove_old
from specbatch.results.layout import ROW_KINDS, SUCCESS, ShardFile, parse_names
from specbatch.results.manifest import FileEntry, synced_of
from specbatch.results.protocol import Progress
from specbatch.results.rows import ErrorRow, ResultRow
from specbatch.results.shard.finished import FinishedRows
from specbatch.results.shard.parts import PartPolicy, Parts
from specbatch.results.shard.split_lock import SplitLock
from specbatch.results.storage.durable import make_directory, remove_leftovers, results_error, sync_directory
from specbatch.results.storage.folder import Folder
from specbatch.results.storage.process import Process
from specbatch.results.summary import RunSummary
from specbatch.results.timeline import Timeline
from specbatch.results.totals import Totals
from specbatch.results.wire import encode_error, encode_result


class ShardResults:
    """Appends the rows of one shard; made by `open`, used by one thread.

    Attributes:
        run_dir, shard, shards, identity: as given.
        found: totals over the rows that were in the shard's files when they were opened.
        written: totals over the rows written since.
    """

    def __init__(
        self,
        run_dir: Path,
        identity: Identity,
        policy: PartPolicy,
        *,
        shard: int,
        shards: int,
        held: contextlib.ExitStack,
    ) -> None:
        self.run_dir = run_dir
        self.shard = shard
        self.shards = shards
        self.identity = identity
        self.written = Totals()
        self._held = held  # what `close` lets go of
        self._finished = FinishedRows(str(run_dir))
        self._published = True  # whether _SUCCESS or a manifest may stand there
        self._started_at = time.time()
        self._current: Attempt | None = None
        self._earlier = tuple(
            msgspec.structs.replace(attempt, outcome="killed") if attempt.outcome == "running" else attempt
            for attempt in read_attempts(run_dir, shard, shards)
        )
        first = ShardFile("part", shard, shards)
        synced = {**synced_of(run_dir, shard, shards), **(self._earlier[-1].synced if self._earlier else {})}
        self._part = Parts(run_dir, first, self._finished.add_result, policy, synced=synced)
        held.callback(self._part.close)
        self._errors = Parts(run_dir, replace(first, kind="errors"), self._finished.add_error, policy, synced=synced)
        held.callback(self._errors.close)
        self.found = self._finished.totals
        remove_leftovers(run_dir, f"-{shard:05d}-of-{shards:05d}.json")

    @classmethod
    def open(
        cls,
        run_dir: str | Path,
        *,
        shard: int = 0,
        shards: int = 1,
        identity: Identity,
        policy: PartPolicy | None = None,
        fresh: bool = False,
    ) -> ShardResults:
        """Makes or reopens the shard's files and finds which rows are finished.

        Args:
            run_dir: the run's directory (`layout.run_directory`).
            shard: which shard, from 0.
            shards: out of how many.
            identity: what the run is; a directory of another run is refused, unless that has ended no row and is not split.
            policy: how safely rows are written, and when a part is closed.
            fresh: removes what an earlier run left there.

        Raises:
            SplitError: the run there is split into another number of shards.
            ResultsError: not writable, another writer, another run's directory, or damaged files.
        """
        directory = Path(run_dir)
        make_directory(directory)
        with contextlib.ExitStack() as held:
            split = held.enter_context(SplitLock(directory))
            if not fresh:
                fresh = _is_taken_over(directory, shards, identity)
            split.share(shards, fresh=fresh)
            if fresh:
                remove_old(directory, shard, shards)
            claim(directory, ShardFile("identity", shard, shards), identity)
            opened = cls(directory, identity, policy or PartPolicy(), shard=shard, shards=shards, held=held)
            opened._held = held.pop_all()
            return opened

    @property
    def totals(self) -> Totals:
        """Over every row of the shard: found and written."""
        return self.found + self.written

    @property
    def ended(self) -> Ended:
        """The shard's count as of now; to be asked by the thread that writes."""
        totals = self.totals
        return Ended(
            rows=totals.rows,
            errors=totals.errors,
            own={
                "part": Lines(rows=totals.results, bytes=self._part.size),
                "errors": Lines(rows=totals.errors, bytes=self._errors.size),
            },
        )

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """Earlier attempts, and this one as last saved."""
        return (*self._earlier, self._current) if self._current else self._earlier

    @property
    def files(self) -> tuple[FileEntry, ...]:
        """Every file of rows as of now, for the manifest."""
        return (*self._part.entries, *self._errors.entries)

    def finished(self, row_id: str, fingerprint: str, index: int) -> bool:
        """Whether the row had ended, in results or errors, when the shard was opened.

        Raises:
            ResultsError: another row had ended at its index: the dataset is not the one that the results are of.
        """
        return self._finished.check(row_id, fingerprint, index)

    def write(self, row: ResultRow) -> None:
        """Appends a finished row.

        Raises:
            ResultsError: it could not be written; the file is as before.
        """
        self._withdraw()
        self._part.append(encode_result(row))
        self.written.add_result(row)
        self._errors.maybe_sync()

    def write_error(self, row: ErrorRow) -> None:
        """Appends a row that could not be decoded; errors as `write`."""
        self._withdraw()
        self._errors.append(encode_error(row))
        self.written.add_error(row)
        self._part.maybe_sync()

    def maybe_sync(self) -> None:
        """Syncs what is due: call it every second or so while no rows finish."""
        self._part.maybe_sync()
        self._errors.maybe_sync()

    def sync(self) -> None:
        """Everything written is on the disk when this returns."""
        self._part.sync()
        self._errors.sync()

    def save_progress(
        self,
        summary: RunSummary,
        timeline: Timeline,
        outcome: Outcome = "running",
        now: Progress | None = None,
        reason: str = "",
    ) -> None:
        """Rewrites the progress file: every few seconds, and with the outcome at the end, before the manifest.

        `now` is the last snapshot of the run, `reason` why it failed, both for `specbatch status`.
        """
        self._current = Attempt(
            number=len(self._earlier) + 1,
            started_at=self._started_at,
            updated_at=time.time(),
            outcome=outcome,
            summary=summary,
            timeline=timeline.samples,
            now=now or Progress(),
            process=Process.current(),
            reason=reason,
            synced={**self._part.synced, **self._errors.synced},
        )
        write_attempts(self.run_dir, self.shard, self.shards, self.attempts)

    def check_whole(self) -> None:
        """Finds that the shard's files are there as they were written, also after `close`: what is vouched for must be true.

        Raises:
            ResultsError: somebody else removed, replaced, cut or added to one.
        """
        self._part.check_whole()
        self._errors.check_whole()

    def close(self) -> None:
        """Syncs and closes the files, and lets go of them; a second call does nothing."""
        self._held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _withdraw(self) -> None:
        """Before the first row of this attempt: what says that the shard is complete must go."""
        if not self._published:
            return
        stale = [self.run_dir / SUCCESS, self.run_dir / ShardFile("manifest", self.shard, self.shards).name]
        try:
            for path in stale:
                path.unlink(missing_ok=True)
            sync_directory(self.run_dir)
        except OSError as error:
            raise results_error(error, self.run_dir, "withdraw the old manifest") from error
        self._published = False


def _is_taken_over(directory: Path, shards: int, identity: Identity) -> bool:
    """Whether another run stands there that has ended no row: one that was refused while it loaded, say, and is started again as it should be."""
    names = [path.name for path in directory.iterdir()]
    try:
        refuse_other_run(Folder(directory), names, identity)
    except OtherRunError:
        rows = [file.name for file in parse_names(names) if file.kind in ROW_KINDS]
        if shards != 1 or any((directory / name).stat().st_size for name in rows):
            raise
        return True
    return False
