"""Chooses the chat template, and checks before the first row whether it parses and whether it reads the clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser

from specbatch.api.dataset import DatasetSpec
from specbatch.api.template_syntax import LOOP_CONTROLS, TemplateSyntaxError, parse_template
from specbatch.errors import Problem, SpecError
from specbatch.runner.models.content import file_hash

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_FIELD = "spec.dataset.chatTemplate"
_INSTANT = "SPECBATCH_INSTANT"
_CLOCK = "strftime_now"  # transformers' only door to the time, for templates


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """A Jinja template.

    Attributes:
        text: its source.
        reads_clock: whether it may show the time of its rendering, as Llama 3.x's do: then the run has one instant for all rows.
        file: its path, if the spec names a file.
    """

    text: str
    reads_clock: bool = False
    file: Path | None = None


def choose_template(dataset: DatasetSpec, tokenizer: PreTrainedTokenizerBase) -> ChatTemplate | None:
    """The chat template that dataset.chatTemplate means; of a tokenizer's several templates `auto` takes the one named default.

    Args:
        dataset: spec.dataset.
        tokenizer: the target's.

    Raises:
        SpecError: no such template; it cannot be read or parsed; it draws at random.
    """
    setting = dataset.chat_template
    if setting == "none":
        return None
    named = _named(tokenizer.chat_template)
    if setting == "auto":
        if not named:
            return None
        if "default" not in named:
            raise _error(
                f"the tokenizer has {len(named)} named chat templates and none is named default",
                f"name one of them in dataset.chatTemplate: {', '.join(sorted(named))}",
            )
        return _checked(named["default"], "the tokenizer's chat template")
    if setting in named:
        return _checked(named[setting], f"the tokenizer's chat template {setting!r}")
    if dataset.chat_template_file is None:
        raise _error(
            f"the tokenizer has no chat template named {setting!r}",
            f"it has: {', '.join(sorted(named)) or 'none'}; for a file of that name write ./{setting}",
        )
    path = Path(dataset.chat_template_file).expanduser()
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise _error(f"{path.absolute()} cannot be read: {reason}", 'name a file, "auto" or "none"') from error
    return _checked(text, setting, path)


def template_file(template: ChatTemplate | None) -> dict[str, str]:
    """The hash of the template's file for the run's identity; nothing where the tokenizer's own is used, whose files count anyway."""
    return {} if template is None or template.file is None else {"dataset.chatTemplate": file_hash(template.file)}


def proposed_instant(env: Mapping[str, str]) -> datetime:
    """The time that a new run's template is shown: that of SPECBATCH_INSTANT, or now, with this machine's offset from UTC.

    Raises:
        SpecError: the variable holds no time.
    """
    text = env.get(_INSTANT, "")
    try:
        instant = datetime.fromisoformat(text) if text else datetime.now(UTC).astimezone()
        return instant if instant.tzinfo else instant.astimezone()
    except (ValueError, OverflowError) as error:
        problem = Problem(
            _INSTANT, f"{text!r} is no time: {error}", "ISO 8601, as 2026-11-28T09:00:00+00:00, or unset it"
        )
        raise SpecError([problem], source="environment") from error


def _named(found: str | Mapping[str, str] | None) -> Mapping[str, str]:
    """The tokenizer's templates by name; transformers gives a single one without."""
    if found is None:
        return {}
    return {"default": found} if isinstance(found, str) else found


def _checked(text: str, source: str, file: Path | None = None) -> ChatTemplate:
    try:
        parsed = parse_template(text, (LOOP_CONTROLS, _Generation))
    except TemplateSyntaxError as error:
        raise _error(f"{source} cannot be parsed: {error}") from error
    if parsed.random:
        raise _error(
            f"{source} draws at random (`{parsed.random}`): a row's prompt would be another one in every attempt",
            "take that out of the template",
        )
    return ChatTemplate(text, _CLOCK in parsed.names, file)


def _error(message: str, remedy: str = 'mend it, name another file, or set "none"') -> SpecError:
    return SpecError([Problem(_FIELD, message, remedy)], source="spec")


class _Generation(Extension):
    """transformers' `{% generation %}`, which marks what an assistant says and writes nothing."""

    tags = {"generation"}  # noqa: RUF012 - as jinja2 has it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """The block's content."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)
