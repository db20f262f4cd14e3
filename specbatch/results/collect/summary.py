"""What collect did, in lines for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from specbatch.formatting import by_count, pluralize
from specbatch.results.collect.collect import Collected
from specbatch.results.rows import ErrorCode

_SHARDS_SHOWN = 10


def summary_lines(done: Collected, *, partial: bool = False) -> list[str]:
    """A headline and what led to it. `partial`: an incomplete run was asked for."""
    return [_headline(done), *(f"  {name:<11}{text}" for name, text in _facts(done, partial=partial))]


def _headline(done: Collected) -> str:
    name = done.source.rstrip("/").rpartition("/")[2] or done.source
    total = "" if done.dataset_rows is None else f" of {done.dataset_rows:,} rows"
    state = "" if done.complete else ", not complete"
    return f"{name}: {_count(done.results, 'result')} and {_count(sum(done.errors.values()), 'error')}{total}{state}"


def _count(number: int, noun: str) -> str:
    return pluralize(number, noun) if number else f"0 {noun}s"


def _facts(done: Collected, *, partial: bool) -> Iterator[tuple[str, str]]:
    for sentence in done.unfinished[:_SHARDS_SHOWN]:
        yield "unfinished", sentence
    if len(done.unfinished) > _SHARDS_SHOWN:
        yield "", f"and {len(done.unfinished) - _SHARDS_SHOWN:,} more"
    if done.read:
        checked = "each as its manifest says" if not done.unlisted else f"{done.unlisted:,} without a manifest"
        yield "read", f"{done.files:,} files of {pluralize(done.shards, 'shard')}, {done.bytes:,} bytes, {checked}"
    if done.torn:
        yield "skipped", f"{done.torn:,} broken lines at the end of files without a manifest"
    if done.errors:
        yield (
            "errors",
            _by_code(done.errors) + ("" if done.results else "; no row was answered: the run has not succeeded"),
        )
    if done.duplicates:
        yield "duplicates", f"{done.duplicates:,} removed"
    if done.missing:
        yield "missing", _missing(done)
    for what, place in done.written:
        yield "wrote", f"{place} ({what})"
    if not done.complete and not partial:
        yield "no results", "were written: run it to its end, or take what is there with --partial"


def _by_code(errors: Mapping[str, int]) -> str:
    meanings = {code.value: code.meaning for code in ErrorCode}
    return "; ".join(
        f"{code} {count:,}" + (f" ({meanings[code]})" if code in meanings else "") for code, count in by_count(errors)
    )


def _missing(done: Collected) -> str:
    first = ", ".join(f"{index:,}" for index in done.first_missing)
    more = ", ..." if done.missing > len(done.first_missing) else ""
    at_least = "" if done.dataset_rows is not None else "at least "  # no manifest says how many rows there are
    return f"{at_least}{done.missing:,} rows; index {first}{more}"
