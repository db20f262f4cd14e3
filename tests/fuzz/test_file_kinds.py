"""Damaged files of every kind: rows, error rows, or a refusal that says where and what to do; never another end."""

import random
from collections import Counter

import pytest

from specbatch.errors import DatasetError
from specbatch.runner.rows.row_reader import RowReader
from tests.fuzz.checks import bounded, check_sentence
from tests.runner.dataset.test_kinds import READ, ROWS
from tests.runner.tiny import dataset_at, row_rules

INPUTS = 2000  # a test
PIECES = [b'"', b"{", b"]", b"\n", b",", b"\0", b"\\", b"\xff"]


def make(number: int) -> tuple[str, bytes, str]:
    """A file's ending, its bytes, and the format that a spec says."""
    chosen = random.Random(number)
    data = bytearray(READ[chosen.choice(sorted(READ))](ROWS * chosen.choice([1, 2, 30])))
    for _ in range(chosen.randint(0, 4)):
        at, way = chosen.randrange(len(data) + 1), chosen.random()
        if way < 0.4:
            del data[at : at + chosen.randint(1, 20)]
        elif way < 0.8:
            data[at:at] = chosen.choice([*PIECES, chosen.randbytes(4)])
        else:
            del data[max(1, at) :]
    ending = chosen.choice(["", ".csv", ".json", ".parquet", ".txt"])
    return ending, bytes(data), chosen.choice(["auto"] * 6 + ["csv", "json", "messages"])


def check(uri: str, form: str) -> Counter[str]:
    """Reads a dataset to its end."""
    seen: Counter[str] = Counter()
    try:
        dataset = dataset_at(uri, format=form)
        dataset.check_readable()
        reader = RowReader(row_rules())
        for index, raw in enumerate(dataset.rows()):
            assert raw.index == index
            seen[type(reader.read(raw)).__name__] += 1
        assert dataset.estimated_rows == index + 1
    except DatasetError as error:
        assert error.where  # noqa: PT017 - one of two good ends
        assert error.remedy  # noqa: PT017 - as above
        check_sentence(error.message, 3000)
        seen["refused"] += 1
    return seen


@pytest.mark.parametrize(
    "part", [pytest.param(part, marks=pytest.mark.slow if part == 0 else pytest.mark.faults) for part in range(6)]
)
def test_a_damaged_file_ends_in_rows_or_in_an_error_with_a_remedy(tmp_path, part):
    seen: Counter[str] = Counter()
    for number in range(part * INPUTS, part * INPUTS + (INPUTS if part else 300)):
        ending, data, form = make(number)
        path = tmp_path / f"rows{ending}"
        path.write_bytes(data)
        try:
            with bounded():
                seen += check(str(path), form)
        except BaseException as error:
            raise AssertionError(f"input {number}: {ending} {form} {data!r:.1000}") from error
    assert min(seen["Row"], seen["BadRow"], seen["refused"]) > 50, seen
