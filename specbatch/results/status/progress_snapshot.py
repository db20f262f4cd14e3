"""One look at a run in words: the live display, `specbatch status` and the report say the same things by the same names."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from specbatch.formatting import format_bytes, format_duration, format_shares, pluralize
from specbatch.results.publish.state import PublishState

_REASON_CHARS = 160
_LATEST = 1e11  # Unix time that a calendar can say


def rows_line(now: Mapping[str, Any]) -> str:
    """40 of about 100, 2 errors, 5 skipped, batch 8: `about` until the whole dataset was read."""
    total = now.get("total_rows")
    about = "about " if total is not None and now.get("total_rows_estimated") else ""
    parts = [f"{now.get('rows', 0):,} of {about}{'?' if total is None else format(total, ',')}"]
    parts.append(pluralize(now.get("errors", 0), "error"))
    if now.get("skipped"):
        parts.append(f"{now['skipped']:,} skipped")
    if now.get("active") is not None:
        parts.append(f"batch {now['active']:,}")
    return ", ".join(parts)


def look_lines(now: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(label, text) of what is known of the speed, and of what is waited for; `now` holds the fields of runner.progress.Progress."""
    speed = f"{now.get('tokens_per_second', 0.0):,.1f} tokens/s"
    fraction = now.get("fraction_of_ceiling")
    speed += "" if fraction is None else f", {fraction:.0%} of the predicted ceiling"
    lines = [("speed", speed)]
    speculation = (
        f"acceptance_rate {now.get('acceptance_rate', 0.0):.3f}, "
        f"mean_acceptance_length {now.get('mean_acceptance_length', 1.0):.2f}, k {now.get('num_speculative_tokens', 0)}"
    )
    lines.append(("speculation", speculation))
    if shares := format_shares(now.get("phase_seconds") or {}):
        lines.append(("time", shares))
    if now.get("waiting"):
        lines.append(("waiting", str(now["waiting"])))
    return lines


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
    reason = " ".join(state.problem.split())
    reason = reason if len(reason) <= _REASON_CHARS else f"{reason[: _REASON_CHARS - 1]}…"
    return f"{done}; failing{since}: {reason}"


def published(now: Mapping[str, Any]) -> PublishState | None:
    """The state of publishing in a look; None where results are not published, or it cannot be read."""
    value = now.get("publish")
    try:
        state = None if value is None else PublishState.from_json(value)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return None
    return state if state is None or 0 <= (state.failing_since or 0) < _LATEST else None
