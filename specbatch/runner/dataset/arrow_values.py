"""Makes the values of Arrow columns what JSON can say: times are ISO strings, decimals strings, null is absent; binary columns are not read."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import date, time, timedelta
from typing import Any

from specbatch.errors import DatasetError
from specbatch.runner.dataset.bad_rows import shown

_INDEX = "__index_level_"  # how pandas names an index without a name


def unread_columns(schema: Any) -> Mapping[str, str]:
    """The columns of a schema that are not read -> why."""
    unread = {field.name: "binary data" for field in schema if _holds_binary(field.type)}
    return unread | {name: "pandas' index" for name in schema.names if name.startswith(_INDEX)}


def columns_of(batch: Any, where: str) -> Iterator[tuple[Any, ...]]:
    """The rows of a record batch, each as its columns' values.

    Raises:
        DatasetError: a column of a type that has no values here.
    """
    columns = []
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            columns.append(_values(column))
        except Exception as error:
            raise DatasetError(
                f"column {shown(name)} of type {column.type} cannot be read: {error}",
                where=where,
                remedy="write the file anew without it, or as text",
            ) from error
    return zip(*columns, strict=True)


def _values(column: Any) -> list[Any]:
    import pyarrow as pa  # noqa: PLC0415 - of tables alone

    types = pa.types
    kind = column.type
    coarse = _microseconds(kind)
    if coarse != kind:
        column = column.cast(coarse, safe=False)
    values: list[Any] = column.to_pylist()
    is_plain = any(test(kind) for test in (types.is_string, types.is_large_string, types.is_boolean, types.is_integer))
    return values if is_plain else [_json(value) for value in values]


def _json(value: Any) -> Any:  # noqa: PLR0911 - a type a return
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None  # pandas' gap in a column of numbers
    if isinstance(value, dict):  # a struct has every key, also those that a message does not have
        return {key: _json(part) for key, part in value.items() if part is not None}
    if isinstance(value, list):
        if value and all(isinstance(part, tuple) and len(part) == 2 for part in value):  # a map
            return {str(key): _json(part) for key, part in value}
        return [_json(part) for part in value]
    if isinstance(value, date | time):
        return value.isoformat()
    return value.total_seconds() if isinstance(value, timedelta) else str(value)


def _holds_binary(kind: Any) -> bool:
    import pyarrow as pa  # noqa: PLC0415 - of tables alone

    types = pa.types
    tests = (types.is_binary, types.is_large_binary, types.is_fixed_size_binary, types.is_binary_view)
    if types.is_dictionary(kind):
        return _holds_binary(kind.value_type)
    if isinstance(kind, pa.UuidType):
        return False
    if isinstance(kind, pa.BaseExtensionType):
        return _holds_binary(kind.storage_type)
    return any(test(kind) for test in tests) or any(_holds_binary(kind.field(at).type) for at in range(kind.num_fields))


def _microseconds(kind: Any) -> Any:  # noqa: PLR0911 - a type a return
    """The same type, nanoseconds made into microseconds, which Python's times end at."""
    import pyarrow as pa  # noqa: PLC0415 - of tables alone

    types = pa.types
    if types.is_timestamp(kind) and kind.unit == "ns":
        return pa.timestamp("us", kind.tz)
    if types.is_time64(kind) and kind.unit == "ns":
        return pa.time64("us")
    if types.is_duration(kind) and kind.unit == "ns":
        return pa.duration("us")
    if types.is_struct(kind):
        return pa.struct(
            [kind.field(at).with_type(_microseconds(kind.field(at).type)) for at in range(kind.num_fields)]
        )
    if types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_microseconds(kind.value_type)))
    if types.is_large_list(kind):
        return pa.large_list(kind.value_field.with_type(_microseconds(kind.value_type)))
    return kind
