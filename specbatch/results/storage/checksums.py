"""The hashes that stores give of their objects, compared with files here. A store that gives none says nothing."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_ETAG = re.compile(r'^"?([0-9a-f]{32})(?:-([0-9]+))?"?$')
_MD5_BYTES = 16
_PIECES = (50 << 20, 5 << 20, 8 << 20, 16 << 20)  # in which uploads are cut: s3fs' own first
_READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Checksum:
    """An MD5, in hex: of the object, or of the MD5s of the `pieces` that it was uploaded in."""

    md5: str
    pieces: int = 0


def checksum_of(info: Mapping[str, Any]) -> Checksum | None:
    """What a driver's description of an object says: S3's ETag, GCS' md5Hash, Azure's content_md5; None where there is none.

    An ETag need not be an MD5 (encryption by KMS): one that differs proves nothing.
    Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html
    """
    azure = info.get("content_settings") or {}
    for value in (
        info.get("md5Hash"),
        info.get("content_md5"),
        getattr(azure, "get", lambda _name: None)("content_md5"),
    ):
        digest = value if isinstance(value, (bytes, bytearray)) else _decoded(value)
        if digest is not None and len(digest) == _MD5_BYTES:
            return Checksum(bytes(digest).hex())
    etag = _ETAG.match(str(info.get("ETag") or info.get("etag") or ""))
    return Checksum(etag[1], int(etag[2] or 0)) if etag else None


def has_checksum(path: Path, checksum: Checksum) -> bool:
    """Whether a file here certainly has that checksum; False also where that cannot be told. OSError where it cannot be read."""
    size = path.stat().st_size
    if not checksum.pieces:
        return _md5(path, [size]) == [checksum.md5]
    for piece in _PIECES:
        if -(-size // piece) == checksum.pieces:
            digests = _md5(path, [piece] * checksum.pieces)
            if hashlib.md5(bytes.fromhex("".join(digests)), usedforsecurity=False).hexdigest() == checksum.md5:
                return True
    return False


def _md5(path: Path, sizes: list[int]) -> list[str]:
    """Of one piece of the file after the other."""
    found = []
    with path.open("rb") as file:
        for size in sizes:
            digest, left = hashlib.md5(usedforsecurity=False), size
            while data := file.read(min(left, _READ_BYTES)):
                digest.update(data)
                left -= len(data)
            found.append(digest.hexdigest())
    return found


def _decoded(value: object) -> bytes | None:
    try:
        return base64.b64decode(value, validate=True) if isinstance(value, str) else None
    except ValueError:
        return None
