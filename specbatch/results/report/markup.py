"""Pieces of HTML. Everything that came from a user is escaped here, and shown as it is: control characters as their pictures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

_SHOWN_CHARS = 700
# C0 controls as the pictures that Unicode has for them; C1 and the characters that turn the order of others round as U+FFFD.
_PICTURES = {code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\t\n"}
_PICTURES |= {0x7F: "\u2421", 0x0D: "\u240d"}
_PICTURES |= dict.fromkeys((*range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)), "\ufffd")

Cell = tuple[str, str, str]
"""(column, class, text) of a table's cell."""


def safe(value: Any) -> str:
    """Text that may stand anywhere in the page."""
    return escape(str(value).translate(_PICTURES))


def short(text: str, most: int = _SHOWN_CHARS) -> str:
    """The text, cut where it is long."""
    return text if len(text) <= most else f"{text[:most]}… ({len(text):,} characters)"


def section(title: str, content: str, *, note: str = "") -> str:
    """A heading and what follows; nothing where nothing does."""
    said = f'\n<p class="quiet">{safe(note)}</p>' if note else ""
    return f"<section>\n<h2>{safe(title)}</h2>{said}\n{content}\n</section>" if content or note else ""


def card(content: str) -> str:
    """A framed block."""
    return f'<div class="card">{content}</div>'


def pre(text: str, *, long: bool = False) -> str:
    """Text with its line breaks and spaces; wide text scrolls, also by keyboard. On paper `long` text stands in columns."""
    kind = "long" if long else ""
    return f'<pre class="{kind}" tabindex="0">{safe(text)}</pre>'


def table(rows: Sequence[Sequence[Cell]]) -> str:
    """A table from rows of cells; on a phone each row becomes a card. Nothing where there are no rows."""
    if not rows:
        return ""
    head = "".join(
        f'<th scope="col" class="number">{safe(column)}</th>'
        if kind == "number"
        else f'<th scope="col">{safe(column)}</th>'
        for column, kind, _ in rows[0]
    )
    body = "\n".join(f"<tr>{_cells(row)}</tr>" for row in rows)
    return card(f'<table class="rows"><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table>')


def facts_list(items: Iterable[tuple[str, str]]) -> str:
    """Labels and texts, one below the other."""
    shown = "\n".join(f'<dt>{safe(label)}</dt><dd dir="auto">{safe(text)}</dd>' for label, text in items)
    return card(f'<dl class="facts">\n{shown}\n</dl>')


def details(title: str, content: str) -> str:
    """A block that opens when it is asked for; on paper it is open."""
    return f'<details class="card"><summary>{safe(title)}</summary>{content}</details>' if content else ""


def _cells(row: Iterable[Cell]) -> str:
    # dir=auto: a right-to-left text stands as it is read, and turns nothing round beside it. In a box of its own, so that
    # on a phone its label does not move with it.
    return "".join(
        f'<td class="{kind}" data-label="{safe(column)}"><div dir="auto">{safe(text)}</div></td>'
        if kind in {"text", "name"}
        else f'<td class="{kind}" data-label="{safe(column)}">{safe(text)}</td>'
        for column, kind, text in row
    )
