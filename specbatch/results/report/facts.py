"""What a report shows, gathered from a run's folder in one pass over its rows, in bounded memory."""

from __future__ import annotations

import contextlib
import io
import random
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from msgspec.structs import replace

from specbatch.errors import ResultsError
from specbatch.results.attempts import Attempt, read_attempts
from specbatch.results.cost import Cost, cost_of
from specbatch.results.identity import Identity
from specbatch.results.layout import Kind, parse_names
from specbatch.results.manifest import Manifest
from specbatch.results.protocol import PublishState
from specbatch.results.rows import ErrorRow, ResultRow
from specbatch.results.speedup import Speedup, speedup_of
from specbatch.results.splits import files_of_run
from specbatch.results.status.status import RunStatus, read_status
from specbatch.results.storage.folder import Folder
from specbatch.results.storage.typed import load_json
from specbatch.results.summary import RunSummary, combine
from specbatch.results.totals import Totals
from specbatch.results.verification import Verification
from specbatch.results.wire import decode_error, decode_result

_SAMPLES = 10
_WRONG_SAMPLES = 5
_SAMPLES_PER_CODE = 3
_READ_BYTES = 1 << 20


@dataclass(slots=True, kw_only=True)
class RunFacts:
    """A run as its folder shows it, whether it is complete, under way or was killed."""

    status: RunStatus
    identity: Identity | None = None
    totals: Totals = field(default_factory=Totals)
    summary: RunSummary = field(default_factory=RunSummary)
    prompt_lengths: Counter[int] = field(default_factory=Counter)  # tokens -> rows
    completion_lengths: Counter[int] = field(default_factory=Counter)
    first: ResultRow | None = None  # of the rows that were answered, by index
    samples: list[ResultRow] = field(default_factory=list)  # chosen at random
    wrong: list[ResultRow] = field(default_factory=list)
    errors: dict[str, list[ErrorRow]] = field(default_factory=dict)  # code -> first few
    unreadable: int = 0  # lines that are no rows: a damaged file

    @property
    def name(self) -> str:
        """metadata.name."""
        return self.status.name

    @property
    def manifests(self) -> Sequence[Manifest]:
        """Those that are there, in order of shard."""
        return [one.manifest for one in self.status.shards if one.manifest]

    @property
    def attempts(self) -> Sequence[Sequence[Attempt]]:
        """Per shard."""
        return [one.attempts for one in self.status.shards]

    @property
    def publish(self) -> Sequence[PublishState]:
        """How far publishing is, as each shard saved it last."""
        return [one.publish for one in self.status.shards if one.publish]

    @property
    def spec(self) -> Mapping[str, Any]:
        """The resolved spec; before there is a manifest, the part of it that affects the results."""
        if self.manifests:
            return self.manifests[0].spec
        return self.identity.spec if self.identity else {}

    @property
    def verification(self) -> Verification | None:
        """What `specbatch verify` found; None before it ran."""
        return self.status.verification

    @property
    def speedup(self) -> Speedup | None:
        """Over the target alone; None where nothing was drafted."""
        parts = [attempt.summary for attempts in self.attempts for attempt in attempts]
        return speedup_of(self.summary, parts, self.verification)

    @property
    def cost(self) -> Cost | None:
        """Of its tokens; None without a price."""
        return cost_of(self.summary)

    @property
    def repeated(self) -> int:
        """Rows in the files beyond those that the manifests count: a volume was lost and restored, and they were decoded again."""
        if not self.status.complete:
            return 0
        return max(0, self.totals.rows - sum(manifest.totals.rows for manifest in self.manifests))


def gather(folder: Folder, *, rows: bool = True, price: float | None = None) -> RunFacts:
    """Reads manifests, progress files and every row; without `rows`, the counts are those of the manifests and progress files.

    `price` is that of a GPU for an hour, in place of the one that the run was given.

    Raises:
        ResultsError: there is no run in the folder, or it cannot be read.
    """
    facts = RunFacts(status=read_status(folder, time.time()))
    facts.identity = facts.manifests[0].identity if facts.manifests else _identity(folder)
    if rows:
        _read_results(facts, folder)
        _read_errors(facts, folder)
    else:
        facts.totals = sum((shard.totals for shard in facts.status.shards), Totals())
    facts.summary = combine([*_before_reshards(folder, len(facts.status.shards)), *_last_split(facts)], facts.totals)
    if price is not None:
        facts.summary = replace(facts.summary, price=price)
    return facts


def _last_split(facts: RunFacts) -> list[RunSummary]:
    """The shards of the last split as one, where there has been an attempt."""
    each = [combine((attempt.summary for attempt in attempts), Totals()) for attempts in facts.attempts if attempts]
    return [combine(each, facts.totals, at_once=True)] if each else []


def row_lines(folder: Folder, kind: Kind) -> Iterator[bytes]:
    """Every whole line of a kind's files, without holding more than one. What a writer is about to end is left out.

    Raises:
        ResultsError: a file cannot be read.
    """
    for file in files_of_run(folder, folder.sizes(), kind):
        try:
            with (
                folder.open(file.name) as stream,
                io.BufferedReader(cast("io.RawIOBase", stream), _READ_BYTES) as lines,
            ):
                yield from (line for line in lines if line.endswith(b"\n"))
        except ResultsError:
            raise
        except Exception as error:  # drivers raise whatever they like
            raise ResultsError(
                f"cannot read the rows: {error}",
                where=folder.path_of(file.name),
                remedy="check the volume or the store",
            ) from error


def _before_reshards(folder: Folder, shards: int) -> list[RunSummary]:
    """What the run did while it had another number of shards than now: a summary of each number, whose shards ran at once."""
    splits: dict[int, list[RunSummary]] = {}
    for file in parse_names(folder.sizes(), "progress"):
        if file.shards != shards and (attempts := read_attempts(folder, file.shard, file.shards)):
            summary = combine((attempt.summary for attempt in attempts), Totals())
            splits.setdefault(file.shards, []).append(summary)
    return [combine(summaries, Totals(), at_once=True) for summaries in splits.values()]


def _identity(folder: Folder) -> Identity | None:
    with contextlib.suppress(ResultsError, ValueError, KeyError, TypeError, IndexError):
        return Identity.from_json(load_json(folder.read(parse_names(folder.sizes(), "identity")[0].name)))
    return None


def _read_results(facts: RunFacts, folder: Folder) -> None:
    chance = random.Random(0)  # noqa: S311  # which rows are shown is no secret; the same rows each time
    for line in row_lines(folder, "part"):
        try:
            row = decode_result(line)
        except ValueError:
            facts.unreadable += 1
            continue
        facts.totals.add_result(row)
        facts.prompt_lengths[row.usage.prompt_tokens] += 1
        facts.completion_lengths[row.usage.completion_tokens] += 1
        if facts.first is None or row.index < facts.first.index:
            facts.first = row
        if row.correct is False and len(facts.wrong) < _WRONG_SAMPLES:
            facts.wrong.append(row)
        if len(facts.samples) < _SAMPLES:
            facts.samples.append(row)
        elif (at := chance.randrange(facts.totals.results)) < _SAMPLES:
            facts.samples[at] = row


def _read_errors(facts: RunFacts, folder: Folder) -> None:
    for line in row_lines(folder, "errors"):
        try:
            error = decode_error(line)
        except ValueError:
            facts.unreadable += 1
            continue
        facts.totals.add_error(error)
        shown = facts.errors.setdefault(error.code.value, [])
        if len(shown) < _SAMPLES_PER_CODE:
            shown.append(error)
