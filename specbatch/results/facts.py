"""What a report tells, gathered from a run's directory in one pass over its rows, in bounded memory."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from specbatch.errors import ResultsError
from specbatch.results.durable import results_error
from specbatch.results.identity import Identity, read_identity
from specbatch.results.layout import SUCCESS, ShardFile, shard_files
from specbatch.results.manifest import Manifest, read_manifests
from specbatch.results.progress import Attempt, read_attempts
from specbatch.results.rows import ErrorRow, ResultRow
from specbatch.results.summary import RunSummary, combine
from specbatch.results.totals import Totals
from specbatch.results.wire import decode_error, decode_result

_SAMPLES = 10
_WRONG_SAMPLES = 5
_SAMPLES_PER_CODE = 3


@dataclass(slots=True, kw_only=True)
class RunFacts:
    """A run as its directory shows it, whether it is complete, under way or was killed."""

    run_dir: Path
    complete: bool = False  # _SUCCESS is there
    manifests: Sequence[Manifest] = ()
    attempts: Sequence[Sequence[Attempt]] = ()  # per shard
    identity: Identity | None = None
    totals: Totals = field(default_factory=Totals)
    summary: RunSummary = field(default_factory=RunSummary)
    prompt_lengths: Counter[int] = field(default_factory=Counter)  # tokens -> rows
    completion_lengths: Counter[int] = field(default_factory=Counter)
    samples: list[ResultRow] = field(default_factory=list)
    wrong: list[ResultRow] = field(default_factory=list)
    errors: dict[str, list[ErrorRow]] = field(default_factory=dict)  # code -> first few
    unreadable: int = 0  # lines that are no rows: a run under way, or a damaged file

    @property
    def name(self) -> str:
        """metadata.name."""
        return self.manifests[0].name if self.manifests else self.run_dir.name

    @property
    def spec(self) -> Mapping[str, Any]:
        """The resolved spec; before there is a manifest, the part of it that affects the results."""
        if self.manifests:
            return self.manifests[0].spec
        return self.identity.spec if self.identity else {}


def gather(run_dir: Path) -> RunFacts:
    """Reads manifests, progress files and every row.

    Raises:
        ResultsError: there is no run in the directory, or it cannot be read.
    """
    files = list(shard_files(run_dir))
    if not files:
        raise ResultsError("no run is there", where=str(run_dir), remedy="name the directory that holds part-*.jsonl")
    facts = RunFacts(run_dir=run_dir, complete=(run_dir / SUCCESS).exists(), manifests=read_manifests(run_dir))
    identities = (file for file in files if file.kind == "identity")
    facts.identity = next((read_identity(run_dir, file) for file in identities), None)
    _read_rows(facts, files)
    shards = sorted({(file.shard, file.shards) for file in files})
    recorded = {manifest.shard: manifest.attempts for manifest in facts.manifests}
    facts.attempts = [recorded.get(shard) or read_attempts(run_dir, shard, shards) for shard, shards in shards]
    each = [combine((attempt.summary for attempt in attempts), Totals()) for attempts in facts.attempts if attempts]
    facts.summary = combine(each, facts.totals, at_once=True)
    return facts


def _read_rows(facts: RunFacts, files: Sequence[ShardFile]) -> None:
    chance = random.Random(0)  # noqa: S311  # which rows are shown is no secret; the same rows each time
    for line in _lines(facts.run_dir, files, "part"):
        try:
            row = decode_result(line)
        except ValueError:
            facts.unreadable += 1
            continue
        facts.totals.add_result(row)
        facts.prompt_lengths[row.usage.prompt_tokens] += 1
        facts.completion_lengths[row.usage.completion_tokens] += 1
        if row.correct is False and len(facts.wrong) < _WRONG_SAMPLES:
            facts.wrong.append(row)
        if len(facts.samples) < _SAMPLES:
            facts.samples.append(row)
        elif (at := chance.randrange(facts.totals.results)) < _SAMPLES:
            facts.samples[at] = row
    for line in _lines(facts.run_dir, files, "errors"):
        try:
            error = decode_error(line)
        except ValueError:
            facts.unreadable += 1
            continue
        facts.totals.add_error(error)
        shown = facts.errors.setdefault(error.code.value, [])
        if len(shown) < _SAMPLES_PER_CODE:
            shown.append(error)


def _lines(run_dir: Path, files: Sequence[ShardFile], kind: str) -> Iterator[bytes]:
    for file in files:
        if file.kind != kind:
            continue
        path = run_dir / file.name
        try:
            with path.open("rb") as lines:
                yield from lines
        except OSError as error:
            raise results_error(error, path, "read the rows") from error
