"""Finds out by its first lines how a text holds its rows: JSON a line, a JSON array, CSV; or why it holds none (a web page, ...)."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

from specbatch.runner.dataset.bad_rows import shown
from specbatch.runner.dataset.csv_rows import looks_like_csv
from specbatch.runner.dataset.file_kinds import Kind

HEAD_BYTES = 1 << 16
_LINES_LOOKED_AT = 1000

_STRINGS = "jq -c '{prompt: .}' {file} > {out}"
_STRING_ITEMS = "jq -c '.[] | {prompt: .}' {file} > {out}"
_RECORDS = 'write it by rows: df.to_json(FILE, orient="records", lines=True), or df.to_parquet(FILE)'
_DICTS = 'python -c "import ast, json, sys; [print(json.dumps(ast.literal_eval(row))) for row in open(sys.argv[1])]" {file} > {out}'
_TEXT = (
    "write one JSON object a line; where every line is a prompt, set spec.dataset.format: text, or name the file .txt; "
    "where it is CSV, set csv, or name it .csv"
)
_PYTHON_DICT = re.compile(r"\{\s*'")
_MARK = rb"\s*(?:\xef\xbb\xbf)?\s*"
_ARRAY = re.compile(_MARK + rb"\[")
_ABOUT = rb'"(?:version|name|title|description|license|object|split|count|total|num_rows)"\s*:\s*(?:"[^"\\]*"|[-+.\w]+)\s*,\s*'
_DATA = re.compile(_MARK + rb"\{\s*(?:" + _ABOUT + rb')*"data"\s*:\s*\[(?=\s*\{)')
_BY_COLUMNS = re.compile(_MARK + rb'\{\s*"[^"\\]*"\s*:\s*\{\s*"0"\s*:')
_ARRAY_END = re.compile(rb"\s*\]\s*")
_DATA_END = re.compile(rb'\s*\](?:\s*,\s*"[^"\\]*"\s*:\s*(?:"[^"\\]*"|[-+.\w]+))*\s*\}\s*')
_DECODER = json.JSONDecoder()


class Layout(NamedTuple):
    """How a text holds its rows.

    Attributes:
        name: one a line; JSON objects over any lines; records of CSV.
        start: of an array: the bytes before its first row.
        end: of an array: what must follow its last row.
    """

    name: Literal["lines", "objects", "csv"]
    start: int = 0
    end: re.Pattern[bytes] | None = None


LINES = Layout("lines")
CSV = Layout("csv")


def layout_of(head: bytes, *, whole: bool, is_csv: bool = False) -> Layout | Kind:
    """How a text holds its rows, or what it is instead. A bad line among good ones is no reason: it becomes an error row.

    Args:
        head: the first bytes of the file, decoded.
        whole: whether that is all of it.
        is_csv: whether its name says CSV: what is no JSON is read as that.
    """
    lines = _first_lines(head, whole=whole)
    if not lines:
        return LINES
    data = _DATA.match(head)
    if data and (len(lines) == 1 or not _is_object(lines[0])):
        return Layout("objects", data.end(), _DATA_END)
    if _BY_COLUMNS.match(head) and (len(lines) == 1 or not _is_object(lines[0])):
        return Kind("a JSON table by columns, as pandas writes it by default", _RECORDS)
    if _is_object(lines[0]):
        return LINES
    text = head.decode("utf-8", "replace").removeprefix("\ufeff").lstrip()
    json_layout = _over_lines(head, text, lines, whole=whole)
    if json_layout is not None:
        return json_layout
    return LINES if any(_is_object(line) for line in lines) else _without_objects(text, lines, is_csv=is_csv)


def _first_lines(head: bytes, *, whole: bool) -> Sequence[bytes]:
    """Those that are not blank; the last one may be cut, and counts only where it is the only one."""
    lines = head.split(b"\n", _LINES_LOOKED_AT)
    if len(lines) > 1 and (not whole or len(lines) > _LINES_LOOKED_AT):
        lines.pop()
    stripped = (line.removeprefix(b"\xef\xbb\xbf").strip() for line in lines)
    return [line for line in stripped if line]


def _is_object(line: bytes) -> bool:
    return line.startswith(b"{") and isinstance(_parsed(line.rstrip(b", ")), dict)


def _parsed(line: bytes) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _over_lines(head: bytes, text: str, lines: Sequence[bytes], *, whole: bool) -> Layout | Kind | None:
    """JSON whose values go over several lines, or stand on one; None where each line may be one."""
    if text[0] not in "[{":
        return None
    begins_row = re.match(r"\[\s*\{|\{\s*\n", text) is not None
    try:
        value, end = _DECODER.raw_decode(text)
    except (RecursionError, ValueError) as error:
        # Cut off by the end of the head, and right so far? A string that is cut off begins in the last line.
        at = getattr(error, "pos", 0)
        if (whole or "\n" in text[at:].rstrip("\n")) and not (begins_row and "\n" in text[:at]):
            return None
        value, end = None, at
    over_lines, rest = "\n" in text[:end], text[end:].lstrip(" \t")
    if text[0] == "[":
        return _array(head) if over_lines or not rest.strip() or value is None else None
    glued = rest.startswith("{") and not any(_is_object(line) for line in lines)
    return Layout("objects") if over_lines or glued else None


def _array(head: bytes) -> Layout | Kind | None:
    found = _ARRAY.match(head)
    if found is None:
        return None
    first = head[found.end() :].lstrip()[:1]
    if first in (b"{", b"]", b""):
        return Layout("objects", found.end(), _ARRAY_END)
    if first == b'"':
        return Kind("a JSON array of strings, not of objects", _STRING_ITEMS)
    return Kind("a JSON array whose items are no objects", "make each row an object with a prompt or messages")


def _without_objects(text: str, lines: Sequence[bytes], *, is_csv: bool) -> Layout | Kind:
    """Lines none of which is a JSON object."""
    foreign = _foreign(text, lines)
    if foreign is not None:
        return foreign
    if is_csv:
        return CSV
    values = [_parsed(line) for line in lines]
    if all(isinstance(value, str) for value in values):
        return Kind("JSON whose lines are strings, not objects", _STRINGS)
    if any(value is not None for value in values) or text[0] in "[{":
        return LINES  # JSON, or meant to be: each line becomes an error row that says why
    if looks_like_csv(text):
        return CSV
    return Kind(f"text that is not JSON (it begins with {shown(text[:60].splitlines()[0])})", _TEXT)


def _foreign(text: str, lines: Sequence[bytes]) -> Kind | None:
    if text[:20].lower().startswith(("<!doctype html", "<html")):
        return Kind("a web page (HTML)", "look at it: it may be the error page of a server, or ask for a login")
    if text.startswith("<"):
        return Kind("XML", f"look at it: it may be a store's error message ({shown(text[:200].strip(), limit=120)})")
    if "\0" in text:
        return Kind("binary data of an unknown kind", "export the rows as JSON Lines: one JSON object a line")
    if not all(_is_utf8(line) for line in lines):
        return Kind("text in another encoding than UTF-8", "iconv -f ENCODING -t UTF-8 {file} > {out}")
    return Kind("Python's notation of dicts, not JSON", _DICTS) if _PYTHON_DICT.match(text) else None


def _is_utf8(line: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(line)  # which takes half a character at the end for cut off
    except UnicodeDecodeError:
        return False
    return True
