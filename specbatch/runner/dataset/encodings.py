"""Converts UTF-16, UTF-32 and lone CR line ends to lines of UTF-8, as a stream."""

from __future__ import annotations

import codecs
from collections.abc import Iterator

from specbatch.errors import DatasetError

_UNITS = 4  # bytes that show an encoding
_MARKS = (  # the longer first: UTF-32's begins like UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_ZEROS = {  # where the first two characters are ASCII, as in any JSON (RFC 4627, section 3)
    (False, True, True, True): "utf-32-le",
    (True, True, True, False): "utf-32-be",
    (False, True, False, True): "utf-16-le",
    (True, False, True, False): "utf-16-be",
}


def encoding_of(head: bytes) -> str | None:
    """The encoding that a file's first bytes show, by their mark or by their zeros; None for UTF-8, and where they show none."""
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding
    return _ZEROS.get(tuple(not byte for byte in head[:_UNITS]))  # type: ignore[arg-type]  # shorter ones are no key


def as_utf8(chunks: Iterator[bytes], encoding: str, name: str) -> Iterator[bytes]:
    """The same text in UTF-8, without its mark.

    Raises:
        DatasetError: bytes that are no text in the encoding, or half of a character at the end.
    """
    decoder = codecs.getincrementaldecoder(encoding)()
    first = True
    try:
        for chunk in chunks:
            text = decoder.decode(chunk)
            if text:
                yield (text.removeprefix("\ufeff") if first else text).encode()
                first = False
        decoder.decode(b"", final=True)
    except UnicodeError as error:
        raise DatasetError(
            f"it is {encoding.upper()}, and damaged: {error}", where=name, remedy="write it again, best as UTF-8"
        ) from error


def ends_lines_with_cr(head: bytes) -> bool:
    r"""Whether lines end with \r alone, as on old Macs; `head` may be cut anywhere."""
    return b"\n" not in head and b"\r" in head[:-1]
