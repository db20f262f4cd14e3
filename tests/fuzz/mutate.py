"""Valid inputs, damaged: seeded, so that an input can be made again from its number."""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence
from typing import Any

_BYTES = [
    b"", b"\0", b"\xff", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\r", b"\n", b"\n\n", b"\r\n", b"\xe2\x80\xa8", b"\t", b" ", b'"', b"'", b"{", b"}", b"[",
    b"]", b":", b",", b"\\", b"\\u0000", b"\\ud800", b"\\udc00\\ud800", b"\\uD83D\\uDE00", b"null", b"true", b"NaN", b"-Infinity", b"1e999", b"-0", b"0x1f",
    b"1_000", b"9" * 5000, b"[" * 3000, b'{"a":' * 3000, b"- " * 2000, b"? ", b"&a ", b"*a", b"<<: *a\n", b"!!python/object:os.system", b"!!binary x", b"%YAML 1.1\n",
    b"---\n", b"...\n", b"|\n", b">-\n", b"# ", b"@", b"`", b"~", b"2001-01-01", b"12:30:45", b"=", b"%", b"${HOME}", b"{{ x }}", b"\x1b[31m", "你好😀".encode(),
]  # fmt: skip
VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 3, 2**31, 2**63, 10**30, -(10**400), 0.0, -0.0, 0.5, 1e-300, 1e300, "", " ", "auto", "0", "-1", "1e5", "5%", "200%", "1Gi", "4Ki", "NaN",
    "x" * 5000, "\0", "\ud800", "\u2028", "a\nb", "😀", "../..", "/", "s3://", "s3://a:b@c/d", "http://[::1", "file://", "hf://x", "~", "{{", "{% raise %}", "<|im_start|>",
    [], [None], ["a"], [""], [[]], [1, "a"], ["a"] * 100, {}, {"": 1}, {"a": {"b": []}}, {"role": "user", "content": "x"}, [{"role": "user", "content": "x"}],
    [{"role": "user"}], [{"role": "nobody", "content": 1}], [{"type": "text", "text": "x"}], [{"role": "user", "content": [{"type": "image_url"}]}],
]  # fmt: skip


def damaged(data: bytes, others: Sequence[bytes], chosen: random.Random) -> bytes:
    """Bytes with one to four changes: flipped, cut out, doubled, put in, cut off, spliced with another input."""
    for _ in range(chosen.randint(1, 4)):
        start = chosen.randint(0, len(data))
        end = min(len(data), start + chosen.choice([1, 1, 2, 8, 64, 1000]))
        match chosen.randrange(7):
            case 0 if start < len(data):
                data = data[:start] + bytes([data[start] ^ 1 << chosen.randrange(8)]) + data[start + 1 :]
            case 1:
                data = data[:start] + data[end:]
            case 2:
                data = data[:end] + data[start:end] * chosen.choice([1, 2, 50]) + data[end:]
            case 3 | 4:
                data = data[:start] + chosen.choice(_BYTES) + data[start if chosen.random() < 0.5 else end :]
            case 5:
                data = data[:start]
            case _:
                other = chosen.choice(others)
                data = data[:start] + other[chosen.randint(0, len(other)) :]
    return data


def changed(value: Any, names: Sequence[str], chosen: random.Random) -> Any:
    """Data with one to three values put in somewhere, keys renamed, added or taken away."""
    value = copy.deepcopy(value)
    for _ in range(chosen.randint(1, 3)):
        holders = list(_holders(value))
        if not holders:
            return chosen.choice(VALUES)
        holder = chosen.choice(holders)
        keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        key = chosen.choice(keys) if keys else None
        match chosen.randrange(6):
            case 0 | 1 if key is not None:
                holder[key] = copy.deepcopy(chosen.choice(VALUES))
            case 2 if isinstance(holder, dict):
                holder[chosen.choice(names)] = copy.deepcopy(chosen.choice(VALUES))
            case 3 if isinstance(holder, dict) and key is not None:
                holder[misspelled(key, chosen)] = holder.pop(key)
            case 4 if key is not None:
                del holder[key]
            case _ if isinstance(holder, list):
                holder.extend(copy.deepcopy([chosen.choice(VALUES)] * chosen.choice([1, 2, 30])))
    return value


def misspelled(name: Any, chosen: random.Random) -> str:
    """A name that is nearly this one."""
    text = str(name)
    at = chosen.randint(0, len(text))
    return chosen.choice([text.upper(), text[:at] + text[at + 1 :], f"{text[:at]}x{text[at:]}", f"{text}s", ""])


def _holders(value: Any):
    if isinstance(value, dict | list):
        yield value
        for part in value.values() if isinstance(value, dict) else value:
            yield from _holders(part)
