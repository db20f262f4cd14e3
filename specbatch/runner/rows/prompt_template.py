"""Renders dataset.template over a row's columns: in Jinja's sandbox, bounded, and what a row holds is never a template itself."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import jinja2

from specbatch.api.dataset import TemplateMessage
from specbatch.api.template_syntax import LOOP_CONTROLS, MOST_CHARACTERS, Sandbox, parse_template
from specbatch.results.rows import ErrorCode
from specbatch.runner.dataset.bad_rows import RowError, shown

ROW = "row"  # the variable that holds all columns, also those whose names are none of Jinja's
TEXT = "text"  # the column of a file whose lines are prompts
_MOST_STEPS = 100_000  # of range, all calls of one rendering together
_LONGEST_REASON = 300


class PromptTemplate:
    """A prompt, or a conversation, over columns.

    Args:
        template: dataset.template: text, or messages with a text each. Its syntax is right.
    """

    def __init__(self, template: str | Sequence[TemplateMessage]) -> None:
        messages = [("", template)] if isinstance(template, str) else [(one.role, one.content) for one in template]
        self._messages = [(role, _ENVIRONMENT.from_string(text)) for role, text in messages]
        self._parsed = [parse_template(text) for _, text in messages]

    @cached_property
    def columns(self) -> frozenset[str]:
        """The columns that it names."""
        return self._named | frozenset(one for parsed in self._parsed for one in parsed.items.get(ROW, ()))

    @cached_property
    def required(self) -> frozenset[str]:
        """Those without which it cannot be rendered, as far as that can be seen: no default is given, nothing asks whether they are there."""
        return self._named - frozenset(one for parsed in self._parsed for one in parsed.optional)

    @property
    def _named(self) -> frozenset[str]:
        return frozenset(one for parsed in self._parsed for one in parsed.names) - {ROW, *_ENVIRONMENT.globals}

    def render(self, columns: Mapping[str, Any]) -> str | list[dict[str, Any]]:
        """The prompt; or messages, of which an assistant's at the end is to be continued.

        Raises:
            RowError: a column is missing or null, the prompt is empty or far too long, or the template fails.
        """
        texts = [(role, self._text(template, columns)) for role, template in self._messages]
        blank = next((role for role, text in texts if role in {"", "user"} and not text.strip()), None)
        if blank is not None:
            raise RowError(ErrorCode.EMPTY_PROMPT, "dataset.template gives an empty prompt for the row")
        if not texts[0][0]:
            return texts[0][1]
        return [{"role": role, "content": text} for role, text in texts if text.strip()]

    def _text(self, template: jinja2.Template, columns: Mapping[str, Any]) -> str:
        try:
            return _joined(template.generate({"range": _Range(), **columns, ROW: columns}))
        except jinja2.UndefinedError as error:
            message = f"{error.message}; the row has the columns {shown(sorted(columns), limit=200)}"
        except Exception as error:  # noqa: BLE001 - a template is a program: it may raise anything
            message = str(error) or type(error).__name__
        nulls = sorted(name for name in self.columns if name in columns and columns[name] is None)
        hint = f" ({', '.join(nulls)} is null)" if nulls else ""
        raise RowError(ErrorCode.TEMPLATE, f"dataset.template: {_short(message)}{hint}")


class _Range:
    """`range`, which gives so many numbers in one rendering, and no more: loops within loops would never end."""

    def __init__(self) -> None:
        self._left = _MOST_STEPS

    def __call__(self, *arguments: int) -> range:
        numbers = range(*arguments)
        self._left -= len(numbers)
        if self._left < 0:
            raise OverflowError(f"loops over more than {_MOST_STEPS:,} numbers")
        return numbers


def _written(value: Any) -> Any:
    """What is written of a value: text as it is, anything else as JSON, not as Python shows it."""
    if value is None:
        raise ValueError("a value that is null would be written: give it a default, as in {{ column or '' }}")
    return value if isinstance(value, str | jinja2.Undefined) else _json(value)


def _json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _environment() -> jinja2.Environment:
    environment = Sandbox(
        undefined=jinja2.StrictUndefined,
        finalize=_written,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[LOOP_CONTROLS],
    )
    environment.filters["tojson"] = _json  # Jinja's own writes < as \u003c, for web pages
    del environment.globals["lipsum"]
    return environment


_ENVIRONMENT = _environment()


def _joined(pieces: Iterator[str]) -> str:
    held, size = [], 0
    for piece in pieces:
        size += len(piece)
        if size > MOST_CHARACTERS:
            raise OverflowError(f"the prompt has more than {MOST_CHARACTERS:,} characters")
        held.append(piece)
    return "".join(held)


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_REASON else f"{text[: _LONGEST_REASON - 3]}..."
