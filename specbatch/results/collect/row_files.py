"""The rows of one file, with the index of each: checked against its manifest while they stream by."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator

from specbatch.errors import ResultsError
from specbatch.results.collect.lines import index_of
from specbatch.results.collect.run import RowFile, damaged
from specbatch.results.manifest import FileEntry
from specbatch.results.storage.folder import Folder
from specbatch.results.wire import decode_error, decode_result

_READ_BYTES = 1 << 20
_READ_ATTEMPTS = 4  # with 2, 4 and 8 seconds between them
_MAX_INDEX = (1 << 63) - 1


class FileReader:
    """Reads one file of rows.

    Attributes:
        bytes, rows: read so far.
        torn: lines at the end that a dying writer left behind, of a file that no manifest lists.
    """

    def __init__(self, folder: Folder, row_file: RowFile, dataset_rows: int | None) -> None:
        self._folder = folder
        self._file = row_file
        self._name = row_file.file.name
        self._end = _MAX_INDEX if dataset_rows is None else dataset_rows
        self.bytes = 0
        self.rows = 0
        self.torn = 0
        self._unended = False

    def read(self) -> Iterator[tuple[int, bytes]]:
        """(index, line without its newline) of every row; what came before an error is not to be believed.

        Raises:
            ResultsError: it cannot be read, or is not what the manifest says, or a line is no row of this shard.
        """
        entry = self._file.entry
        shard, shards, end = self._file.file.shard, self._file.file.shards, self._end
        stray = None
        for index, line in self._unlisted() if entry is None else self._listed(entry):
            self.rows += 1
            if 0 <= index < end and index % shards == shard:
                yield index, line
            else:
                stray = stray or index  # raised at the end: a wrong hash is the better explanation
        if stray is not None:
            raise ResultsError(
                f"row {stray} is no row of this shard"
                + (
                    f": it belongs to shard {stray % shards}" if 0 <= stray < end else f": the dataset has {end:,} rows"
                ),
                where=self._folder.path_of(self._name),
                remedy="files of two runs are mixed: keep those of one, and move the others to a folder of their own",
            )

    def _listed(self, entry: FileEntry) -> Iterator[tuple[int, bytes]]:
        digest = hashlib.sha256()
        lines = bad = 0
        for line in self._lines(digest.update):
            lines += 1
            try:
                index = index_of(line)
            except ValueError:
                bad = bad or lines  # most likely the hash is wrong too, which is the better explanation
                continue
            yield index, line
        found, wanted = (self.bytes, lines, digest.hexdigest()), (entry.bytes, entry.rows, entry.sha256)
        if found != wanted:
            raise damaged(
                self._folder,
                self._name,
                "it is not what its manifest says:"
                f"\n    expected {wanted[0]:,} bytes, {wanted[1]:,} rows, sha256 {wanted[2]}"
                f"\n    found    {found[0]:,} bytes, {found[1]:,} rows, sha256 {found[2]}",
            )
        if bad or self._unended:
            raise damaged(
                self._folder, self._name, f"line {bad or lines} is not a row, though the sha256 is as in the manifest"
            )

    def _unlisted(self) -> Iterator[tuple[int, bytes]]:
        """No hash vouches for these lines: each is read in full, and only the last ones may be bad."""
        decode = decode_error if self._file.is_errors else decode_result
        bad_at = number = 0
        for line in self._lines(None):
            number += 1
            try:
                if self._unended:
                    raise ValueError("no newline")  # noqa: TRY301 - one more kind of line that is no row
                index = decode(line).index
            except ValueError:
                bad_at = bad_at or number
                self.torn += 1
                continue
            if bad_at:
                raise damaged(self._folder, self._name, f"line {bad_at} is damaged, and good lines follow it")
            yield index, line

    def _lines(self, see: Callable[[bytes], None] | None) -> Iterator[bytes]:
        """Lines without their newline; `_unended` is set with the last one where it had none."""
        held: list[bytes] = []
        for chunk in self._chunks():
            if see:
                see(chunk)
            lines = chunk.split(b"\n")
            held.append(lines[0])
            if len(lines) > 1:
                yield b"".join(held)
                held = [lines[-1]]
                yield from lines[1:-1]
        last = b"".join(held)
        if last:
            self._unended = True
            yield last

    def _chunks(self) -> Iterator[bytes]:
        """The file's bytes; a read that fails is tried again from where it was."""
        attempt = 1
        while True:
            try:
                with self._folder.open(self._name) as stream:
                    if self.bytes:
                        stream.seek(self.bytes)
                    while chunk := stream.read(_READ_BYTES):
                        self.bytes += len(chunk)
                        attempt = 1
                        yield chunk
            except Exception as error:
                refused = isinstance(error.__cause__ or error, FileNotFoundError | PermissionError)
                if attempt == _READ_ATTEMPTS or refused:
                    if isinstance(error, ResultsError):
                        raise
                    reason = " ".join(str(error).split()) or type(error).__name__
                    raise ResultsError(
                        f"cannot read the file: {reason}",
                        where=self._folder.path_of(self._name),
                        remedy="check that the store can be reached and read, and start again",
                    ) from error
                time.sleep(1 << attempt)
                attempt += 1
            else:
                return
