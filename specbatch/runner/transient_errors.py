"""Tells transient failures of a store, a web server or the hub, which are worth a retry, from permanent ones."""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Iterator

_TIMEOUT, _TOO_EARLY, _TOO_MANY = 408, 425, 429
_NEVER = {501, 505}  # server errors that say "not like this"
_DENIED = {401, 403}
_CODES = {  # of S3 and Azure, where the HTTP status alone would say "refused"
    "ExpiredToken",
    "ExpiredTokenException",
    "RequestExpired",
    "TokenRefreshRequired",
    "RequestTimeTooSkewed",
    "RequestTimeout",
    "RequestTimeoutException",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "InternalError",
    "ServiceUnavailable",
    "ServerBusy",
    "OperationTimedOut",
    "ExpiredAuthenticationToken",
}
_NUMBERS = {
    errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE, errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.EHOSTDOWN,
    errno.ENETUNREACH, errno.ENETDOWN, errno.ENETRESET, errno.EBUSY, errno.EAGAIN, errno.ESTALE, errno.EREMOTEIO,
}  # fmt: skip
# By name: most of these libraries are not installed where their errors cannot occur. Subclasses count.
_PASSING = {
    "ClientConnectionError", "ClientPayloadError",  # aiohttp
    "HTTPClientError", "IncompleteReadError", "ResponseStreamingError", "ConnectionError",  # botocore, requests
    "TransportError", "RefreshError",  # httpx, google.auth
    "ServiceRequestError", "ServiceResponseError",  # azure.core
    "IncompleteRead", "ProtocolError", "Timeout",  # http.client, urllib3, requests
}  # fmt: skip
_LASTING = {
    "OfflineModeIsEnabled",
    "UnsupportedProtocol",
    "SSLError",
    "ClientSSLError",
    "NoCredentialsError",
    "InvalidURL",
}


def is_transient(error: BaseException, *, was_permitted: bool = False) -> bool:
    """Whether the same call may succeed later without anybody doing anything.

    Refused, reset or silent connections, names that are not found, HTTP 408, 425, 429 and 5xx, and credentials that have expired: yes.
    What is not there or not permitted, a wrong certificate, a missing driver: no. Drivers wrap what happened: the first error of the
    chain that is clear about it counts.

    Args:
        error: what a driver raised.
        was_permitted: the same credentials have worked before: then 401 and 403 mean that they have expired.
    """
    for one in _chain(error):
        verdict = _verdict(one, was_permitted=was_permitted)
        if verdict is not None:
            return verdict
    return False


def cause_of(error: BaseException) -> BaseException:
    """The error of a chain that says best what happened: the innermost one of those raised from each other."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def answer_of(error: BaseException) -> tuple[int | None, str]:
    """The HTTP status and the store's own error code that stand in an error, as far as it has them."""
    answer = getattr(error, "response", None)
    if isinstance(answer, dict):  # botocore
        own = str(answer.get("Error", {}).get("Code", ""))
        status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return _number(status if status is not None else own), own
    code = str(getattr(error, "error_code", None) or "")
    for holder, name in ((error, "status"), (error, "status_code"), (answer, "status_code"), (error, "code")):
        status = _number(getattr(holder, name, None))
        if status is not None:
            return status, code
    return None, code


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    following: BaseException | None = error
    while following is not None and id(following) not in seen:
        seen.add(id(following))
        yield following
        following = following.__cause__ or (None if following.__suppress_context__ else following.__context__)


def _verdict(error: BaseException, *, was_permitted: bool) -> bool | None:  # noqa: PLR0911 - a kind a return
    """None where the error does not say."""
    names = {kind.__name__ for kind in type(error).__mro__}
    if names & _LASTING or isinstance(error, ssl.SSLCertVerificationError):
        return False
    status, code = answer_of(error)
    if code in _CODES or "expired" in str(error).lower():
        return True
    if status is not None:
        if status in _DENIED:
            return was_permitted
        return status in {_TIMEOUT, _TOO_EARLY, _TOO_MANY} or (status >= 500 and status not in _NEVER)
    if isinstance(error, (TimeoutError, ConnectionError, socket.gaierror)) or names & _PASSING:
        return True
    if isinstance(error, OSError) and error.errno in _NUMBERS:
        return True
    return None


def _number(value: object) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdecimal():
        value = int(value)
    return value if isinstance(value, int) and 100 <= value < 600 else None
