"""A progress snapshot in words: the live display, `specbatch status` and the report use the same names for the same things."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from specbatch.formatting import (
    format_bar,
    format_bytes,
    format_duration,
    format_shares,
    format_table,
    one_line,
    pluralize,
    rough_duration,
)
from specbatch.results.protocol import Event, Finished, Progress, PublishState, Started, Step
from specbatch.results.speedup import Speedup, estimated_speedup

_REASON_CHARS = 160


def total_text(now: Progress, about: str = "about ") -> str:
    """100, about 100, ?: `about` until the whole dataset was read."""
    if now.total_rows is None:
        return "?"
    return f"{about if now.total_rows_estimated else ''}{now.total_rows:,}"


def rows_line(now: Progress) -> str:
    """40 of about 100, 2 errors, 5 skipped, batch 8."""
    parts = [f"{now.rows:,} of {total_text(now)}", pluralize(now.errors, "error")]
    if now.skipped:
        parts.append(f"{now.skipped:,} skipped")
    if now.active is not None:
        parts.append(f"batch {now.active:,}")
    return ", ".join(parts)


def progress_lines(now: Progress, speedup: Speedup | None = None) -> list[tuple[str, str]]:
    """(label, text) of what is known of the speed, and of what is waited for; `speedup` in place of the run's estimate."""
    speed = f"{now.tokens_per_second:,.1f} tokens/s"
    estimated = estimated_speedup(now)
    if speedup := speedup or (estimated if estimated and estimated.times else None):
        speed += f", {speedup}"
    if now.fraction_of_ceiling is not None:
        speed += f", {now.fraction_of_ceiling:.0%} of the predicted ceiling"
    lines = [("speed", speed)]
    known = now.num_speculative_tokens is not None  # a termination message has fewer numbers than a snapshot
    speculation = [f"acceptance_rate {now.acceptance_rate:.3f}"] if _counts_drafts(now) else []
    if now.drafted or now.mean_acceptance_length > 1:
        speculation.append(f"mean_acceptance_length {now.mean_acceptance_length:.2f}")
    if known:
        speculation.append(f"k {now.num_speculative_tokens}")
    if speculation:
        lines.append(("speculation", ", ".join(speculation)))
    if shares := format_shares(now.phase_seconds):
        lines.append(("time", shares))
    if now.waiting:
        lines.append(("waiting", now.waiting))
    return lines


def progress_facts(now: Progress, rows: str = "", speedup: Speedup | None = None) -> list[tuple[str, str]]:
    """(label, text) of the rows, and of speed and acceptance once there are tokens; `rows` in place of `rows_line`."""
    facts = [("rows", rows or rows_line(now))]
    if now.completion_tokens:
        return facts + progress_lines(now, speedup)
    return facts + ([("waiting", now.waiting)] if now.waiting else [])


def event_line(event: Event) -> str:
    """An event of the runner in one line of words: of a log, of piped output."""
    match event:
        case Started(name=name, results=results):
            return f"started {name}" + (f", results in {results}" if results else "")
        case Step(message=message):
            return message
        case Progress():
            return _progress_line(event)
        case Finished(summary=summary):
            said = f"{summary.totals.results:,} results, {pluralize(summary.totals.errors, 'error')}"
            kept = f" · acceptance {summary.acceptance_rate:.3f}" if summary.drafted else ""
            return f"done: {said} · {summary.tokens_per_second:,.0f} tokens/s{kept}"


def _progress_line(now: Progress) -> str:
    parts = [f"rows {now.rows:,} of {total_text(now)}"]
    if now.errors:
        parts.append(pluralize(now.errors, "error"))
    parts.append(f"{now.tokens_per_second:,.0f} tokens/s")
    if _counts_drafts(now):
        parts.append(f"acceptance {now.acceptance_rate:.3f}")
    if now.eta_seconds:
        parts.append(f"{rough_duration(now.eta_seconds)} left")
    if now.waiting:
        parts.append(f"waiting: {one_line(now.waiting, _REASON_CHARS)}")
    if now.publish is not None and now.publish.problem:
        parts.append(f"publishing fails: {one_line(now.publish.problem, _REASON_CHARS)}")
    return " · ".join(parts)


def _counts_drafts(now: Progress) -> bool:
    """Whether its acceptance says anything: not before the first draft, nor of an engine that counts none."""
    return bool(now.drafted or now.acceptance_rate)


def progress_bar(now: Progress, *, left: bool) -> list[str]:
    """The bar of finished rows, with the time left if `left`; empty while the total is unknown."""
    if not now.total_rows:
        return []
    eta = f"  {format_duration(now.eta_seconds)} left" if left and now.eta_seconds is not None else ""
    return [f"{'':<13}{format_bar(now.rows / now.total_rows)}{eta}"]


def progress_cells(now: Progress) -> tuple[str, ...]:
    """As cells of a table: rows, errors, tokens/s, accepted, k, left."""
    speed, k, eta = now.tokens_per_second, now.num_speculative_tokens, now.eta_seconds
    share = f" ({now.rows / now.total_rows:.0%})" if now.total_rows else ""
    return (
        f"{now.rows:,}/{total_text(now, about='~')}{share}",
        f"{now.errors:,}",
        f"{speed:,.1f}" if speed < 10_000 else f"{speed:,.0f}",
        f"{now.acceptance_rate:.3f}" if _counts_drafts(now) else "",
        "" if k is None else f"{k}",
        "" if eta is None else rough_duration(eta),
    )


def shards_table(
    shards: Iterable[tuple[int, Progress, Sequence[str]]], total: tuple[Progress, Sequence[str]], columns: Sequence[str]
) -> list[str]:
    """A line for each shard (its number, its progress, its cells of further `columns`), and one for all of them."""
    rows = [("shard", "rows", "errors", "tokens/s", "accepted", "k", "left", *columns)]
    rows += [(f"{shard}", *progress_cells(now), *more) for shard, now, more in shards]
    rows.append(("all", *progress_cells(total[0]), *total[1]))
    return format_table(rows, left=[-1])


def publish_text(state: PublishState, clock: float | None = None) -> str:
    """How far publishing is, and why it fails, since when; `clock` is the Unix time now."""
    done = f"{pluralize(state.done_files, 'file')} ({format_bytes(state.done_bytes)}) at {state.destination}"
    if state.pending_files:
        done += f", {state.pending_files:,} waiting ({format_bytes(state.pending_bytes)})"
    if not state.problem:
        return done
    since = ""
    if state.failing_since is not None:
        since = f" for {format_duration(max(0.0, (time.time() if clock is None else clock) - state.failing_since))}"
    return f"{done}; failing{since}: {one_line(state.problem, _REASON_CHARS)}"
