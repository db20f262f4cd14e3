"""Copies closed files to the destination while the run goes on: a thread that tries again until it works, and holds nothing up."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from specbatch.backoff import Backoff
from specbatch.errors import ResultsError
from specbatch.results.layout import REPORT
from specbatch.results.manifest import FileEntry
from specbatch.results.protocol import PublishState
from specbatch.results.publish.destination import Destination
from specbatch.results.publish.ownership import RefusedError
from specbatch.results.storage.stores import one_line

STOP_SECONDS = 8.0  # what is left of the 30 s that Kubernetes grants, after rows in flight have had theirs
_POLL_SECONDS = 0.05
_NAMES_SHOWN = 2
_GRACE_SECONDS = 5.0  # a driver that can be interrupted is given this much longer to notice


class Publisher:
    """Publishes one shard. `start` it, `offer` what is closed, and `finish` or `close` it at the end.

    Args:
        destination: where to; from `start` on it is this thread's alone.
        say: shows a line to people; called from the thread.
        backoff: between tries.
        clock: seconds.
    """

    def __init__(
        self,
        destination: Destination,
        *,
        say: Callable[[str], None] = lambda _line: None,
        backoff: Backoff | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._destination = destination
        self._say = say
        self._backoff = backoff or Backoff()
        self._clock = clock
        self._pending: deque[FileEntry] = deque()
        self._offered: set[str] = set()
        self._done_files = 0
        self._done_bytes = 0
        self._claimed = False
        self._save_progress: Callable[[], None] = lambda: None
        self._progress_published = True  # as of the last rows
        self._all_offered = False  # report, manifest and _SUCCESS are due
        self._sealed = False
        self._failures = 0
        self._problem: Exception | None = None
        self._failing_since: float | None = None
        self._succeeded_at = clock()  # when a step last succeeded
        self._call: tuple[float, float] | None = None  # when the driver was called, and how long that may take
        self._lock = threading.Lock()
        self._wake = threading.Event()  # there is something to do
        self._retry_now = threading.Event()  # the wait before the next try ends
        self._stopping = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="specbatch-publish", daemon=True)
        destination.files.on_call = self._on_call
        destination.say = say

    def start(self) -> None:
        """Begins to publish."""
        self._thread.start()

    def offer(self, entry: FileEntry) -> None:
        """A part or errors file is closed, and on the disk; offering it twice is fine. From any thread; it does not wait."""
        with self._lock:
            if entry.name not in self._offered:
                self._offered.add(entry.name)
                self._pending.append(entry)
        self._wake.set()

    @property
    def state(self) -> PublishState:
        """How far it is; from any thread."""
        with self._lock:
            problem, since = self._problem, self._failing_since
            if self._hangs():
                problem = problem or ResultsError("the store does not answer")
            return PublishState(
                destination=self._destination.folder.uri,
                done_files=self._done_files,
                done_bytes=self._done_bytes,
                pending_files=len(self._pending),
                pending_bytes=sum(entry.bytes for entry in self._pending),
                problem=one_line(problem) if problem else "",
                failing_since=since,
            )

    def finish(
        self,
        *,
        seconds: float,
        at_most: float | None = None,
        hurry: threading.Event | None = None,
        save_progress: Callable[[], None] = lambda: None,
    ) -> None:
        """Waits until everything offered is there, and report, manifest and _SUCCESS too; the manifest must be on the disk.

        Args:
            seconds: give up when nothing has worked for so long. However small, what works is not broken off.
            at_most: give up after so long in any case.
            hurry: once it is set, at most STOP_SECONDS more.
            save_progress: called in the thread once all rows are there, before the progress file follows.

        Raises:
            ResultsError: some files are only here; or the destination belongs to another run.
        """
        began = self._clock()
        with self._lock:
            self._failures = 0
            self._progress_published, self._save_progress, self._all_offered = False, save_progress, True
        self._retry_now.set()
        self._wake.set()
        while not self._ended.wait(_POLL_SECONDS):
            now = self._clock()
            if hurry is not None and hurry.is_set():
                left = now - began + STOP_SECONDS
                at_most, hurry = left if at_most is None else min(at_most, left), None
            if (at_most is not None and now - began > at_most) or self._gives_up(now, began, seconds):
                break
        self.close()
        if isinstance(self._problem, RefusedError):
            raise self._problem
        if self._problem is not None or not self._ended.is_set():
            raise self._unfinished()

    def close(self) -> None:
        """Ends it where it is, without waiting; what is under way may still arrive. A second call does nothing."""
        self._stopping.set()
        self._retry_now.set()
        self._wake.set()

    def _gives_up(self, now: float, began: float, seconds: float) -> bool:
        with self._lock:
            if self._call is not None:
                return self._hangs()
            return self._problem is not None and self._failures > 0 and now - max(began, self._succeeded_at) >= seconds

    def _hangs(self) -> bool:
        """Whether the driver has been busy for longer than any call should take."""
        return self._call is not None and self._clock() - self._call[0] > self._call[1]

    def _unfinished(self) -> ResultsError:
        with self._lock:
            names = [entry.name for entry in self._pending]
            size = sum(entry.bytes for entry in self._pending)
            reason = one_line(self._problem) if self._problem else "there was no time left"
        shown = ", ".join(names[:_NAMES_SHOWN]) + (
            f" and {len(names) - _NAMES_SHOWN} more" if names[_NAMES_SHOWN:] else ""
        )
        what = f"{len(names)} of {len(self._offered)} files with {size} bytes ({shown})" if names else "the manifest"
        verb = "are" if len(names) > 1 else "is"
        return ResultsError(
            f"{what} {verb} not published, and only in {self._destination.run_dir}: {reason}",
            where=self._destination.folder.uri,
            remedy="start the same command again: it goes on with the upload, and decodes no finished row anew",
        )

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                more = self._step()
            except RefusedError as error:
                self._failed(error)
                break
            except ResultsError as error:
                self._failed(error)
                self._retry_now.wait(self._backoff.seconds(self._failures))
                self._retry_now.clear()
                continue
            except Exception as error:  # noqa: BLE001 - `finish` says it: a fault of ours must not look like success
                self._failed(error)
                break
            if more:
                self._worked()
            elif self._sealed:
                break
            else:
                self._wake.wait()
                self._wake.clear()
        else:
            return
        self._ended.set()

    def _step(self) -> bool:
        """Does the next thing that is due; whether there was one."""
        if not self._claimed:
            self._destination.claim()
            self._claimed = True
        elif self._pending:
            self._put_rows(self._pending[0])
        elif not self._progress_published:
            self._progress_published = True
            self._save_progress()
            self._destination.put_latest(replace(self._destination.file, kind="progress").name)
        elif self._all_offered and not self._sealed:
            self._destination.put_latest(REPORT)
            self._destination.seal()
            self._sealed = True
        else:
            return False
        return True

    def _put_rows(self, entry: FileEntry) -> None:
        try:
            self._destination.put_rows(entry)
        except ResultsError:
            with self._lock:
                self._pending.rotate(-1)  # one file that cannot be read must not keep the others
            raise
        with self._lock:
            self._pending.remove(entry)
            self._done_files += 1
            self._done_bytes += entry.bytes
            self._progress_published = False

    def _on_call(self, size: int) -> None:
        with self._lock:
            self._call = (self._clock(), self._destination.folder.timeout(size) + _GRACE_SECONDS)

    def _worked(self) -> None:
        with self._lock:
            failing, self._problem, self._failing_since = self._problem, None, None
            self._failures, self._call, self._succeeded_at = 0, None, self._clock()
        if failing is not None:
            self._say(f"publishing to {self._destination.folder.uri} works again")

    def _failed(self, error: Exception) -> None:
        with self._lock:
            first = self._problem is None
            self._problem = error
            self._failing_since = self._failing_since or time.time()
            self._failures += 1
            self._call = None
        if first:
            how = "is refused" if isinstance(error, RefusedError) else "fails, and is tried again"
            self._say(f"publishing to {self._destination.folder.uri} {how}: {one_line(error)}")
