"""Kubernetes quantities: 500m, 4, 16Gi. Always text in the manifests; a plain number in YAML is taken as its text."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from specbatch.api.base import Says

PATTERN = r"^([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3}|[numkMGTPE]|[KMGTPE]i)?$"
_UNITS = {
    "": Decimal(1),
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "k": Decimal(10**3),
    "M": Decimal(10**6),
    "G": Decimal(10**9),
    "T": Decimal(10**12),
    "P": Decimal(10**15),
    "E": Decimal(10**18),
    "Ki": Decimal(2**10),
    "Mi": Decimal(2**20),
    "Gi": Decimal(2**30),
    "Ti": Decimal(2**40),
    "Pi": Decimal(2**50),
    "Ei": Decimal(2**60),
}


def _as_text(value: Any) -> Any:
    """`cpu: 4` and `cpu: 0.5` are what people write; the manifests want text."""
    if isinstance(value, float):
        return format(Decimal(repr(value)), "f").removesuffix(".0")  # as JSON, and so Helm, writes it: 1.0 is 1
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value


Quantity = Annotated[
    str,
    BeforeValidator(_as_text, json_schema_input_type=str | float),
    Field(pattern=PATTERN, max_length=64),
    Says('a quantity such as 4, "500m" or "16Gi"'),
]
"""A Kubernetes quantity, kept as text."""


def quantity_value(quantity: str) -> Decimal:
    """The value of a quantity: `quantity_value("16Gi")` is 17179869184.

    Raises:
        ValueError: the text is no quantity.
    """
    match = re.fullmatch(r"([0-9.]+(?:[eE][+-]?[0-9]{1,3})?)([a-zA-Z]*)", quantity)
    if match is None or re.match(PATTERN, quantity) is None:
        raise ValueError(f"{quantity!r} is not a quantity")
    return Decimal(match[1]) * _UNITS[match[2]]
