"""Short instructions with one right answer, in nineteen families, from a seed.

A prompt belongs to the held-out part when its checksum says so, whatever the seed: no training seed can ever make a
prompt that the evaluation or the quickstart asks.
"""

from __future__ import annotations

import random
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tools.embedded_pair import lists, numbers_and_dates, records

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

Split = Literal["train", "held_out"]
HELD_OUT_SHARE = 16  # one prompt in sixteen is never trained on

# family -> (maker, weight); a weight is how often the family is drawn
FAMILIES: Mapping[str, tuple[Callable[[random.Random], tuple[str, str]], int]] = {
    "addition": (numbers_and_dates.addition, 2),
    "subtraction": (numbers_and_dates.subtraction, 2),
    "multiplication": (numbers_and_dates.multiplication, 2),
    "units": (numbers_and_dates.units, 2),
    "date_format": (numbers_and_dates.date_format, 2),
    "date_shift": (numbers_and_dates.date_shift, 2),
    "sort_numbers": (lists.sort_numbers, 2),
    "sort_words": (lists.sort_words, 2),
    "count_items": (lists.count_items, 2),
    "reverse_list": (lists.reverse_list, 2),
    "letter_case": (lists.letter_case, 2),
    "filter_list": (lists.filter_list, 2),
    "repeat_list": (lists.repeat_list, 3),
    "numbered_list": (lists.numbered_list, 3),
    "record_json": (records.record_json, 4),
    "record_csv": (records.record_csv, 3),
    "record_lines": (records.record_lines, 3),
    "extract_field": (records.extract_field, 2),
    "introduction": (records.introduction, 3),
}


@dataclass(frozen=True)
class Task:
    """One instruction, its one right answer, and the family it was drawn from."""

    prompt: str
    answer: str
    family: str


def split_of(prompt: str) -> Split:
    """Which part a prompt belongs to: a property of its text alone."""
    return "held_out" if zlib.crc32(prompt.encode()) % HELD_OUT_SHARE == 0 else "train"


def generate(seed: int, count: int, split: Split = "train") -> Iterator[Task]:
    """Yield `count` tasks of one split; the same arguments always give the same tasks."""
    rng = random.Random(f"specbatch embedded pair {seed}")
    names = list(FAMILIES)
    weights = [weight for _, weight in FAMILIES.values()]
    made = 0
    while made < count:
        family = rng.choices(names, weights)[0]
        prompt, answer = FAMILIES[family][0](rng)
        if split_of(prompt) == split:
            made += 1
            yield Task(prompt, answer, family)
