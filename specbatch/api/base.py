"""What every type of the spec shares: frozen, strict, camelCase, unknown keys refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class SpecModel(BaseModel):
    """The base of every type in the spec.

    Strict: YAML has types of its own, so `gpus: "8"` and `gpus: true` are mistakes. Files use
    camelCase only (the loader validates by alias); Python code may use the attribute names.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        alias_generator=to_camel,
        validate_by_alias=True,
        validate_by_name=True,
        allow_inf_nan=False,
        use_attribute_docstrings=False,
        protected_namespaces=(),
    )


@dataclass(frozen=True, slots=True)
class Says:
    """How a constrained type is called in a person's words: "a whole number of at least 1".

    Without it the words are made from the type and its bounds; a pattern needs words of its own.
    """

    words: str


Text = Annotated[str, Field(pattern=r"\S"), Says("text that is not blank")]
"""Any text but blank."""

DnsLabel = Annotated[
    str,
    Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63),
    Says("a DNS label (lower-case letters, digits and '-', no '-' at either end, at most 63 characters)"),
]
"""RFC 1123 label: the names of most Kubernetes objects."""

DnsSubdomain = Annotated[
    str,
    Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$", max_length=253),
    Says("a DNS name (lower-case letters, digits, '-' and '.', at most 253 characters)"),
]
"""RFC 1123 subdomain: the names of Secrets, claims and runtime classes."""

QualifiedName = Annotated[
    str,
    Field(
        pattern=r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$",
        max_length=317,
    ),
    Says("a Kubernetes key such as team or example.com/team (name of at most 63 letters, digits, '-', '_' and '.')"),
]
"""The key of a label, an annotation or an extended resource."""

LabelValue = Annotated[
    str,
    Field(pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$"),
    Says("a label's value (at most 63 letters, digits, '-', '_' and '.', a letter or digit at both ends)"),
]
"""The value of a label."""

EnvName = Annotated[
    str,
    Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$"),
    Says("the name of an environment variable (letters, digits and '_', no digit first)"),
]
"""The name of an environment variable."""

AbsolutePath = Annotated[str, Field(pattern=r"^/"), Says("an absolute path such as /results")]
"""A path inside the container, or on the node."""

Uri = Annotated[
    str,
    Field(pattern=r"^[A-Za-z][A-Za-z0-9+.-]*://\S+$"),
    Says("a URI such as s3://bucket/path/"),
]
"""Any fsspec URI with a scheme."""
