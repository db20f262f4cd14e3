"""Reads a source's stored bytes, decompresses them and makes them UTF-8, a chunk at a time. What a file is is found in its bytes, not in its name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import BinaryIO, NamedTuple

from specbatch.errors import SpecbatchError
from specbatch.runner.dataset.compressions import compression_of, decompressed
from specbatch.runner.dataset.encodings import as_utf8, encoding_of, ends_lines_with_cr
from specbatch.runner.dataset.file_kinds import MAGIC_BYTES, Kind, refused
from specbatch.runner.dataset.source import Source, unreadable

CHUNK_BYTES = 1 << 18
_PIECE_BYTES = 1 << 14  # of a compressed file: how far it is read is to fit what has come out
_MOST_LAYERS = 2  # a file may be compressed twice; one that gives itself, for ever


@dataclass(slots=True)
class ReadPosition:
    """How far a source has been read; any thread may look.

    Attributes:
        stored_bytes: of the file.
        given: what has come out of them: bytes of text, or rows of a table.
        taken: the part of that which was made into rows.
        kind: what the file is, for people.
    """

    stored_bytes: float = 0
    given: int = 0
    taken: int = 0
    kind: str = ""

    @property
    def made_into_rows(self) -> float:
        """Stored bytes that were."""
        return self.stored_bytes * min(1.0, self.taken / max(1, self.given))


class Plain(NamedTuple):
    """A file's bytes, decompressed: its first ones, all of them, and the command that unpacks it ("" where it is not compressed)."""

    head: bytes
    chunks: Iterator[bytes]
    unpack: str


@contextmanager
def opened(source: Source, *, anywhere: bool = False) -> Iterator[BinaryIO]:
    """The stored bytes, to be read in order or `anywhere`; whatever a driver raises within the block leaves as an error for people."""
    try:
        with source.open_anywhere() if anywhere else source.open_stored() as stored:
            yield stored
    except SpecbatchError:
        raise
    except Exception as error:  # a store's driver raises whatever it likes
        raise unreadable(source.name, error) from error


def plain(stored: BinaryIO, position: ReadPosition, name: str) -> Plain:
    """The bytes of a file, decompressed as they are read; `position` follows the stored ones.

    Raises:
        DatasetError: compressed more than twice, damaged or cut short (also while they are read).
    """
    head, chunks = peek(_stored(stored, position), MAGIC_BYTES)
    unpack = ""
    for layer in range(_MOST_LAYERS + 1):
        compression = compression_of(head)
        if compression is None:
            break
        unpack = compression.command
        if layer == _MOST_LAYERS:
            raise refused(Kind(f"compressed more than {_MOST_LAYERS} times", f"{unpack} {{file}} > {{out}}"), name)
        head, chunks = peek(decompressed(chunks, compression, name), MAGIC_BYTES)
    return Plain(head, chunks, unpack)


def utf8(text: Plain, position: ReadPosition, name: str, size: int) -> tuple[bytes, Iterator[bytes]]:
    r"""The first `size` bytes and all chunks of a text in UTF-8, with \n at the ends of its lines.

    Raises:
        DatasetError: damaged, while it is read.
    """
    encoding = encoding_of(text.head)
    head, chunks = peek(text.chunks if encoding is None else as_utf8(text.chunks, encoding, name), size)
    if ends_lines_with_cr(head):
        head, chunks = head.replace(b"\r", b"\n"), (chunk.replace(b"\r", b"\n") for chunk in chunks)
    return head, _counted(chunks, position)


def _counted(chunks: Iterator[bytes], position: ReadPosition) -> Iterator[bytes]:
    for chunk in chunks:
        position.given += len(chunk)
        yield chunk


def _stored(stored: BinaryIO, position: ReadPosition) -> Iterator[bytes]:
    chunk = stored.read(MAGIC_BYTES)
    piece = CHUNK_BYTES if compression_of(chunk) is None else _PIECE_BYTES
    read = len(chunk)
    while chunk:
        position.stored_bytes += len(chunk)
        yield chunk
        chunk = stored.read(piece - read % piece)  # at whole pieces, as a store's stream is buffered
        read += len(chunk)


def peek(chunks: Iterable[bytes], size: int) -> tuple[bytes, Iterator[bytes]]:
    """The first bytes, fewer only where there are no more, and all chunks. What ends a file early is raised after what came before."""
    chunks = iter(chunks)
    held: list[bytes] = []
    length = 0
    try:
        for chunk in chunks:
            held.append(chunk)
            length += len(chunk)
            if length >= size:
                break
    except Exception as error:
        if not held:
            raise
        chunks = _raising(error)
    return b"".join(held)[:size], chain(held, chunks)


def _raising(error: Exception) -> Iterator[bytes]:
    yield from ()
    raise error
