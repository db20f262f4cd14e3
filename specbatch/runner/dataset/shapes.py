"""Detects text that is not JSON Lines by its first lines: a JSON array, objects over several lines, CSV, a web page, ..."""

from __future__ import annotations

import codecs
import csv
import json
import re
from collections.abc import Sequence

from specbatch.runner.dataset.bad_rows import shown
from specbatch.runner.dataset.file_kinds import Kind

HEAD_BYTES = 1 << 16
_LINES_LOOKED_AT = 1000
_TABLE_LINES = 5

_ARRAY = "jq -c '.[]' {file} > {out}"
_OBJECTS = "jq -c . {file} > {out}"
_STRINGS = "jq -c '{prompt: .}' {file} > {out}"
_CSV = (
    'python -c "import csv, json, sys; [print(json.dumps(row)) for row in '
    "csv.DictReader(open(sys.argv[1], newline='', encoding='utf-8-sig')DELIMITER)]\" {file} > {out}"
)
_DICTS = 'python -c "import ast, json, sys; [print(json.dumps(ast.literal_eval(row))) for row in open(sys.argv[1])]" {file} > {out}'
_TEXT = (
    "write one JSON object a line; where every line is a prompt, set spec.dataset.format: text, or name the file .txt"
)
_DELIMITERS = {
    ",": ("comma-separated values (CSV)", ""),
    "\t": ("tab-separated values (TSV)", ", delimiter='\\t'"),
    ";": ("values separated by semicolons (CSV)", ", delimiter=';'"),
    "|": ("values separated by bars (CSV)", ", delimiter='|'"),
}
_PYTHON_DICT = re.compile(r"\{\s*'")
_DECODER = json.JSONDecoder()


def shape_of(head: bytes, *, whole: bool) -> Kind | None:
    """What a text is, where it cannot be meant as JSON Lines. A bad line among good ones is no reason: it becomes an error row.

    Args:
        head: the first bytes of the file, decoded.
        whole: whether that is all of it.
    """
    lines = _first_lines(head, whole=whole)
    if not lines or _is_object(lines[0]):
        return None
    text = head.decode("utf-8", "replace").removeprefix("\ufeff").lstrip()
    spread = _spread(text, lines, whole=whole)
    if spread is not None or any(_is_object(line) for line in lines):
        return spread
    return _without_objects(text, lines)


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


def _spread(text: str, lines: Sequence[bytes], *, whole: bool) -> Kind | None:
    """One JSON value over several lines, or all of it on one."""
    if text[0] not in "[{":
        return None
    try:
        value, end = _DECODER.raw_decode(text)
    except (RecursionError, json.JSONDecodeError) as error:
        # Cut off by the end of the head, and right so far? A string that is cut off begins in the last line.
        at = getattr(error, "pos", 0)
        if whole or "\n" in text[at:].rstrip("\n"):
            return None
        value, end = None, at
    over_lines, rest = "\n" in text[:end], text[end:].lstrip(" \t")
    if text[0] == "[" and (over_lines or not rest.strip() or value is None):
        return Kind("a JSON array (all rows in one value)", _ARRAY)
    if text[0] == "{" and over_lines:
        return Kind("JSON whose objects go over several lines (pretty-printed)", _OBJECTS)
    glued = text[0] == "{" and rest.startswith("{") and not any(_is_object(line) for line in lines)
    return Kind("JSON with several objects on one line", _OBJECTS) if glued else None


def _without_objects(text: str, lines: Sequence[bytes]) -> Kind | None:
    """Lines none of which is a JSON object."""
    shape = _foreign(text, lines)
    if shape is not None:
        return shape
    values = [_parsed(line) for line in lines]
    if all(isinstance(value, str) for value in values):
        return Kind("JSON whose lines are strings, not objects", _STRINGS)
    if any(value is not None for value in values) or text[0] in "[{":
        return None  # JSON, or meant to be: each line becomes an error row that says why
    for delimiter, (name, option) in _DELIMITERS.items():
        if _is_table(text, delimiter):
            return Kind(name, _CSV.replace("DELIMITER", option))
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


def _is_table(text: str, delimiter: str) -> bool:
    """Whether the first records have one number of fields, and more than one."""
    lines = text.split("\n")[: _TABLE_LINES * 20]
    try:
        records = [record for record in csv.reader(lines, delimiter=delimiter) if record][:_TABLE_LINES]
    except csv.Error:
        return False
    widths = {len(record) for record in (records[:-1] if len(records) == _TABLE_LINES else records)}
    return len(records) > 1 and len(widths) == 1 and widths.pop() > 1
