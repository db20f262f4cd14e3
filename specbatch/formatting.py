"""Numbers and lists as people read them: written in one way by every command, report and log line."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence

_UNITS = ("bytes", "kB", "MB", "GB", "TB")
_BAR_CHARS = 40


def pluralize(number: int, noun: str) -> str:
    """1 error, 2 errors, no errors."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}" if number else f"no {noun}s"


def format_bytes(number: float) -> str:
    """512 bytes, 1.5 MB, 123 MB; powers of 1000."""
    for unit in _UNITS[:-1]:
        if number < 1000:
            return f"{number:,.0f} {unit}" if unit == "bytes" or number >= 100 else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:,.1f} {_UNITS[-1]}"


def format_duration(seconds: float) -> str:
    """0.42 s, 48.3 s, 12 min 05 s, 3 h 07 min."""
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def rough_duration(seconds: float) -> str:
    """Rounded to one unit, for ages and estimates: 2 s, 3 min, 5 h, 4 days."""
    for size, unit, last in ((1, "s", 60), (60, "min", 60), (3600, "h", 48)):
        if round(seconds / size) < last:
            return f"{round(seconds / size)} {unit}"
    return f"{seconds / 86400:.0f} days"


def format_percent(share: float) -> str:
    """42%, and 0.2% or 99.8% where rounding to whole percent would claim none or all of it."""
    return f"{share:.0%}" if not 0 < share < 1 or 0.01 <= share <= 0.99 else f"{share:.1%}"


def format_amount(value: float) -> str:
    """Of money or hours: two decimals, and of small amounts two digits: 12.35, 0.42, 0.0031."""
    return f"{value:,.2f}" if value >= 0.1 or not value else f"{value:.2g}"


def format_shares(amounts: Mapping[str, float]) -> str:
    """Each name's share of the sum, largest first: `verify 75%, draft 25%`. Shares under half a percent are left out."""
    total = sum(amounts.values())
    if total <= 0:
        return ""
    shares = sorted(((name, amount / total) for name, amount in amounts.items()), key=lambda item: -item[1])
    return ", ".join(f"{name} {share:.0%}" for name, share in shares if share >= 0.005)


def format_counts(counts: Mapping[str, int]) -> str:
    """Largest first, then by name: `invalid_json 5, empty_prompt 1`."""
    return ", ".join(f"{name} {count:,}" for name, count in by_count(counts))


def by_count(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """(name, count), the largest count first; equal ones by name."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def first_lines(lines: Sequence[str], limit: int) -> list[str]:
    """The first lines; `and 3 more` in place of the others."""
    more = len(lines) - limit
    return [*lines[:limit], *([f"and {more:,} more"] if more > 0 else [])]


def one_line(text: str, chars: int) -> str:
    """The text with its line breaks as spaces, cut to so many characters."""
    text = " ".join(text.split())
    return text if len(text) <= chars else f"{text[: chars - 1]}…"


def format_table(rows: Sequence[Sequence[str]], *, left: Iterable[int]) -> list[str]:
    """Lines of aligned columns, two spaces between them. `left`: columns aligned to the left, negative ones from the end."""
    columns = len(rows[0])
    lefts = {column % columns for column in left}
    widths = [max(len(row[column]) for row in rows) for column in range(columns)]
    return [
        "  ".join(
            cell.ljust(width) if column in lefts else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def format_facts(facts: Sequence[tuple[str, str]], *, indent: str = "  ") -> list[str]:
    """(label, text) as lines whose texts begin in the same column."""
    width = max((len(label) for label, _ in facts), default=0) + 2
    return [f"{indent}{label:<{width}}{text}" for label, text in facts]


def format_bar(share: float) -> str:
    """A progress bar and its percentage."""
    full = min(_BAR_CHARS, int(share * _BAR_CHARS))
    return f"{'━' * full}{'┄' * (_BAR_CHARS - full)} {min(share, 1.0):.0%}"


def wrap_fact(label: str, text: str, *, label_chars: int = 13, chars: int = 80) -> list[str]:
    """A label and its text, which goes on below itself in as many lines as it needs."""
    first, *rest = textwrap.wrap(text, chars - label_chars) or [""]
    return [f"{label:<{label_chars}}{first}", *(" " * label_chars + line for line in rest)]
