"""The summary at the end of a run, as lines for people."""

from __future__ import annotations

from specbatch.formatting import format_counts, format_duration, format_facts, format_percent, format_shares
from specbatch.results.cost import cost_text
from specbatch.results.speedup import estimated_speedup
from specbatch.results.summary import RunSummary

_ONLY_ENGINE = "general"  # on a CPU: not worth a line


def render_summary(summary: RunSummary, *, results: str = "", report: str = "", name: str = "") -> str:
    """The end of a run, for people: plain lines without colour.

    Args:
        summary: the attempt that has ended.
        results: where the results are.
        report: where the report is; empty where none was written.
        name: the run's name.
    """
    lines = [("rows", _rows(summary))]
    totals = summary.totals
    if totals.share_correct is not None:
        lines.append(("right answers", f"{totals.correct:,} of {totals.scored:,} ({totals.share_correct:.1%})"))
    if summary.seconds:
        lines.append(("speed", _speed(summary)))
        lines.append(("time", f"{format_duration(summary.seconds)} decoding{_before(summary)}"))
    if cost := cost_text(summary):
        lines.append(("cost", cost))
    if summary.engine not in {"", _ONLY_ENGINE}:
        lines.append(("engine", summary.engine))
    if summary.drafted or summary.num_speculative_tokens:
        lines.append(("speculation", _speculation(summary)))
    if summary.prefill_tokens_saved:
        lines.append(("prompts", _prompts(summary)))
    if shares := format_shares(summary.phase_seconds):
        lines.append(("time went to", shares))
    if busy := summary.device_busy:
        shares = ", ".join(f"{device} {format_percent(share)}" for device, share in sorted(busy.items()))
        lines.append(("GPUs at work", f"{shares}, between the ends of rounds"))
    if totals.errors_by_code:
        lines.append(("errors", format_counts(totals.errors_by_code)))
    lines += [(label, path) for label, path in (("results", results), ("report", report)) if path]
    head = [name] if name else []
    return "\n".join([*head, *format_facts(lines)])


def _rows(summary: RunSummary) -> str:
    text = f"{summary.results:,} done, {summary.errors:,} errors"
    return f"{text}, {summary.skipped:,} skipped (finished before)" if summary.skipped else text


def _speed(summary: RunSummary) -> str:
    parts = [f"{summary.tokens_per_second:,.1f} tokens/s ({summary.completion_tokens:,} tokens)"]
    if speedup := estimated_speedup(summary):
        parts.append(str(speedup))
    if summary.fraction_of_ceiling is not None:
        parts.append(f"{summary.fraction_of_ceiling:.0%} of the predicted ceiling")
    return ", ".join(parts)


def _speculation(summary: RunSummary) -> str:
    if not summary.drafted:
        return summary.no_drafts
    text = (
        f"acceptance_rate {summary.acceptance_rate:.3f}, "
        f"mean_acceptance_length {summary.mean_acceptance_length:.2f} tokens per target forward"
    )
    forced = summary.grammar_drafted
    return f"{text}; {forced:,} of {summary.drafted:,} drafts were forced by grammars" if forced else text


def _prompts(summary: RunSummary) -> str:
    share = format_percent(summary.prefill_tokens_saved / summary.prompt_tokens) if summary.prompt_tokens else "none"
    text = f"{summary.prompt_tokens:,} tokens, {share} of them read once for several rows"
    together = summary.cascade_rounds / summary.rounds if summary.rounds else 0.0
    return f"{text}; cascade attention in {format_percent(together)} of the rounds" if together else text


def _before(summary: RunSummary) -> str:
    parts = [("loading", summary.load_seconds), ("warm-up", summary.warmup_seconds)]
    said = [f"{label} {format_duration(seconds)}" for label, seconds in parts if seconds]
    return f" (before it: {', '.join(said)})" if said else ""
