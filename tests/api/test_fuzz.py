"""Whatever stands in a file, the answer is a valid job or a SpecError whose problems can be printed."""

from __future__ import annotations

import json

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from specbatch.api import SpecBatchJob, parse_spec
from specbatch.api.paths import all_field_paths, path_text
from specbatch.errors import SpecError
from tests.api.specs import MINIMUM

FEW = settings(max_examples=80)
PATHS = [path for path in all_field_paths(SpecBatchJob) if len(path) > 1]

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(
        ["auto", "same", "separate", "multi_gpu_ratio", "ngram", "5%", "1Gi", "s3://a:b@c", "1e3", "embedded:x"]
    )
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def answer(text: str, overrides: tuple[str, ...] = ()) -> None:
    try:
        job = parse_spec(text, "fuzz", overrides)
    except SpecError as error:
        str(error.problems[0]).encode()
    else:
        assert len(job.spec_hash()) == 64
        json.dumps(job.model_dump(mode="json", by_alias=True), allow_nan=False).encode()


@FEW
@given(st.text())
def test_any_text(text):
    answer(text)


@FEW
@given(st.text(alphabet="ab:{}[]-&*!|>'\"#%@`,?<~ \n\t\r\\0e.", max_size=60))
def test_any_text_of_yaml_characters(text):
    answer(text)


@pytest.mark.slow
@FEW
@given(values)
def test_any_values(value):
    answer(yaml.safe_dump(value, allow_unicode=True))


@pytest.mark.slow
@FEW
@given(st.dictionaries(st.sampled_from(PATHS), values, min_size=1, max_size=4))
def test_any_values_in_the_place_of_fields(changes):
    data = yaml.safe_load(MINIMUM)
    for path, value in changes.items():
        holder = data
        for piece in path[:-1]:
            if not isinstance(holder.get(piece), dict):
                holder[piece] = {}
            holder = holder[piece]
        holder[path[-1]] = value
    answer(json.dumps(data))


@pytest.mark.slow
@FEW
@given(st.sampled_from(PATHS), values, st.integers(0, len(MINIMUM)))
def test_a_valid_file_with_something_struck_out(path, value, cut):
    answer(MINIMUM[:cut] + MINIMUM[cut + 1 :])
    answer(MINIMUM, (f"{path_text(path)}={json.dumps(value)}",))


@pytest.mark.slow
@FEW
@given(st.lists(st.text(max_size=30), max_size=3))
def test_any_override(overrides):
    answer(MINIMUM, tuple(overrides))
