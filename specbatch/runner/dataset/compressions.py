"""Detects a compression by a file's first bytes, and decompresses as a stream in bounded memory."""

from __future__ import annotations

import bz2
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from specbatch.errors import DatasetError

_OUTPUT_BYTES = 1 << 18  # the most that a decompressor gives at once, where it can be held to that


@dataclass(frozen=True, slots=True)
class Compression:
    """One way to compress a file.

    Attributes:
        name: as people say it.
        endings: of file names.
        command: writes a compressed file's bytes to standard output.
        magic: the first bytes.
        make: makes a decompressor of one member (gzip), stream (bzip2, xz) or frame (zstandard).
        piece_bytes: how much a decompressor gets at once.
        limit: its further argument, the most bytes that it gives; empty where it knows none, and `piece_bytes` alone bounds them.
    """

    name: str
    endings: tuple[str, ...]
    command: str
    magic: re.Pattern[bytes]
    make: Callable[[], Any]
    piece_bytes: int = 1 << 15
    limit: tuple[int, ...] = (_OUTPUT_BYTES,)


def _zstandard() -> Any:
    try:
        import zstandard  # noqa: PLC0415 - part of specbatch[runner]; most datasets need none
    except ImportError as error:
        raise DatasetError("zstandard is not installed", remedy="pip install 'specbatch[runner]'") from error
    return zstandard.ZstdDecompressor().decompressobj()


COMPRESSIONS = (
    Compression(
        "gzip", (".gz", ".gzip"), "gzip -dc", re.compile(rb"\x1f\x8b"), partial(zlib.decompressobj, zlib.MAX_WBITS | 16)
    ),
    Compression(
        "zstd",
        (".zst", ".zstd"),
        "zstd -dc",
        re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18"),
        _zstandard,
        piece_bytes=1 << 11,  # a block may hold 128 KiB in 4 bytes
        limit=(),
    ),
    Compression("bzip2", (".bz2",), "bzip2 -dc", re.compile(rb"BZh[1-9](1AY&SY|\x17rE8P\x90)"), bz2.BZ2Decompressor),
    Compression("xz", (".xz",), "xz -dc", re.compile(rb"\xfd7zXZ\x00"), lzma.LZMADecompressor),
)
_ENDINGS = tuple(ending for compression in COMPRESSIONS for ending in compression.endings)


def uncompressed_name(name: str) -> str:
    """A file's name without the ending of a compression."""
    ending = next((ending for ending in _ENDINGS if name.lower().endswith(ending)), "")
    return name[: len(name) - len(ending)]


def compression_of(head: bytes) -> Compression | None:
    """The compression that a file's first bytes show; None where they show none."""
    return next((one for one in COMPRESSIONS if one.magic.match(head)), None)


def decompressed(chunks: Iterator[bytes], compression: Compression, name: str) -> Iterator[bytes]:
    """The bytes of every member, stream or frame, one after another; zeros between and after them are padding.

    Args:
        chunks: the compressed bytes.
        compression: theirs.
        name: of the file, for people.

    Raises:
        DatasetError: damaged, cut short, or followed by something else.
    """
    current: Any = None
    members, given = 0, False
    for chunk in chunks:
        for at in range(0, len(chunk), compression.piece_bytes):
            data = chunk[at : at + compression.piece_bytes]
            while data or not getattr(current, "needs_input", True):  # bz2 and lzma keep what they did not come to
                if current is None:
                    data = data.lstrip(b"\0") if members else data
                    if not data:
                        break
                    current, given = compression.make(), False
                try:
                    plain = current.decompress(data, *compression.limit)
                except Exception as error:  # each library has its own
                    raise _damaged(compression, name, members if not given else None, error) from error
                given = given or bool(plain)
                if plain:
                    yield plain
                data = current.unused_data if current.eof else getattr(current, "unconsumed_tail", b"")  # zlib's
                if current.eof:
                    current, members = None, members + 1
    if current is not None:
        raise DatasetError(
            f"the {compression.name} data ends in the middle: the file was cut, or is still being written",
            where=name,
            remedy="copy the whole file again, and start with --fresh; the rows before the cut are in the results",
        )


def _damaged(compression: Compression, name: str, members: int | None, error: Exception) -> DatasetError:
    if members:  # none of this member came out, and others did: it is none
        return DatasetError(
            f"after the end of its {compression.name} data there is something else",
            where=name,
            remedy=f"write it anew without that: {compression.command} FILE > NEW.jsonl",
        )
    return DatasetError(
        f"the {compression.name} data is damaged ({error})",
        where=name,
        remedy=f"copy or make the file again: {compression.command} FILE > /dev/null must succeed",
    )
