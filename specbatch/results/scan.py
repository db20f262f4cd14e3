"""Finished rows read back fast: a restart looks at every line, and needs only what it is counted and known by."""

from __future__ import annotations

import msgspec

from specbatch.results.rows import ResultRow
from specbatch.results.wire import decode_result


class _Usage(msgspec.Struct):
    prompt_tokens: int
    completion_tokens: int


class _Speculation(msgspec.Struct):
    rounds: int
    drafted: int
    accepted: int


class ScannedRow(msgspec.Struct):
    """The part of a ResultRow that is counted, and the two halves of its resume key."""

    id: str
    fingerprint: str
    index: int
    text: str
    finish_reason: str
    usage: _Usage
    speculation: _Speculation
    correct: bool | None = None


_decode = msgspec.json.Decoder(ScannedRow).decode


def scan_result(line: bytes) -> ScannedRow | ResultRow:
    """The row of a line, eight times faster than `decode_result`; ValueError where the line is none."""
    try:
        return _decode(line)
    except msgspec.MsgspecError:  # the OpenAI form, half of a surrogate pair, or no row at all
        return decode_result(line)
