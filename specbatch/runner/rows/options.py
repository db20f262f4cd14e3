"""Reads a row's options by the table of `row_options`: an option is honoured, ignored as harmless, or the row is refused."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from specbatch.results.rows import ErrorCode
from specbatch.runner.chat.options import NO_CHAT, ChatOptions, chat_options
from specbatch.runner.dataset.bad_rows import RowError, shown, whole
from specbatch.runner.rows.row_options import RowOption, find_option, nearest_option
from specbatch.runner.rows.structured import structured_output

_WHOLE = frozenset(
    {
        *("max_new_tokens", "top_k", "seed", "min_tokens", "no_repeat_ngram_size", "n"),
        *("logprobs", "top_logprobs", "prompt_logprobs"),
    }
)
# Empty text in their place is as if they were left out; in a number's or a flag's place it is a mistake.
_NO_NUMBERS = frozenset(
    {
        *("stop", "stop_token_ids", "bad_words", "suppress_tokens", "begin_suppress_tokens", "logit_bias"),
        *("tools", "tool_choice", "template_kwargs", "reasoning"),
    }
)
_MOST_FIELDS = 10_000  # each is compared with names that it may misspell: a million would take a minute


class Options(NamedTuple):
    """What a row asks beside its prompt.

    `decoding` holds fields of DecodingSpec, still to be validated, which `written` gives the names that the row has for them;
    `must_sample` is the name by which it asks for a temperature above 0.
    """

    decoding: Mapping[str, Any]
    enable_thinking: bool | None = None
    system_prompt: str | None = None
    must_sample: str = ""
    chat: ChatOptions = NO_CHAT
    written: Mapping[str, str] = MappingProxyType({})


NO_OPTIONS = Options({})


def read_options(
    fields: Mapping[str, Any], *, place: str = "", closed: bool = False, ignored: Collection[str]
) -> Options:
    """The options among some fields.

    Args:
        fields: of a row, or of the body of a request.
        place: where they stand, for messages: "" or "body.".
        closed: whether there is nothing but options: then an unknown name is refused, too.
        ignored: names that are no options, whatever the table says.

    Raises:
        RowError: an option that is not honoured, a misspelt one, or two that disagree.
    """
    reader = _Reader(ignored)
    reader.read(fields, place, closed=closed)
    if not reader.found:
        return NO_OPTIONS
    found = {sets: value for sets, (value, _) in reader.found.items()}
    _logprobs(found, reader)
    chat = _chat(found)
    thinking, system = found.pop("enable_thinking", None), found.pop("system_prompt", None)
    written = {sets: name for sets, (_, name) in reader.found.items()}
    written.setdefault("top_logprobs", written.get("logprobs", "top_logprobs"))
    return Options(found, thinking, system, must_sample=_must_sample(found, reader), chat=chat, written=written)


def refuse_options(fields: Mapping[str, Any], *, why: str, ignored: Collection[str]) -> None:
    """Refuses any option, or misspelt one, among fields that stand where none is read.

    Raises:
        RowError: naming it.
    """
    for name, value, option in _options_among(fields, ignored):
        if not option.asks_nothing(value):
            raise RowError(ErrorCode.UNSUPPORTED_OPTION, f"{shown(name)} {why}; {_ignore(name)}")


def _options_among(
    fields: Mapping[str, Any], ignored: Collection[str], place: str = "", *, closed: bool = False
) -> Iterator[tuple[str, Any, RowOption]]:
    """(name, value, option) of the fields that are options with a say in the text; a misspelt one is refused; as `read_options`."""
    if len(fields) > _MOST_FIELDS:
        raise RowError(
            ErrorCode.INVALID_ROW, f"{len(fields)} fields are more than the {_MOST_FIELDS} that a row may have"
        )
    for name, value in fields.items():
        if value is None or name in ignored:
            continue
        option = find_option(name)
        if option is not None:
            if not option.harmless and (closed or option.is_meant_by(value)):
                yield name, value, option
            continue
        nearest = nearest_option(name)
        if nearest is not None or closed:
            meant = f"; did you mean {nearest}?" if nearest else ""
            raise RowError(ErrorCode.UNKNOWN_FIELD, f"unknown field {shown(place + name)}{meant} ({_ignore(name)})")


class _Reader:
    """Collects what options set: sets -> (value, the name it was written by)."""

    def __init__(self, ignored: Collection[str]) -> None:
        self._ignored = ignored
        self.found: dict[str, tuple[Any, str]] = {}

    def read(self, fields: Mapping[str, Any], place: str, *, closed: bool) -> None:
        for name, value, option in _options_among(fields, self._ignored, place, closed=closed):
            self._option(option, name, value, place)

    def _option(self, option: RowOption, name: str, value: Any, place: str) -> None:
        if option.sets == "structured_output":
            self._set(option.sets, structured_output(option.name, value, f"{place}{name}"), f"{place}{name}")
        elif option.sets:
            self._set(option.sets, value, f"{place}{name}")
        elif not option.holds:
            if not option.asks_nothing(value):
                remedy = f"{option.remedy}; {_ignore(name)}" if option.remedy else _ignore(name)
                message = f"{place}{name}: {shown(value)} is not supported; {remedy}"
                raise RowError(ErrorCode.UNSUPPORTED_OPTION, message)
        elif not isinstance(value, dict):
            if not option.asks_nothing(value):
                raise RowError(ErrorCode.INVALID_FIELD, f"{place}{name} must be an object, found {shown(value)}")
        else:
            self.read(value, f"{place}{name}.", closed=True)

    def _set(self, sets: str, value: Any, written: str) -> None:
        value = None if value is None else _normal(sets, value, written)
        if value is None:
            return
        before, as_written = self.found.setdefault(sets, (value, written))
        if before != value or isinstance(before, bool) != isinstance(value, bool):
            raise RowError(ErrorCode.INVALID_FIELD, f"{as_written} and {written} disagree: give one of them")


def _normal(sets: str, value: Any, written: str) -> Any:
    """The value as it is validated later; None where it asks nothing."""
    if value == "" and sets in _NO_NUMBERS:
        return None
    if sets == "reasoning" and isinstance(value, dict) and all(part is None for part in value.values()):
        return None  # OpenAI's {"effort": null}
    if sets in {"enable_thinking", "do_sample"} and not isinstance(value, bool):
        raise RowError(ErrorCode.INVALID_FIELD, f"{written} must be true or false, found {shown(value)}")
    if sets == "template_kwargs" and not isinstance(value, dict):
        raise RowError(ErrorCode.INVALID_FIELD, f"{written} must be an object, found {shown(value)}")
    if sets == "system_prompt":
        if not isinstance(value, str):
            remedy = "where it is data, set dataset.ignoreFields"
            raise RowError(ErrorCode.INVALID_FIELD, f"{written} must be a string, found {shown(value)}; {remedy}")
        return value if value.strip() else None
    if sets in {"stop", "bad_words"} and isinstance(value, str):
        return [value]
    value = whole(value) if sets in _WHOLE else value
    return 0 if sets == "top_k" and value == -1 else value  # vLLM's and TGI's way to keep all


def _chat(found: dict[str, Any]) -> ChatOptions:
    """The chat's options; a call that has to be is a form that the text is held to."""
    kwargs = found.get("template_kwargs")
    if kwargs is not None and "enable_thinking" in kwargs:
        inner = _normal("enable_thinking", kwargs["enable_thinking"], "chat_template_kwargs.enable_thinking")
        if found.setdefault("enable_thinking", inner) is not inner:
            raise RowError(
                ErrorCode.INVALID_FIELD,
                "enable_thinking and chat_template_kwargs.enable_thinking disagree: give one of them",
            )
        found["template_kwargs"] = {name: value for name, value in kwargs.items() if name != "enable_thinking"}
    chat = chat_options(found)
    schema = chat.schema()
    if schema is not None:
        if "structured_output" in found:
            raise RowError(
                ErrorCode.INVALID_FIELD,
                "tool_choice and structured output disagree on the text's form: give one of them",
            )
        found["structured_output"] = {"json_schema": schema}
    return chat


