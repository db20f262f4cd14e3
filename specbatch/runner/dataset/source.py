"""A file of a dataset, wherever it is; and the error where one cannot be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from specbatch.errors import DatasetError, SpecbatchError
from specbatch.runner.retry import out_of_reach, short_reason
from specbatch.runner.transient_errors import is_transient

_REMEDY = "check that the file is whole and that this process may read it (credentials, permissions)"
_LOGIN = "set HF_TOKEN to a token of an account that may read it (in a cluster: job.secretEnvFrom)"
_OF_THE_HUB = {  # what huggingface_hub raises -> what it means, and what to do
    "GatedRepoError": ("the dataset is gated", f"accept its terms on the hub, and {_LOGIN}"),
    "RepositoryNotFoundError": (
        "there is no such dataset on the hub, or it is private",
        f"check the name; or {_LOGIN}",
    ),
    "RevisionNotFoundError": (
        "the dataset has no such revision",
        "check dataset.revision: a branch, a tag or a commit",
    ),
}


@dataclass(frozen=True, slots=True)
class Source:
    """One file of a dataset.

    Attributes:
        name: the path or URI, as shown to people: without secrets.
        size: bytes as stored (compressed where it is), or None where the store does not say.
        open_stored: opens the stored bytes, to be read in order.
        open_anywhere: opens them to be read here and there.
        seen: what changes with the file: its size, when it was written, the store's own sign of it.
        path: of a file of this machine.
    """

    name: str
    size: int | None
    open_stored: Callable[[], BinaryIO]
    open_anywhere: Callable[[], BinaryIO]
    seen: Mapping[str, Any] = field(default_factory=dict)
    path: Path | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """The files that a URI names.

    Attributes:
        sources: those that hold rows, in a fixed order.
        passed: files of a folder that were left out.
        left_out: a sentence about them; empty where there are none.
        pinned: whether they are those of one commit, which cannot change.
    """

    sources: Sequence[Source]
    passed: Sequence[Source] = ()
    left_out: str = ""
    pinned: bool = False


def unreadable(where: str, error: BaseException) -> SpecbatchError:
    """The error for whatever a file or store raised while it was read: OutOfReachError where it may pass, else DatasetError."""
    if isinstance(error, SpecbatchError):
        return error
    if is_transient(error):
        return out_of_reach(where, error)
    usual = f"cannot be read: {short_reason(error)}", _REMEDY
    message, remedy = next((_OF_THE_HUB[name] for name in _names(error) if name in _OF_THE_HUB), usual)
    return DatasetError(message, where=where, remedy=remedy)


def _names(error: BaseException | None) -> Iterator[str]:
    """What an error is called, and those that it was raised from."""
    while error is not None:
        yield type(error).__name__
        error = error.__cause__ or error.__context__
