"""Secrets in texts: signed URLs, passwords in URLs and well-known tokens, found and taken out before a text leaves the process.

`redact` is for texts that people read, `without_secrets` for URIs that say what a run is: an object that is signed anew is
still the same object. No secret is ever repeated, not even in part.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

REDACTED = "REDACTED"
_MARKED = "-"  # the name of a parameter that was taken out before

# Parameters of a URL that are secrets by their name. Lower case, with - for _ and . between words.
SECRET_PARAMETER = re.compile(
    r"(x-(amz|goog|oss|cos|obs|ms|ca|tos)-[a-z0-9-]+"  # signatures of S3, GCS, OSS, COS, Azure, ...
    r"|sig|signature|sign|q-signature|hmac|policy|key-pair-id|awsaccesskeyid|ossaccesskeyid|googleaccessid"
    r"|sas|sas-?token|jwt|hdnts|hdnea|auth|authorization|auth-?key|credentials?"
    r"|([a-z0-9-]*-|access|refresh|id|auth|session|private|api)?token"
    r"|([a-z0-9-]*-)?(password|passwd|passphrase|pwd|pass)"
    r"|([a-z0-9-]*-)?(client)?secret(-?key)?"
    r"|([a-z0-9-]*-)?(api|access|account|secret|private|subscription|function|functions|shared|signing|auth)-?key|key)"
)
_NO_SECRET = re.compile(r"([a-z0-9-]*-)?(page|next|continuation|cursor|sync)-?token")
# What stands beside a signature and changes with it; elsewhere such a name means something else.
_BESIDE_SIGNATURE = re.compile(
    "s[eprtv]|spr|sip|ss|srt|si|sdd|ses|sk[eostv]|skoid|sktid|saoid|suoid|scid"  # Azure
    "|expires|expiry|algorithm|date"
)
_QUERY = re.compile(r"""[?#][^\s"'<>`\\]*""")
_WHOLE_QUERY = re.compile(r"[?#].*", re.DOTALL)
_LONGEST_NAME = 100
_SCHEME = r"(?<![A-Za-z0-9+.-])([A-Za-z][A-Za-z0-9+.-]*://)"
# A password may hold @ or /, as storage keys do; a port is none.
_PASSWORD = re.compile(
    _SCHEME + r"""(?![^\s/:@?#]*:\d*(?:[/?#]|$))[^\s/:@?#"'<>[]*:(?!:)[^\s?#"'<>]*?@(?:[^\s/?#"'<>@]*@)*"""
)
_USER_OF_WEB = re.compile(r"""((?:https?|ftps?|webdavs?|dav)://)[^\s/?#"'<>]*@""", re.IGNORECASE)
_HEADER = re.compile(r"""\b(Bearer|Basic)(\s+)(?=[A-Za-z0-9._~+/-]*[0-9=._~+/-])[A-Za-z0-9._~+/-]{12,}=*""")
TOKENS = (
    r"hf_[A-Za-z0-9]{16,}|sk-[A-Za-z0-9_-]{16,}|gh[pousr]_[A-Za-z0-9]{16,}|github_pat_[A-Za-z0-9_]{16,}|glpat-[A-Za-z0-9_-]{16,}"
    r"|xox[abeoprs]-[A-Za-z0-9-]{10,}|(?:AKIA|ASIA)[A-Z0-9]{16}|AIza[A-Za-z0-9_-]{30,}|ya29\.[A-Za-z0-9_-]{16,}|nvapi-[A-Za-z0-9_-]{16,}"
    r"|eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?"
)
"""Tokens that are known by how they begin: Hugging Face, OpenAI, GitHub, GitLab, Slack, AWS, Google, NVIDIA, JSON web tokens."""
_TOKEN = re.compile(rf"(?<![A-Za-z0-9_])(?:{TOKENS})(?![A-Za-z0-9_])")


def redact(text: str) -> str:
    """The text, with REDACTED in place of every secret in it; redacted again it stays the same."""
    if "://" in text:
        text = _without_users(text, REDACTED + "@")
    if "=" in text:
        text = _QUERY.sub(lambda found: _query(found[0], REDACTED), text)
    return _TOKEN.sub(REDACTED, _HEADER.sub(rf"\1\2{REDACTED}", text))


def redact_values(value: Any) -> Any:
    """A value for JSON, every text in it redacted: what is escaped there could hide the end of a URL."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {name: redact_values(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [redact_values(part) for part in value]
    return value


def without_secrets(uri: str) -> str:
    """A URI without signature, token and password: the same for one object, however it was signed. A local path stays."""
    return _cleaned(uri, "") if "://" in uri else uri


def redact_uri(uri: str) -> str:
    """A URI for people, as `without_secrets`, but one sees that there was a secret."""
    return _cleaned(uri, REDACTED) if "://" in uri else uri


def was_redacted(uri: str) -> bool:
    """Whether a URI comes from a file that keeps no secrets: nothing can be opened by it."""
    return "://" in uri and (f"://{REDACTED}@" in uri or bool(re.search(rf"[?&#]{REDACTED}$", uri)))


def holds_password(uri: str) -> bool:
    """Whether a user's password, or a key in its place, stands before the host, also behind a chained protocol."""
    return _without_users(uri, "") != uri


def holds_secret(uri: str) -> bool:
    """Whether anything of a URI is secret: a password, a signature, a token."""
    return without_secrets(uri) != uri


def _cleaned(uri: str, mark: str) -> str:
    uri = _without_users(uri, f"{mark}@" if mark else "")
    return _WHOLE_QUERY.sub(lambda found: _query(found[0], mark), uri)


def _without_users(text: str, mark: str) -> str:
    text = text.replace(f"://{REDACTED}@", f"://{mark}")
    for pattern in (_PASSWORD, _USER_OF_WEB):
        text = pattern.sub(lambda found: f"{found[1]}{mark}", text)
    return text


def _query(text: str, mark: str) -> str:
    """A query or fragment, with what is secret taken out; one mark stands for all of it, at the end."""
    end = len(text.rstrip(").,:;]}"))  # of a sentence around it
    body, tail = text[:end], text[end:]
    pieces = re.split(r"([?#&;])", body)  # "", "?", parameter, "&", parameter, ...
    given = list(zip(pieces[1::2], pieces[2::2], strict=True))
    names = [_name(parameter) for _, parameter in given]
    secret = [name == _MARKED or _is_secret(name) for name in names]
    if not any(secret):
        return text
    kept = [
        part
        for part, name, hidden in zip(given, names, secret, strict=True)
        if not hidden and not _BESIDE_SIGNATURE.fullmatch(name)
    ]
    if mark:
        kept.append(("&", mark))
    joined = "".join(f"{sign}{parameter}" for sign, parameter in kept)
    return (f"{body[0]}{joined[1:]}" if joined else "") + tail


def _is_secret(name: str) -> bool:
    return bool(SECRET_PARAMETER.fullmatch(name)) and not _NO_SECRET.fullmatch(name)


def _name(parameter: str) -> str:
    """The name of a parameter, as it is compared; empty where there is no value."""
    name, equals, value = parameter.partition("=")
    if not (equals and value) or len(name) > _LONGEST_NAME:
        return _MARKED if parameter == REDACTED else ""
    return re.sub(r"[_.]", "-", unquote(name).lower())
