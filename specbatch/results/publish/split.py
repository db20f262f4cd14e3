"""The split of a run where it is published: a store has no locks, so a process looks before every file whether it is still its own.

A new split is put there before anything of it. A process of the old one that still lives finds that out, and is refused; a file
that was on its way in that moment is adopted as soon as the shard that answers for it starts again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from specbatch.results.layout import SPLITS, SUCCESS
from specbatch.results.publish.ownership import RefusedError
from specbatch.results.splits import decode_splits, encode_splits, next_history, read_history
from specbatch.results.storage.durable import read_plain
from specbatch.results.storage.folder import Folder


class PublishedSplit:
    """Keeps one process to its split.

    Args:
        folder: where the run is published.
        run_dir: the run's directory here.
        shards: into how many shards this process has it.
    """

    def __init__(self, folder: Folder, run_dir: Path, shards: int) -> None:
        self._folder = folder
        self._run_dir = run_dir
        self._shards = shards
        self._history: tuple[int, ...] = ()

    @property
    def generation(self) -> int:
        """How often the run had been split differently before; once joined."""
        return len(self._history) - 1

    def join(self, sizes: dict[str, int], remove: Callable[[str], None], known: Sequence[int]) -> None:
        """Says there into how many shards the run is split now; what says that it is complete goes before.

        Args:
            sizes: what is there; kept up to date.
            remove: removes a file there.
            known: the splits as this process has found them there; those that have come since are another process' doing.

        Raises:
            RefusedError: the run has been split anew since then.
            ResultsError: that failed.
        """
        there = read_history(self._folder, sizes)
        if there[-1:] != (self._shards,) and there != tuple(known):
            raise self._refused(there)
        self._history = next_history(there, self._shards, self._here())
        if self._history == there and SPLITS in sizes:
            return
        if self._history != there and SUCCESS in sizes:
            remove(SUCCESS)
        data = encode_splits(self._history)
        self._folder.write(SPLITS, data)
        sizes[SPLITS] = len(data)

    def is_ours(self) -> bool:
        """Whether the run is still split so there; False where the file was removed behind our back: join again.

        Raises:
            RefusedError: it goes on in another split.
            ResultsError: the store cannot be asked.
        """
        size = self._folder.size(SPLITS)
        if not self._history or size is None:
            return False
        if size == len(encode_splits(self._history)):
            return True
        history = read_history(self._folder, [SPLITS])
        if history == self._history:
            return True
        raise self._refused(history)

    def _refused(self, history: Sequence[int]) -> RefusedError:
        return RefusedError(
            f"the run was split into {history[-1]} shards meanwhile, and goes on so; this process has {self._shards}",
            where=self._folder.uri,
            remedy="end one of the two Jobs; started again with any number of shards, the run goes on from what is there",
        )

    def _here(self) -> tuple[int, ...]:
        try:
            return decode_splits(read_plain(self._run_dir / SPLITS))
        except (OSError, ValueError):
            return ()
