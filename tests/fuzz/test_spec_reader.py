"""Whatever stands in a spec file: a valid job, or problems that say where. 40,000 inputs in make fuzz."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest
import yaml

from specbatch.api import SpecBatchJob
from specbatch.api.paths import all_field_paths, path_text
from tests.api.specs import MINIMUM
from tests.fuzz.checks import check_spec
from tests.fuzz.mutate import VALUES, changed, damaged

INPUTS = 2000  # a test
VALID = [MINIMUM.encode(), *(path.read_bytes() for path in sorted(Path("job").glob("*.yaml")))]
PATHS = [path_text(path) for path in all_field_paths(SpecBatchJob)]
NAMES = sorted({name for path in PATHS for name in path.split(".")})


def make(number: int) -> tuple[bytes, tuple[str, ...]]:
    """An input: the bytes of a spec file, and overrides."""
    chosen = random.Random(number)
    data = chosen.choice(VALID)
    match number % 4:
        case 0:
            return damaged(data, VALID, chosen), ()
        case 1:
            value = changed(yaml.safe_load(data), NAMES, chosen)
            return json.dumps(value).encode(), ()
        case 2:
            value = changed(yaml.safe_load(data), NAMES, chosen)
            text = json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")
            return damaged(text, VALID, chosen), ()
    value = chosen.choice(VALUES)
    text = chosen.choice([json.dumps(value), str(value)])
    override = chosen.choice(
        [f"{chosen.choice(PATHS)}={text}", text, f"{chosen.choice(NAMES)}={text}", f"{text}={text}"]
    )
    return data, (override.encode("utf-8", "replace").decode(),)


@pytest.mark.parametrize(
    "part", [pytest.param(part, marks=pytest.mark.slow if part == 0 else pytest.mark.faults) for part in range(21)]
)
def test_a_spec_is_valid_or_every_problem_says_where(tmp_path, part):
    seen: Counter[str] = Counter()
    path = tmp_path / "spec.yaml"
    for number in range(part * INPUTS, part * INPUTS + (INPUTS if part else 300)):
        data, overrides = make(number)
        path.write_bytes(data)
        try:
            seen[check_spec(path, overrides)] += 1
        except BaseException as error:
            raise AssertionError(f"input {number}: {data!r:.3000} {overrides}") from error
    assert min(seen["valid"], seen["refused"]) > sum(seen.values()) / 50, seen
