"""How far publishing is: what the log, the report and `status` say about it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from specbatch.errors import ResultsError
from specbatch.redact import redact

_LINE_CHARS = 300

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class PublishState:
    """The files of one shard that are at the destination, and those that are not yet.

    `problem` is the reason of the last failed try, empty while all goes well; `failing_since` is
    the Unix time at which the tries began to fail.
    """

    destination: str
    done_files: int = 0
    done_bytes: int = 0
    pending_files: int = 0
    pending_bytes: int = 0
    problem: str = ""
    failing_since: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the object for JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> PublishState:
        """Return the state of `to_json`; a field that is not there has its default."""
        since = value.get("failing_since")
        return cls(
            destination=str(value["destination"]),
            done_files=int(value.get("done_files", 0)),
            done_bytes=int(value.get("done_bytes", 0)),
            pending_files=int(value.get("pending_files", 0)),
            pending_bytes=int(value.get("pending_bytes", 0)),
            problem=str(value.get("problem", "")),
            failing_since=None if since is None else float(since),
        )


def one_line(problem: Exception | None) -> str:
    """A reason as one line, not too long."""
    if problem is None:
        return ""
    text = problem.message if isinstance(problem, ResultsError) else f"{type(problem).__name__}: {problem}"
    line = " ".join(redact(text).split())
    return line if len(line) <= _LINE_CHARS else f"{line[:_LINE_CHARS]}..."
