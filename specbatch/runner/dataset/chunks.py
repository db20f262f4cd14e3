"""Reads a source in chunks of UTF-8 lines. Its format is detected by content, not by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import BinaryIO

from specbatch.errors import SpecbatchError
from specbatch.runner.dataset.compressions import compression_of, decompressed
from specbatch.runner.dataset.encodings import as_utf8, encoding_of, ends_lines_with_cr
from specbatch.runner.dataset.file_kinds import MAGIC_BYTES, Kind, kind_of, refused
from specbatch.runner.dataset.shapes import HEAD_BYTES, shape_of
from specbatch.runner.dataset.sources import Source, unreadable

CHUNK_BYTES = 1 << 18
_PIECE_BYTES = 1 << 14  # of a compressed file: how far it is read is to fit what has come out
_MOST_LAYERS = 2  # a file may be compressed twice; one that gives itself, for ever
_NO_TEXT = Kind("binary data of an unknown kind", "name a file that holds text")


@dataclass(slots=True)
class ReadPosition:
    """How many stored bytes of a source have been read, and how many uncompressed ones given; any thread may look."""

    stored_bytes: int = 0
    given_bytes: int = 0


def read_chunks(source: Source, position: ReadPosition, *, as_text: bool = False) -> Iterator[bytes]:
    r"""The source's lines in UTF-8 with \n at their ends, decompressed, a chunk at a time; `position` follows the stored bytes.

    Args:
        source: a file.
        position: kept up to date.
        as_text: every line is a prompt: it need not be JSON.

    Raises:
        DatasetError: unreadable, no lines of JSON or text, or a compressed file that is damaged or cut short.
        OutOfReachError: the store could not be reached for too long.
    """
    with _opened(source) as stored:
        for chunk in _lines(_stored(stored, position), source.name, as_text=as_text):
            position.given_bytes += len(chunk)
            yield chunk


def read_head(source: Source, size: int) -> bytes:
    """The source's first bytes as stored, compressed or not; errors as `read_chunks`."""
    with _opened(source) as stored:
        return stored.read(size)


@contextmanager
def _opened(source: Source) -> Iterator[BinaryIO]:
    try:
        with source.open_stored() as stored:
            yield stored
    except SpecbatchError:
        raise
    except Exception as error:  # a store's driver raises whatever it likes
        raise unreadable(source.name, error) from error


def _stored(stored: BinaryIO, position: ReadPosition) -> Iterator[bytes]:
    chunk = stored.read(MAGIC_BYTES)
    piece = CHUNK_BYTES if compression_of(chunk) is None else _PIECE_BYTES
    read = len(chunk)
    while chunk:
        position.stored_bytes += len(chunk)
        yield chunk
        chunk = stored.read(piece - read % piece)  # at whole pieces, as a store's stream is buffered
        read += len(chunk)


def _lines(chunks: Iterator[bytes], name: str, *, as_text: bool) -> Iterator[bytes]:
    head, chunks = _peek(chunks, MAGIC_BYTES)
    for layer in range(_MOST_LAYERS + 1):
        compression = compression_of(head)
        if compression is None:
            break
        if layer == _MOST_LAYERS:
            command = f"{compression.command} {{file}} > {{out}}"
            raise refused(Kind(f"compressed more than {_MOST_LAYERS} times", command), name)
        head, chunks = _peek(decompressed(chunks, compression, name), MAGIC_BYTES)
    kind = kind_of(head)
    if kind is None:
        encoding = encoding_of(head)
        chunks = chunks if encoding is None else as_utf8(chunks, encoding, name)
        head, chunks = _peek(chunks, HEAD_BYTES)
        if ends_lines_with_cr(head):
            head, chunks = head.replace(b"\r", b"\n"), (chunk.replace(b"\r", b"\n") for chunk in chunks)
        if as_text:
            kind = _NO_TEXT if b"\0" in head.partition(b"\n")[0] else None
        else:
            kind = shape_of(head, whole=len(head) < HEAD_BYTES)
    if kind is not None:
        raise refused(kind, name)
    return chunks


def _peek(chunks: Iterable[bytes], size: int) -> tuple[bytes, Iterator[bytes]]:
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
