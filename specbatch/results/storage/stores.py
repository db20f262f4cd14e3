"""The drivers of object stores, by fsspec: found by a URI, called with a timeout, and their errors made readable."""

from __future__ import annotations

import errno
import inspect
import re
from typing import Any

from specbatch.errors import ResultsError
from specbatch.redact import redact

_INSTALL = {  # fsspec protocol -> how to install its driver
    "s3": "pip install 'specbatch[s3]'",
    "s3a": "pip install 'specbatch[s3]'",
    "gs": "pip install 'specbatch[gcs]'",
    "gcs": "pip install 'specbatch[gcs]'",
    "az": "pip install 'specbatch[azure]'",
    "abfs": "pip install 'specbatch[azure]'",
    "abfss": "pip install 'specbatch[azure]'",
    "http": "pip install aiohttp",
    "https": "pip install aiohttp",
    "hf": "pip install huggingface_hub",
}
_LINE_CHARS = 300
_CONNECT_SECONDS = 5
_READ_SECONDS = 30.0  # without a byte
_SLOWEST = 256 << 10  # bytes a second: a call that moves data has as much longer
_QUERY = re.compile(r"(?<=[\w/])\?[^\s\"']*")  # of a URL in a message: long, and it may hold a signature
_TAKEN = {"PreconditionFailed", "412"}  # what S3 servers answer where create-only finds a file


def install_remedy(protocol: str) -> str:
    """How to get the fsspec driver of a protocol."""
    return _INSTALL.get(protocol, f"install the fsspec driver of {protocol}://")


def timeout(seconds: float, size: int) -> float:
    """The timeout of a call that moves so many bytes, and without them takes `seconds` at most."""
    return seconds + size / _SLOWEST


class Store:
    """One store, and the path in it that a URI means. It remembers no listings.

    Credentials and endpoint come from where the driver usually looks. For S3: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,
    AWS_SESSION_TOKEN, AWS_PROFILE, a pod's or machine's role; AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL.

    Args:
        uri: such as s3://bucket/runs/nightly.
        seconds: how long a call may take that moves no data, where the driver can be interrupted (S3, GCS, Azure, HTTP).

    Raises:
        ResultsError: the driver is not installed, or the URI is none.
    """

    def __init__(self, uri: str, *, seconds: float) -> None:
        import fsspec  # noqa: PLC0415 - local runs need none of it

        self._seconds = seconds
        protocol = uri.partition("://")[0]
        try:
            self.driver, self.root = fsspec.core.url_to_fs(
                uri, use_listings_cache=False, skip_instance_cache=True, **_options(protocol, seconds)
            )
        except (ImportError, ValueError) as error:
            raise ResultsError(
                f"no driver for {protocol}:// ({error})", where=uri, remedy=install_remedy(protocol)
            ) from error

    def path(self, name: str) -> str:
        """As the driver wants it."""
        return f"{self.root}/{name}"

    def call(self, method: str, *arguments: object, size: int = 0, **options: object) -> Any:
        """Calls the driver, for as long as that makes sense for the bytes to be moved; raises whatever it raises."""
        if getattr(self.driver, "async_impl", False):
            options["timeout"] = timeout(self._seconds, size)
        return getattr(self.driver, method)(*arguments, **options)

    def create(self, method: str, *arguments: object, size: int, new: bool) -> bool:
        """Calls put_file or pipe_file; with `new` it is False where a file is there already, if the store can tell."""
        if new and self._knows_mode(method):
            try:
                self.call(method, *arguments, size=size, mode="create")
            except FileExistsError:
                return False
            except OSError as error:
                answer = getattr(error.__cause__, "response", {})
                if answer.get("Error", {}).get("Code") in _TAKEN:
                    return False
                if error.errno != errno.ENOSYS:  # a server without create-only
                    raise
            else:
                return True
        self.call(method, *arguments, size=size)
        return True

    def _knows_mode(self, method: str) -> bool:
        function = getattr(self.driver, f"_{method}", None) or getattr(self.driver, method)
        return "mode" in inspect.signature(function).parameters


def _options(protocol: str, seconds: float) -> dict[str, Any]:
    """Whoever calls retries, and shows why: the drivers should give up soon. They hold 50 MB in memory for each request at a time."""
    silence = min(seconds, _READ_SECONDS)
    if protocol in {"s3", "s3a"}:
        config = {"connect_timeout": _CONNECT_SECONDS, "read_timeout": silence, "retries": {"max_attempts": 1}}
        return {"config_kwargs": config, "max_concurrency": 2}
    if protocol in {"http", "https"}:
        import aiohttp  # noqa: PLC0415 - comes with the driver

        # By default a whole answer may take five minutes: a file is read for as long as its rows take to decode.
        times = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS, sock_read=silence)
        return {"client_kwargs": {"timeout": times}}
    return {}


def reason_of(error: Exception) -> str:
    """What a driver's error says, in one line."""
    if isinstance(error, TimeoutError) and not str(error):
        return "the store does not answer"
    return " ".join(_QUERY.sub("", str(error)).split()) or type(error).__name__


def one_line(problem: Exception) -> str:
    """A reason as one line, not too long, without secrets."""
    text = problem.message if isinstance(problem, ResultsError) else f"{type(problem).__name__}: {problem}"
    line = " ".join(redact(text).split())
    return line if len(line) <= _LINE_CHARS else f"{line[:_LINE_CHARS]}..."


def remedy_of(error: Exception) -> str:
    """What to do about a driver's error."""
    if isinstance(error, PermissionError) or "credential" in str(error).lower():
        return "check the store's credentials and permissions (its usual environment variables, or job.secretEnvFrom)"
    if isinstance(error, FileNotFoundError):
        return "check the bucket and the path"
    return "check that the store can be reached from here, and its endpoint"
