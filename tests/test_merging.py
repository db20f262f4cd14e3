from dataclasses import dataclass, field
from typing import Annotated

import msgspec
import pytest

from specbatch.merging import (
    Merge,
    constant,
    first,
    largest,
    largest_if_all_known,
    last,
    last_known,
    merge,
    summed,
    summed_if_all_known,
    summed_known,
)


@dataclass
class Counts:
    rows: int = 0
    by_position: list[int] = field(default_factory=list)
    seconds: Annotated[float, Merge(in_turn=summed, at_once=largest)] = 0.0


class Record(msgspec.Struct, frozen=True):
    rows: int = 0
    by_position: tuple[int, ...] = ()
    phases: dict[str, float] = {}
    newest: Annotated[int, Merge(last, first)] = 0


class Later(Record, frozen=True):
    of_tomorrow: int = 0


def test_a_field_without_a_rule_is_summed_also_one_that_was_added_later():
    assert merge([Later(rows=1, of_tomorrow=2), Later(of_tomorrow=5)], at_once=True).of_tomorrow == 7


def test_lists_are_summed_by_position_and_mappings_by_key():
    one, other = Record(2, (3, 2), {"draft": 1.0}, 7), Record(5, (1,), {"draft": 0.5, "verify": 2.0}, 8)
    both = Record(7, (4, 2), {"draft": 1.5, "verify": 2.0}, 8)
    assert merge([one, other], at_once=False) == both
    assert merge([one, other], at_once=True).newest == 7


def test_dataclasses_are_merged_as_structs_are():
    merged = merge([Counts(1, [1], 2.0), Counts(2, [1, 1], 3.0)], at_once=True)
    assert merged == Counts(3, [2, 1], 3.0)
    assert merge([merged, merged], at_once=False).seconds == 6.0


@pytest.mark.parametrize(
    ("rule", "values", "merged"),
    [
        (summed, [1, None, 2], 3), (summed, [None, None], None), (summed_known, [None, None], 0), (summed_known, [None, 4], 4),
        (summed_if_all_known, [1, 2], 3), (summed_if_all_known, [1, None], None),
        (largest_if_all_known, [1, 2], 2), (largest_if_all_known, [None, 2], None),
        (last_known, [1, 2, None], 2), (last_known, [None], None), (constant("x"), [1, 2], "x"),
    ],
)  # fmt: skip
def test_a_rule_says_what_becomes_of_values_that_are_not_known(rule, values, merged):
    assert rule(values, values) == merged
