"""The certificate of a run: what the target alone made of a sample of its rows. Kept in the manifests, written by `specbatch verify`."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from specbatch.errors import ResultsError
from specbatch.formatting import format_facts
from specbatch.results.splits import files_of_run
from specbatch.results.storage.durable import read_plain, results_error, write_atomic
from specbatch.results.storage.folder import Folder
from specbatch.results.storage.typed import as_type, load_json

_SHOWN = 5  # rows, on the terminal


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence:
    """Where a recorded row left what the target alone gives; of several places the one with the largest margin.

    Args:
        id, index: of the row.
        kind: tie: both tokens were within the bound at every such place; unexplained: not so.
        position: of the token in the completion, from 0.
        recorded: the token that goes on as recorded; None where none of the likeliest does.
        target: the token that the target takes there.
        margin: by how much, in logits, the target prefers its own; times temperature for sampled rows, whose scores are
            divided by it. None where there is no recorded token.
        bound: the largest margin that rounding explains.
        excerpt: the recorded text around the place, with a bar at it.
    """

    id: str
    index: int
    kind: Literal["tie", "unexplained"]
    position: int
    recorded: str | None
    target: str
    margin: float | None
    bound: float
    excerpt: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What a sample of rows was found to be. `sampled` = exact + ties + unexplained + not_replayable + changed.

    Args:
        finished: rows that the run's part files hold.
        sampled: rows that were looked at.
        seed: of the choice of rows.
        exact: rows whose text, finish reason and number of tokens are the target's own.
        ties: rows that differ only where the target's scores are too near to call.
        unexplained: rows that differ otherwise.
        not_replayable: sampled rows under the rejection rule, whose text depends on where rounds fell, or of an engine with random numbers of its own.
        changed: rows whose prompt or decoding in the dataset is not the one that was decoded.
        divergences: the ties and unexplained rows, unexplained ones first; at most `DIVERGENCES_KEPT`.
        changed_rows: the first of the changed rows, each with its reason.
        target: the target's identity, name@revision.
        engine: that decoded the rows, and their replay.
        dtype: that the target computes in.
        scores: the dtype in which margins were computed: float32 with the same weights where they fit; "" where none were needed.
        tie_bound: the largest margin of a tie, in words; each divergence has its own in logits. "" where nothing was replayed.
        target_only_tokens_per_second: of the target alone on these rows, measured; None where nothing was replayed.
        target_only_rows, target_only_tokens, target_only_seconds: what that was measured on.
        max_sequences: rows at once in the replay, over all replicas.
        logprobs, logprobs_apart: how many recorded log probabilities the replay has of the same tokens, and the furthest that two are apart.
        device: where the target stood.
        warnings: what the target's folder asks for and neither the run nor the replay does.
        versions: of the software that verified.
        verified_at: UTC.
    """

    finished: int
    sampled: int
    seed: int
    exact: int = 0
    ties: int = 0
    unexplained: int = 0
    not_replayable: int = 0
    changed: int = 0
    divergences: tuple[Divergence, ...] = ()
    changed_rows: tuple[str, ...] = ()
    target: str = ""
    engine: str = "native"
    dtype: str = ""
    scores: str = ""
    tie_bound: str = ""
    target_only_tokens_per_second: float | None = None
    target_only_rows: int = 0
    target_only_tokens: int = 0
    target_only_seconds: float = 0.0
    max_sequences: int = 0
    logprobs: int = 0
    logprobs_apart: float = 0.0
    device: str = ""
    warnings: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    verified_at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    @property
    def replayed(self) -> int:
        """Rows that were held against the target alone."""
        return self.exact + self.ties + self.unexplained

    @property
    def verdict(self) -> str:
        """One sentence."""
        if not self.finished:
            return "nothing to verify: the run has no finished rows"
        if not self.replayed:
            return "nothing was verified: no sampled row could be replayed"
        if self.unexplained:
            return (
                f"NOT what the target alone gives: {self.unexplained:,} of {self.replayed:,} rows cannot be explained"
            )
        if self.ties:
            return f"what the target alone gives: every one of {self.replayed:,} rows, {self.ties:,} of them up to near ties"
        return f"exactly what the target alone gives: every one of {self.replayed:,} rows"

    def to_json(self) -> dict[str, Any]:
        """As the manifest keeps it."""
        return {"verdict": self.verdict, **asdict(self)}


