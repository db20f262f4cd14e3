"""A source's bytes as a stream of chunks: plain, gzip or zstandard, with bounded memory."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from specbatch.errors import DatasetError, SpecbatchError
from specbatch.runner.sources import Source, unreadable

CHUNK_BYTES = 1 << 18
_ZSTD_INPUT_BYTES = 1 << 11  # a zstd block may hold 128 KiB in 4 bytes: small inputs bound what one step gives


@dataclass(slots=True)
class ReadPosition:
    """How many stored bytes of a source have been read, and how many uncompressed ones given; any thread may look."""

    stored_bytes: int = 0
    given_bytes: int = 0


def read_chunks(source: Source, position: ReadPosition) -> Iterator[bytes]:
    """The source's uncompressed bytes, a chunk at a time; `position` follows the stored bytes.

    Raises:
        DatasetError: unreadable, or a compressed file that is damaged or cut short.
        OutOfReachError: the store could not be reached for too long.
    """
    readers = {".gz": _gzip_chunks, ".zst": _zstd_chunks}
    return _opened(source, readers.get(source.compression, _plain_chunks), position)


def read_stored(source: Source) -> Iterator[bytes]:
    """The source's bytes as stored, compressed or not; errors as `read_chunks`."""
    return _opened(source, _plain_chunks, ReadPosition())


def _opened(
    source: Source, read: Callable[[BinaryIO, ReadPosition], Iterator[bytes]], position: ReadPosition
) -> Iterator[bytes]:
    try:
        with source.open_stored() as stored:
            for chunk in read(stored, position):
                position.given_bytes += len(chunk)
                yield chunk
    except SpecbatchError:
        raise
    except Exception as error:  # a store's driver raises whatever it likes
        raise unreadable(source.name, error) from error


def _plain_chunks(stored: BinaryIO, position: ReadPosition) -> Iterator[bytes]:
    while chunk := stored.read(CHUNK_BYTES):
        position.stored_bytes += len(chunk)
        yield chunk


def _gzip_chunks(stored: BinaryIO, position: ReadPosition) -> Iterator[bytes]:
    with gzip.GzipFile(fileobj=stored, mode="rb") as rows:
        while chunk := rows.read(CHUNK_BYTES):
            position.stored_bytes = stored.tell()
            yield chunk


def _zstd_chunks(stored: BinaryIO, position: ReadPosition) -> Iterator[bytes]:
    """Decodes frame after frame; zstandard's own reader would take a cut-off file for a whole one."""
    try:
        import zstandard  # noqa: PLC0415 - part of specbatch[runner]; most datasets need none
    except ImportError as error:
        raise DatasetError("zstandard is not installed", remedy="pip install 'specbatch[runner]'") from error
    frame = None
    while compressed := stored.read(_ZSTD_INPUT_BYTES):
        position.stored_bytes += len(compressed)
        while compressed:
            frame = frame or zstandard.ZstdDecompressor().decompressobj()
            yield frame.decompress(compressed)
            compressed = frame.unused_data if frame.eof else b""
            frame = None if frame.eof else frame
    if frame is not None:
        raise EOFError("the zstd file ends in the middle of a frame")
