"""Every error a user can meet, and the exit code each one ends the process with.

SpecbatchError            64-75, always with a remedy where one is known
├── SpecError             64  the spec is wrong: every problem at once, each with its path
├── DatasetError          65  the dataset cannot be read, or too many of its rows are bad
├── ModelError            66  a model is missing, not permitted, or of a kind that cannot run
│   └── VocabularyMismatchError  target and drafter do not share a vocabulary
├── OutOfReachError       68  input, hub or store out of reach for now: another attempt may find it there
├── DeviceError           69  the visible GPUs are not what the placement needs, or one has failed
├── OutOfMemoryError      70  out of memory at the smallest settings
├── ClusterError          71  the Kubernetes cluster cannot be reached, or refuses
├── ResultsError          74  results cannot be written
│   ├── OtherRunError     64  the results that are there belong to another run: no other attempt of this spec can mend that
│   └── SplitError        64  the results that are there are split into another number of shards
└── StoppedError          75  told to stop; everything finished is saved

Raise these for users; use assert for our own invariants. The CLI catches SpecbatchError once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

from specbatch.redact import redact


class ExitCode(IntEnum):
    """The exit codes: podFailurePolicy, docs and tests are made from this table. CLUSTER is no runner's: it ends commands only."""

    DONE = 0
    BAD_SPEC = 64
    BAD_DATASET = 65
    MODEL_MISSING = 66
    OUT_OF_REACH = 68
    GPU_FAULT = 69
    OUT_OF_MEMORY = 70
    CLUSTER = 71
    RESULTS_NOT_WRITTEN = 74
    STOPPED = 75

    @property
    def meaning(self) -> str:
        """One phrase, as shown to people."""
        return _MEANINGS[self]

    @property
    def retryable(self) -> bool:
        """Whether the same Job may succeed on another attempt."""
        return self in _RETRYABLE


_RETRYABLE = {
    ExitCode.OUT_OF_REACH,
    ExitCode.GPU_FAULT,
    ExitCode.CLUSTER,
    ExitCode.RESULTS_NOT_WRITTEN,
    ExitCode.STOPPED,
}

_MEANINGS = {
    ExitCode.DONE: "done",
    ExitCode.BAD_SPEC: "bad spec",
    ExitCode.BAD_DATASET: "bad dataset",
    ExitCode.MODEL_MISSING: "model missing or not permitted",
    ExitCode.OUT_OF_REACH: "input, hub or store out of reach for now",
    ExitCode.GPU_FAULT: "GPU fault",
    ExitCode.OUT_OF_MEMORY: "out of memory at the smallest settings",
    ExitCode.CLUSTER: "the cluster cannot be reached, or refuses",
    ExitCode.RESULTS_NOT_WRITTEN: "results could not be written",
    ExitCode.STOPPED: "told to stop, everything finished is saved",
}


def _whole(text: str) -> str:
    """Halves of characters, which files may hold, written out: they can be written nowhere as they are."""
    return text.encode("utf-8", "backslashreplace").decode()


class SpecbatchError(Exception):
    """A user's error: what is wrong, where, and what to do.

    Args:
        message: what is wrong, one sentence, without a full stop where a remedy follows.
        where: a path, field or row that the message speaks of.
        remedy: what to do about it.
    """

    exit_code = ExitCode.BAD_SPEC

    def __init__(self, message: str, *, where: str | None = None, remedy: str | None = None) -> None:
        self.message = _whole(redact(message))  # it ends in logs, pods and reports: a store's driver quotes signed URLs
        self.where = _whole(redact(where)) if where else where
        self.remedy = remedy
        super().__init__(self.message)

    def __str__(self) -> str:
        text = f"{self.where}: {self.message}" if self.where else self.message
        return f"{text}\n  remedy: {self.remedy}" if self.remedy else text


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a spec: `path: message (line 7)` and a remedy."""

    path: str
    message: str
    remedy: str = ""
    line: int | None = None

    def __str__(self) -> str:
        text = f"{self.path}: {self.message}" + (f" (line {self.line})" if self.line else "")
        return f"{text}\n  remedy: {self.remedy}" if self.remedy else text


class SpecError(SpecbatchError):
    """A spec is wrong; `problems` holds everything wrong with it."""

    exit_code = ExitCode.BAD_SPEC

    def __init__(self, problems: Sequence[Problem], *, source: str = "spec") -> None:
        self.problems = tuple(replace(problem, message=redact(problem.message)) for problem in problems)
        self.source = source
        count = len(self.problems)
        super().__init__(f"{count} problem{'' if count == 1 else 's'}", where=source)

    def __str__(self) -> str:
        return "\n".join([f"{self.source}: {self.message}", *(str(problem) for problem in self.problems)])


class DatasetError(SpecbatchError):
    """The dataset cannot be read, or more of its rows are bad than the error budget allows."""

    exit_code = ExitCode.BAD_DATASET


class ModelError(SpecbatchError):
    """A model is missing, not permitted, or of a kind that cannot run."""

    exit_code = ExitCode.MODEL_MISSING


class VocabularyMismatchError(ModelError):
    """Target and drafter do not share a vocabulary."""


class OutOfReachError(SpecbatchError):
    """The dataset, the hub or the store cannot be reached for now, after all tries: nothing is wrong with the spec."""

    exit_code = ExitCode.OUT_OF_REACH


class DeviceError(SpecbatchError):
    """The visible GPUs are not what the placement needs, or one has failed."""

    exit_code = ExitCode.GPU_FAULT


class OutOfMemoryError(SpecbatchError):
    """Out of memory at the smallest settings."""

    exit_code = ExitCode.OUT_OF_MEMORY


class ClusterError(SpecbatchError):
    """The Kubernetes cluster cannot be reached, or refuses what is asked.

    Args:
        message, where, remedy: as SpecbatchError.
        status: the HTTP status, where there was an answer.
        reason: Kubernetes' machine word for it (NotFound, AlreadyExists, Forbidden, ...), or empty.
    """

    exit_code = ExitCode.CLUSTER

    def __init__(
        self,
        message: str,
        *,
        where: str | None = None,
        remedy: str | None = None,
        status: int | None = None,
        reason: str = "",
    ) -> None:
        super().__init__(message, where=where, remedy=remedy)
        self.status = status
        self.reason = reason


class ResultsError(SpecbatchError):
    """Results cannot be written, or what is there is not what it should be."""

    exit_code = ExitCode.RESULTS_NOT_WRITTEN


class OtherRunError(ResultsError):
    """The results that are there belong to another run: this spec needs another place, whoever starts it and however often."""

    exit_code = ExitCode.BAD_SPEC


class SplitError(ResultsError):
    """The results that are there are split into another number of shards: `specbatch reshard`, or the old number, can mend that."""

    exit_code = ExitCode.BAD_SPEC


class StoppedError(SpecbatchError):
    """Told to stop (SIGTERM); everything finished is saved."""

    exit_code = ExitCode.STOPPED
