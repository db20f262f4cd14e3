"""A row of the dataset: its prompt, its decoding options and its id; or the reason why it is bad."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from specbatch.api.decoding import DecodingSpec
from specbatch.results.rows import Endpoint, ErrorCode
from specbatch.runner.chat.options import NO_CHAT, ChatOptions
from specbatch.runner.rows.messages import Message


@dataclass(slots=True)  # not frozen, which costs three times as much to make: a restart reads every row again
class Row:
    """One row to decode, still as text. `fingerprint` changes with anything that changes its completion."""

    id: str
    index: int
    line_number: int
    fingerprint: str
    prompt: str | None
    messages: Sequence[Message] | None
    raw: bool  # no chat template
    decoding: DecodingSpec
    enable_thinking: bool | None = None
    answer: str | None = None
    endpoint: Endpoint | None = None  # set on OpenAI batch lines
    columns: dict[str, Any] | None = None  # that its result carries
    chat: ChatOptions = NO_CHAT

    def refused(self, code: ErrorCode, message: str) -> BadRow:
        """The same row, which turned out not to be decodable."""
        return BadRow(
            self.id, self.index, self.line_number, self.fingerprint, code, message, self.endpoint, self.columns
        )


@dataclass(frozen=True, slots=True)
class BadRow:
    """One row that cannot be decoded, with the id and fingerprint by which a restart knows it again."""

    id: str
    index: int
    line_number: int
    fingerprint: str
    code: ErrorCode
    message: str
    endpoint: Endpoint | None = None
    columns: dict[str, Any] | None = None
