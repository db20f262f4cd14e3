"""Families about records: the same few fields as JSON, CSV, key: value lines or a sentence.

Each function takes a random.Random and returns (prompt, answer); the answer is the one right text.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tools.embedded_pair.lexicon import CITIES, DEPARTMENTS, HOBBIES, JOBS, LANGUAGES, NAMES, STATUSES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from random import Random

    Record = Mapping[str, str | int]

_VALUES: Mapping[str, tuple[str, ...]] = {
    "name": NAMES,
    "city": CITIES,
    "job": JOBS,
    "hobby": HOBBIES,
    "department": DEPARTMENTS,
    "language": LANGUAGES,
    "status": STATUSES,
}
_NUMBERS: Mapping[str, range] = {"age": range(18, 90)}
_FORMATS = ("JSON", "CSV", "lines")
_REQUESTS: Mapping[str, tuple[str, ...]] = {
    "JSON": ("Write this record as JSON:", "Convert to a JSON object:", "Turn this into JSON:"),
    "CSV": ("Write this record as CSV with a header line:", "Convert to CSV:", "Turn this into CSV with a header:"),
    "lines": (
        "Write one key: value pair per line:",
        "Convert to key: value lines:",
        "List each field on its own line:",
    ),
}


def _record(rng: Random) -> dict[str, str | int]:
    """Four to six different fields in any order; a value is a word or, for age, a number."""
    keys = rng.sample([*sorted(_VALUES), *sorted(_NUMBERS)], rng.randint(4, 6))
    return {key: rng.choice(_VALUES[key]) if key in _VALUES else rng.choice(_NUMBERS[key]) for key in keys}


def _written(record: Record, form: str) -> str:
    if form == "JSON":
        return json.dumps(record)
    if form == "CSV":
        return ",".join(record) + "\n" + ",".join(str(value) for value in record.values())
    if form == "lines":
        return "\n".join(f"{key}: {value}" for key, value in record.items())
    assert form == "sentence"
    *first, last = [f"the {key} is {value}" for key, value in record.items()]
    text = f"{', '.join(first)} and {last}."
    return text[0].upper() + text[1:]


def _reformat(rng: Random, wanted: str) -> tuple[str, str]:
    record = _record(rng)
    given = rng.choice([form for form in (*_FORMATS, "sentence") if form != wanted])
    return f"{rng.choice(_REQUESTS[wanted])}\n{_written(record, given)}", _written(record, wanted)


def record_json(rng: Random) -> tuple[str, str]:
    """Any form into one line of JSON, keys in the order given."""
    return _reformat(rng, "JSON")


def record_csv(rng: Random) -> tuple[str, str]:
    """Any form into a header line and a value line."""
    return _reformat(rng, "CSV")


def record_lines(rng: Random) -> tuple[str, str]:
    """Any form into key: value lines."""
    return _reformat(rng, "lines")


def extract_field(rng: Random) -> tuple[str, str]:
    """One field's value out of a record in any form."""
    record = _record(rng)
    key = rng.choice(sorted(record))
    form = rng.choice((*_FORMATS, "sentence"))
    question = rng.choice(
        ("What is the {k} in this record?", "Give me the {k} from this record.", "Find the {k} in the record below.")
    )
    return f"{question.format(k=key)}\n{_written(record, form)}", f"The {key} in this record is {record[key]}."


def introduction(rng: Random) -> tuple[str, str]:
    """A sentence with a fixed pattern out of a record with four known fields."""
    record: dict[str, str | int] = {key: rng.choice(_VALUES[key]) for key in ("name", "job", "city", "hobby")}
    keys = rng.sample(sorted(record), 4)
    shown = _written({key: record[key] for key in keys}, rng.choice(_FORMATS))
    request = rng.choice(
        (
            "Introduce this person in one sentence:",
            "Write a sentence about this person:",
            "Describe the person in this record:",
        )
    )
    article = "an" if str(record["job"])[0] in "aeiou" else "a"
    return (
        f"{request}\n{shown}",
        f"{record['name']} lives in {record['city']}, works as {article} {record['job']} and likes {record['hobby']}.",
    )
