"""Names for prefixes: what tells whether two rows begin with the same tokens, a stretch at a time."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence

PAGE = 64  # tokens: what rows share on the fast path comes in pages of so many
_BYTES = 16  # of a name: two different prefixes have the same one with a chance of 2^-128


def prefix_keys(tokens: Sequence[int], size: int, *, lookahead: int = 0) -> list[bytes]:
    """A key for the tokens up to the end of each whole stretch of `size`, the last two tokens not among them.

    Each key stands for all tokens before its end: two rows have the same i-th key where their first (i + 1) * size tokens are the same: the
    hash chain of vLLM's automatic prefix caching. Of the last token the KV is written by the row's first round, of the one before it
    perhaps again: it is the one token that is always computed.

    Args:
        tokens: of a row.
        size: tokens of a stretch.
        lookahead: tokens behind a stretch's end that must be the same, too: 1 where what is kept of a position hangs on the token after it, else 0.
    """
    count = max(0, (len(tokens) - 2) // size)
    if not count:
        return []
    numbers = memoryview(array("q", tokens[: count * size + lookahead])).cast("B")
    hashed, keys, begin = hashlib.blake2b(digest_size=_BYTES), list[bytes](), 0
    for place in range(1, count + 1):
        end = 8 * (place * size + lookahead)
        hashed.update(numbers[begin:end])
        keys.append(hashed.digest())
        begin = end
    return keys
