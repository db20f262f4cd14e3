"""What `specbatch peek` prints."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator

from specbatch.formatting import first_lines, format_table, one_line, pluralize
from specbatch.runner.peek.columns import Column
from specbatch.runner.peek.peek import Peek, Refused, Shown

_LABEL = 10
_HEAD, _TAIL = 1200, 400  # characters of a long prompt
_COLUMN_CHARS = 60
_KINDS_SHOWN = 5


def render_peek(found: Peek) -> str:
    """For people, in lines that fit 80 columns but for the dataset's own words."""
    return "\n".join(_lines(found))


def _lines(found: Peek) -> Iterator[str]:
    yield f"{found.dataset}: {', '.join(part for part in (found.kind, _count(found)) if part)}"
    if found.left_out:
        yield found.left_out
    facts = [("prompts", found.prompts), ("wrapped in", found.template)]
    yield from (f"{label:<{_LABEL}}  {text}" for label, text in facts if text)
    if found.columns:
        table = format_table([_column(column, found.looked_at) for column in found.columns], left=range(3))
        yield from (f"{'columns' if not at else '':<{_LABEL}}  {line}" for at, line in enumerate(table))
    if found.unread:
        yield f"{'not read':<{_LABEL}}  {found.unread}"
    if found.prompts:
        if found.sharing.shared:
            yield f"{'shared':<{_LABEL}}  {found.sharing.text}"
            yield from (f"{'':<{_LABEL}}    {line}" for line in found.sharing.examples())
        yield from _refused(found)
        for row in found.shown:
            yield ""
            yield from _row(row)


def _count(found: Peek) -> str:
    if found.rows is None:
        return "how many rows is not known"
    return pluralize(found.rows, "row") if found.rows_exact else f"about {found.rows:,} rows, from the bytes read"


def _column(column: Column, rows: int) -> tuple[str, str, str]:
    types = " or ".join(column.types) or "null"
    absent = f" (none in {column.absent:,} of {rows:,})" if column.absent and column.types else ""
    return one_line(column.name, _COLUMN_CHARS), types, f"{column.use}{absent}"


def _refused(found: Peek) -> Iterator[str]:
    rows = f"the first {found.looked_at:,} rows" if found.looked_at > 1 else "the first row"
    if not found.refused:
        yield f"{'refused':<{_LABEL}}  none of {rows}"
        return
    yield f"{'refused':<{_LABEL}}  {len(found.refused):,} of {rows}:"
    counts = Counter(row.code for row in found.refused)
    kinds = [_example(code, count, found) for code, count in counts.most_common()]
    yield from (f"{'':<{_LABEL}}    {line}" for line in first_lines(kinds, _KINDS_SHOWN))


def _example(code: str, count: int, found: Peek) -> str:
    first: Refused = next(row for row in found.refused if row.code == code)
    return f"{count:,} x {code}, as line {first.line:,}: {first.message}"


def _row(row: Shown) -> Iterator[str]:
    tokens = "" if row.tokens is None else f", {pluralize(row.tokens, 'token')}"
    yield f"row {row.index}, id {row.id}{tokens}"
    cut = len(row.text) - _HEAD - _TAIL
    text = row.text if cut <= 0 else f"{row.text[:_HEAD]}\n[... {cut:,} characters more ...]\n{row.text[-_TAIL:]}"
    yield from (f"    {line}" for line in text.split("\n"))
    if row.answer is not None:
        yield f"  answer: {one_line(row.answer, 200)}"
    if row.columns:
        yield f"  columns: {one_line(json.dumps(row.columns, ensure_ascii=False), 200)}"
