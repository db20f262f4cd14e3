"""What the hub's client raises, as errors for users; and a time limit for its requests, which have none."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from specbatch.errors import ModelError, OutOfReachError, ResultsError, SpecbatchError
from specbatch.runner.transient_errors import answer_of, cause_of

ANSWER_SECONDS = 8.0  # of the hub
IN_THE_CACHE = (
    "without network access the model must be in the hub cache (specbatch fetch, HF_HOME) or in a local folder"
)
_UNKNOWN = {401, 403, 404}  # the hub says neither what is private nor to whom
_TIMES = ("connect", "read", "write", "pool")
_DISK = {errno.EEXIST, errno.ENOTDIR, errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO}


@contextmanager
def hub_errors(where: str, place: Path) -> Iterator[None]:
    """Turns whatever goes wrong in the block into an error for users.

    Args:
        where: the model, for people.
        place: where its files are written.

    Raises:
        ModelError: it is not there, not permitted, or cannot be loaded.
        OutOfReachError: the hub did not answer.
        ResultsError: the files cannot be written.
    """
    try:
        yield
    except OutOfReachError as error:
        error.remedy = f"{error.remedy}; {IN_THE_CACHE}"
        raise
    except SpecbatchError:
        raise
    except Exception as error:  # the hub raises a dozen kinds, and httpx its own
        cause = cause_of(error)
        if isinstance(cause, OSError) and cause.errno in _DISK:
            raise _not_written(cause, place) from error
        name = type(error).__name__
        reason = (str(error).strip() or name).splitlines()[0]
        raise ModelError(f"{reason} ({name})", where=where, remedy=_remedy(name, answer_of(cause)[0])) from error


def _not_written(error: OSError, place: Path) -> ResultsError:
    remedy = "make room there, or name another place: --to DIR, or HF_HOME"
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        remedy = "name a place where this user may write: --to DIR, or HF_HOME; in a pod see that the claim is not mounted read-only and has the pod's group (fsGroup)"
    if error.errno in {errno.EEXIST, errno.ENOTDIR}:
        remedy = "name a folder, or a path where one can be made: a file is in the way"
    return ResultsError(f"the model's files cannot be written: {error.strerror}", where=str(place), remedy=remedy)


def _remedy(error_name: str, status: int | None) -> str:
    if error_name == "GatedRepoError":
        return "accept the model's licence on the hub, and set HF_TOKEN to a token of that account"
    if status in _UNKNOWN or error_name in {"RepositoryNotFoundError", "RevisionNotFoundError", "HFValidationError"}:
        return "check the name and the revision; for a private model set HF_TOKEN; a folder must exist on this machine"
    if error_name in {"UnsupportedProtocol", "InvalidURL", "LocalProtocolError"}:
        return "HF_ENDPOINT is a URL, such as https://hf-mirror.com"
    return IN_THE_CACHE


def bound_silence() -> None:
    """The hub's client waits for ever by default: a request without a time limit gets one. It makes a new client now and then."""
    from huggingface_hub import get_session  # noqa: PLC0415 - only where something must be downloaded

    client = get_session()
    if _limit not in client.event_hooks["request"]:
        client.event_hooks = {**client.event_hooks, "request": [*client.event_hooks["request"], _limit]}


def _limit(request: Any) -> None:
    times = request.extensions.get("timeout") or {}
    if all(seconds is None for seconds in times.values()):
        request.extensions = {**request.extensions, "timeout": dict.fromkeys(_TIMES, ANSWER_SECONDS)}
