"""What a row's text has to be: JSON of a schema, an expression, one of some texts, or a grammar's."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from specbatch.api.base import Says, SpecModel

NonEmpty = Annotated[str, Field(min_length=1, max_length=1 << 20), Says("text of at least one character")]


class StructuredOutput(SpecModel):
    """The form that a row's text is held to, token by token: exactly one of the fields. Needs the extra `grammar`."""

    json_schema: dict[str, Any] | None = Field(
        default=None,
        description="A JSON schema; {type: object} is any JSON object.",
        examples=[{"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}],
    )
    regex: NonEmpty | None = Field(
        default=None, description="A regular expression for the whole text.", examples=["[0-9]{4}-[0-9]{2}"]
    )
    choice: Annotated[list[NonEmpty], Field(min_length=1)] | None = Field(
        default=None, description="The texts of which it is one.", examples=[["yes", "no"]]
    )
    grammar: NonEmpty | None = Field(
        default=None, description="A context-free grammar, as Lark or GBNF.", examples=['start: "yes" | "no"']
    )

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        given = [name for name in ("json_schema", "regex", "choice", "grammar") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError("exactly one of jsonSchema, regex, choice and grammar is to be given")
        return self