def _logprobs(found: dict[str, Any], reader: _Reader) -> None:
    """OpenAI's chat: logprobs true or false, beside top_logprobs; its completions and vLLM: logprobs is the number itself."""
    if found.get("prompt_logprobs") is False:
        del found["prompt_logprobs"]
    asked, top = found.pop("logprobs", None), found.get("top_logprobs")
    if asked is None or isinstance(asked, bool):
        if asked is False and top:
            names = " and ".join(reader.found[name][1] for name in ("logprobs", "top_logprobs"))
            raise RowError(ErrorCode.INVALID_FIELD, f"{names} disagree: give one of them")
        found.pop("top_logprobs", None)
        if asked or top:  # 0 alone asks for none
            found["top_logprobs"] = top or 0
    elif top is not None and top != asked:
        raise RowError(ErrorCode.INVALID_FIELD, f"logprobs {shown(asked)} and top_logprobs {shown(top)} disagree")
    else:
        found["top_logprobs"] = asked


def _must_sample(found: dict[str, Any], reader: _Reader) -> str:
    """transformers' do_sample: false is temperature 0; true needs one above 0, of the row or of the spec."""
    sample = found.pop("do_sample", None)
    if sample is None:
        return ""
    written = reader.found["do_sample"][1]
    if sample:
        return written
    if found.setdefault("temperature", 0.0) != 0:
        raise RowError(ErrorCode.INVALID_FIELD, f"{written} is false, but temperature above 0: give one of them")
    return ""


def _ignore(name: str) -> str:
    return f"where it is data, rename it or set dataset.ignoreFields: [{shown(name)}]"
