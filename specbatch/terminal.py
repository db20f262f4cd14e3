r"""Texts on their way to a terminal: nothing in a file's name, an id or a message of a cluster may move the cursor or hide other text.

What controls a terminal (C0 and C1 controls, escape sequences, text direction) is shown as it would be written in Python: \x1b, \u202e.
Line ends and tabs stay.
"""

from __future__ import annotations

import re
from typing import TextIO

from specbatch.redact import redact

_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 without tab and line feed, DEL, C1
    "\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"  # invisible, or the text's direction
    "\ud800-\udfff\U000e0000-\U000e007f]"  # halves of a character, and tags
)


def printable(text: str) -> str:
    """The text with every control character written out."""
    return _CONTROLS.sub(lambda found: _written(ord(found[0])), text.replace("\r\n", "\n"))


def for_people(text: str) -> str:
    """The text as people may see it: without secrets, and every control character written out."""
    return printable(redact(text))


def encodable(text: str, stream: TextIO) -> str:
    """The text as a stream can take it: what its encoding lacks (ASCII, Latin-1) is written out, so that no run ends by its own display."""
    encoding = getattr(stream, "encoding", None)
    return text.encode(encoding, "backslashreplace").decode(encoding) if encoding else text


def _written(code: int) -> str:
    if code == 0x0D:
        return "\\r"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
