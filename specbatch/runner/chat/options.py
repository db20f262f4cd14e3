"""What a row says of its chat beside the messages: tools, how the template is called, whether the last turn is continued."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from specbatch.results.rows import ErrorCode
from specbatch.runner.dataset.bad_rows import RowError, shown

# What a template is given by us, or is no variable of its own.
_OURS = frozenset(
    {"messages", "conversation", "tools", "documents", "chat_template", "tokenize", "add_generation_prompt", "continue_final_message",
     "return_tensors", "return_dict", "padding", "truncation", "max_length", "strftime_now", "raise_exception"}
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ChatOptions:
    """Of a row.

    tools: functions, as OpenAI describes them, for the template and for reading calls out of the text
    choice: auto, required, none, or the name of a function
    parallel: whether one answer may call several times
    kwargs: variables of the template
    generation_prompt: whether the template begins the assistant's turn; None: as it usually does
    continues: whether the last message is the beginning of the answer
    """

    tools: Sequence[Mapping[str, Any]] = ()
    choice: str = "auto"
    named: bool = False
    parallel: bool = True
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    generation_prompt: bool | None = None
    continues: bool = False

    @property
    def names(self) -> frozenset[str]:
        """Of the functions that may be called."""
        return frozenset(tool["function"]["name"] for tool in self.tools)

    @property
    def values(self) -> dict[str, Any]:
        """As JSON, without what is as usual: for a row's fingerprint."""
        usual = asdict(NO_CHAT)
        return {name: value for name, value in asdict(self).items() if value != usual[name]}

    def schema(self) -> dict[str, Any] | None:
        """That a text must have which has to call; None where it may say anything.

        A function that is named gives its arguments alone; `required` gives a list of calls.
        """
        parameters = {
            tool["function"]["name"]: tool["function"].get("parameters") or {"type": "object"} for tool in self.tools
        }
        if self.named:
            return dict(parameters[self.choice])
        if self.choice != "required":
            return None
        calls = [
            {
                "type": "object",
                "properties": {"name": {"const": name}, "parameters": schema},
                "required": ["name", "parameters"],
                "additionalProperties": False,
            }
            for name, schema in parameters.items()
        ]
        most = {} if self.parallel else {"maxItems": 1}
        return {"type": "array", "minItems": 1, **most, "items": {"anyOf": calls}}


NO_CHAT = ChatOptions()


def chat_options(found: dict[str, Any]) -> ChatOptions:
    """Takes the options of a chat out of all that a row sets.

    Raises:
        RowError: tools or a choice that there are not.
    """
    names = (
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "template_kwargs",
        "add_generation_prompt",
        "continue_final_message",
    )
    given = {name: found.pop(name) for name in names if name in found}
    if not given:
        return NO_CHAT
    tools = [_tool(tool, f"tools[{at}]") for at, tool in enumerate(_listed(given.get("tools", [])))]
    choice, named = _choice(given.get("tool_choice"), tools)
    kwargs = given.get("template_kwargs", {})
    if (ours := sorted(_OURS.intersection(kwargs))) or not all(isinstance(name, str) for name in kwargs):
        raise RowError(ErrorCode.UNSUPPORTED_OPTION, f"chat_template_kwargs: {shown(ours)} cannot be set there")
    flags = {
        name: given.get(name) for name in ("parallel_tool_calls", "add_generation_prompt", "continue_final_message")
    }
    for name, flag in flags.items():
        if flag is not None and not isinstance(flag, bool):
            raise RowError(ErrorCode.INVALID_FIELD, f"{name} must be true or false, found {shown(flag)}")
    if flags["add_generation_prompt"] and flags["continue_final_message"]:
        message = "add_generation_prompt and continue_final_message are both true: the answer begins anew, or goes on"
        raise RowError(ErrorCode.INVALID_FIELD, message)
    if choice == "none":
        tools = []
    options = ChatOptions(
        tools=tuple(tools),
        choice=choice if tools else "auto",
        named=named,
        parallel=not tools or flags["parallel_tool_calls"] is not False,
        kwargs=kwargs,
        generation_prompt=None
        if flags["add_generation_prompt"] or flags["continue_final_message"]
        else flags["add_generation_prompt"],
        continues=bool(flags["continue_final_message"]),
    )
    return NO_CHAT if options == NO_CHAT else options


def _listed(value: Any) -> Sequence[Any]:
    if not isinstance(value, list):
        raise RowError(ErrorCode.INVALID_FIELD, f"tools must be a list, found {shown(value)}")
    return value


def _tool(value: Any, name: str) -> dict[str, Any]:
    """As {"type": "function", "function": {"name": ...}}; the wrapping may be missing, as in OpenAI's Responses."""
    inner = value.get("function", value) if isinstance(value, dict) else None
    if isinstance(value, dict) and value.get("type", "function") != "function":
        raise RowError(
            ErrorCode.UNSUPPORTED_OPTION, f"{name}: only functions are supported, found type {shown(value.get('type'))}"
        )
    if not isinstance(inner, dict) or not isinstance(inner.get("name"), str) or not inner["name"]:
        raise RowError(ErrorCode.INVALID_FIELD, f"{name} must describe a function with a name, found {shown(value)}")
    if not isinstance(inner.get("parameters", {}), dict):
        raise RowError(
            ErrorCode.INVALID_FIELD, f"{name}.parameters must be a schema, found {shown(inner['parameters'])}"
        )
    for strict in (value.get("strict"), inner.get("strict")):
        if strict is not None and not isinstance(strict, bool):
            raise RowError(ErrorCode.INVALID_FIELD, f"{name}.strict must be true or false, found {shown(strict)}")
    function = {key: part for key, part in inner.items() if key not in {"type", "strict"}}
    return {"type": "function", "function": function}


def _choice(value: Any, tools: Sequence[Mapping[str, Any]]) -> tuple[str, bool]:
    """The choice, and whether it names a function."""
    if value is None or value in ("auto", "none"):
        return value or "auto", False
    if not tools:
        raise RowError(ErrorCode.INVALID_FIELD, f"tool_choice {shown(value)} needs tools, and there are none")
    if value == "required":
        return value, False
    name = (
        value.get("function", value).get("name")
        if isinstance(value, dict) and isinstance(value.get("function", value), dict)
        else None
    )
    if not any(tool["function"]["name"] == name for tool in tools):
        raise RowError(
            ErrorCode.INVALID_FIELD,
            f"tool_choice must be auto, none, required or one of the tools, found {shown(value)}",
        )
    return str(name), True
