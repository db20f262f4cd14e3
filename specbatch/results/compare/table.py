"""The comparison written down: for a terminal, a paper (Markdown), a spreadsheet (CSV), a program (JSON)."""

from __future__ import annotations

import csv
import io
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from specbatch.formatting import format_table
from specbatch.results.compare.compare import Compared, warnings_of
from specbatch.results.compare.fields import FOLDED, show

SAME_TEXT = "same text as first"
_ABSENT = "-"
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")  # also in full width
_OF_DRAFTERS = {"drafter dtype", "acceptance rule"}
_CELL_CHARS, _NARROW_CELL_CHARS, _END_CHARS = 44, 24, 10


def render_text(runs: Sequence[Compared], *, width: int, everything: bool = False) -> str:
    """Runs as columns where they fit into `width`, as rows where they fit so, else columns in several blocks."""
    rows, common = _table(runs, everything=everything)
    lines = []
    if common:
        lines = [*textwrap.wrap(f"same in all: {', '.join(common)}", max(40, width), subsequent_indent="  "), ""]
    lines += _fitted(rows, width)
    said = (textwrap.wrap(f"careful: {one}", max(40, width), subsequent_indent="  ") for one in warnings_of(runs))
    lines += ["", *(line for sentence in said for line in sentence)]
    return "\n".join(line.rstrip() for line in lines).rstrip("\n")


def _fitted(rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """The table's lines: long cells are cut before the table is turned or divided into blocks of columns."""
    for most, turned in ((_CELL_CHARS, False), (_NARROW_CELL_CHARS, False), (_NARROW_CELL_CHARS, True)):
        cut = [[_cut(cell, most) for cell in row] for row in rows]
        lines = format_table([*zip(*cut, strict=True)] if turned else cut, left=[0])
        if _width(lines) <= width:
            return lines
    blocks: list[list[str]] = []
    columns = [0]
    for column in range(1, len(rows[0])):
        lines = format_table([[row[at] for at in [*columns, column]] for row in cut], left=[0])
        if len(columns) > 1 and _width(lines) > width:
            columns = [0]
            lines = format_table([[row[0], row[column]] for row in cut], left=[0])
            blocks.append(lines)
        blocks[-1:] = [lines]
        columns.append(column)
    return [line for number, block in enumerate(blocks) for line in ([""] if number else []) + block]


def render_markdown(runs: Sequence[Compared], *, everything: bool = False) -> str:
    """A table of GitHub's Markdown, runs as rows where they are many; what is the same in all above it, warnings below."""
    rows, common = _table(runs, everything=everything)
    if len(runs) > 4:
        rows = list(map(list, zip(*rows, strict=True)))
    escaped = [[cell.replace("\\", "\\\\").replace("|", "\\|") for cell in row] for row in rows]
    head, *body = [f"| {' | '.join(row)} |" for row in escaped]
    rule = "|".join(["", "---", *["---:"] * (len(rows[0]) - 1), ""])
    lines = [f"Same in all: {', '.join(common)}.", ""] if common else []
    lines += [head, rule, *body]
    warnings = warnings_of(runs)
    return "\n".join([*lines, *([""] if warnings else []), *(f"Careful: {sentence}." for sentence in warnings)])


def render_csv(runs: Sequence[Compared]) -> str:
    """Every field of every run, one run a line, numbers as they are; no text is a formula to a spreadsheet."""
    names = list(runs[0].values)
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["run", "where", *names, "rows in both", "same text"])
    for run in runs:
        texts = ["", ""] if run.texts is None else [run.texts.both, run.texts.same]
        writer.writerow(map(_csv_cell, [run.label, run.where, *run.values.values(), *texts]))
    return stream.getvalue()


def _csv_cell(value: Any) -> Any:
    """Spreadsheets run what begins like a formula: an apostrophe makes text of it. Numbers stay numbers."""
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return "" if value is None else value


def compare_json(runs: Sequence[Compared]) -> dict[str, Any]:
    """Every field as plain data, and the warnings."""
    return {
        "runs": [
            {
                "run": run.label,
                "where": run.where,
                **run.values,
                "texts": None if run.texts is None else {**asdict(run.texts), "share": run.texts.share},
            }
            for run in runs
        ],
        "warnings": warnings_of(runs),
    }


def _table(runs: Sequence[Compared], *, everything: bool) -> tuple[list[list[str]], list[str]]:
    """The table with a head, one line a field, and "field value" of those that are the same in all."""
    rows, common = [["run", *(run.label for run in runs)]], []
    for name in runs[0].values:
        values = [run.values[name] for run in runs]
        if not everything and (name in FOLDED or all(value is None for value in values)):
            continue
        said = [_cell(name, run) for run in runs]
        # What only runs with a drafter have needs no line of its own where those agree: `method` shows which have one.
        known = [text for text in said if text != _ABSENT] if name in _OF_DRAFTERS else said
        alike = len(set(known)) == 1 and len({value for value in values if value is not None}) <= 1
        if len(runs) > 1 and not everything and alike:
            common.append(f"{name} {known[0]}")
        else:
            rows.append([name, *said])
        if name == "tokens/s" and len(runs) > 1:
            rows.append(["x first", *(_times_first(run, runs[0]) for run in runs)])
    if len(runs) > 1 and any(run.texts is not None for run in runs):
        rows.append([SAME_TEXT, *map(_same_text, runs)])
    return rows, common


def _cell(name: str, run: Compared) -> str:
    value = run.values[name]
    if value is None:
        return _ABSENT
    said = show(name, value)
    if name == "k" and value == "auto" and run.values["mean k"] is not None:
        said += f", mean {run.values['mean k']:.1f}"
    if name == "x target alone":
        said += f" ({run.values['target alone was']})"
    if name == "cost of 1M tokens":
        said += f" (at {show('price of a GPU hour', run.values['price of a GPU hour'])} a GPU hour)"
    return "".join(letter if letter.isprintable() else "?" for letter in said)  # one line, whatever a name holds


def _times_first(run: Compared, first: Compared) -> str:
    mine, theirs = run.values["tokens/s"], first.values["tokens/s"]
    return f"{float(mine) / float(theirs):.2f}x" if mine and theirs else _ABSENT


def _same_text(run: Compared) -> str:
    texts = run.texts
    if texts is None:
        return _ABSENT
    if not texts.both:
        return "no row in common"
    return f"all {texts.both:,}" if texts.same == texts.both else f"{texts.same:,} of {texts.both:,}"


def _cut(text: str, most: int) -> str:
    """The start and the end: models differ in their revision, which comes last."""
    return text if len(text) <= most else f"{text[: most - _END_CHARS - 1]}…{text[-_END_CHARS:]}"


def _width(lines: Sequence[str]) -> int:
    return max(map(len, lines))