DIVERGENCES_KEPT = 100


def verification_of(kept: Iterable[Mapping[str, Any] | None]) -> Verification | None:
    """The certificate that one of a run's manifests keeps; None before it was verified."""
    for value in kept:
        with contextlib.suppress(ValueError):  # of another version
            if value is not None:
                return as_type(value, Verification)
    return None


def write_verification(run_dir: Path, verification: Verification) -> list[str]:
    """Puts the certificate into every manifest of the run; all else in them stays as it is. Returns the files' names.

    Raises:
        ResultsError: a manifest cannot be read or written.
    """
    names = [file.name for file in files_of_run(Folder(run_dir), [path.name for path in run_dir.iterdir()], "manifest")]
    for name in names:
        path = run_dir / name
        try:
            value = load_json(read_plain(path))
        except OSError as error:
            raise results_error(error, path, "read the manifest") from error
        except ValueError as error:
            raise ResultsError(f"not a manifest: {error}", where=str(path)) from error
        value["written_at"] = datetime.now(UTC).isoformat(timespec="seconds")
        value["verification"] = verification.to_json()
        write_atomic(path, json.dumps(value, indent=1).encode() + b"\n")
    return names


def render_verification(verification: Verification, *, name: str = "", speedup: str = "") -> str:
    """The certificate for people: plain lines without colour.

    Args:
        verification: what was found.
        name: the run's name.
        speedup: how many times as fast as the target alone the run was.
    """
    found = verification
    lines = [("sample", f"{found.sampled:,} of {found.finished:,} finished rows (seed {found.seed})")]
    if found.replayed:
        ties = "1 tie" if found.ties == 1 else f"{found.ties:,} ties"
        lines.append(("rows", f"{found.exact:,} exact, {ties}, {found.unexplained:,} unexplained"))
    if found.not_replayable:
        said = "drawn under acceptanceRule: rejection, where the text depends on the rounds"
        if found.engine != "native":
            said = f"drawn by {found.engine}, which does not promise the same draw twice"
        lines.append(("not replayable", f"{found.not_replayable:,}: {said}"))
    if found.changed:
        lines.append(("dataset changed", f"{found.changed:,} rows, not compared: {'; '.join(found.changed_rows[:3])}"))
    if found.target_only_tokens_per_second is not None:
        lines.append(("target alone", _speed(found)))
    if speedup:
        lines.append(("speed-up", speedup))
    if found.engine != "native" and found.replayed:
        depend = found.ties + found.unexplained
        said = f"no promise that a row's text is independent of the rows beside it: {depend:,} of {found.replayed:,} came out otherwise"
        lines.append((found.engine, said))
    if found.logprobs:
        said = f"{found.logprobs:,} of tokens and prompts, at most {found.logprobs_apart:.2g} from the replay's"
        lines.append(("log probabilities", said))
    if found.scores:
        lines.append(("margins", f"scores in {found.scores}, of a run in {found.dtype}; a tie: {found.tie_bound}"))
    lines += [("warning", text) for text in found.warnings]
    lines.append(("verdict", found.verdict))
    shown = [one for one in found.divergences if one.kind == "unexplained"]
    more = [f"    and {found.unexplained - _SHOWN:,} more"] if found.unexplained > _SHOWN else []
    return "\n".join(
        [
            *([name] if name else []),
            *format_facts(lines),
            *(["  unexplained"] if shown else []),
            *(_described(one) for one in shown[:_SHOWN]),
            *more,
        ]
    )


def _speed(found: Verification) -> str:
    return (
        f"{found.target_only_tokens_per_second:,.1f} tokens/s, measured on {found.target_only_rows:,} rows, "
        f"{found.target_only_tokens:,} tokens, {found.max_sequences:,} at once"
    )


def _described(one: Divergence) -> str:
    recorded = "no likely token goes on, or ends, as recorded" if one.recorded is None else f"recorded {one.recorded!r}"
    margin = "" if one.margin is None else f", margin {one.margin:.3g} where {one.bound:.2g} would be a tie"
    return (
        f"    {one.id} (index {one.index}), token {one.position}: {recorded}, the target takes {one.target!r}{margin}\n"
        f"      {one.excerpt!r}"
    )
