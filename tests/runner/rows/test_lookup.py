import json

import pytest

from specbatch.results.identity import Identity
from specbatch.runner.rows.lookup import RowLookup
from tests.runner.tiny import dataset_at

LINES = (
    '{"id": "a", "prompt": "Why?"}',
    '{"id": "b", "messages": [{"role": "user", "content": "How?"}]}',
    "{",
    '{"id": "d", "prompt": "When?", "answer": "now"}',
)


@pytest.fixture
def dataset(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(LINES))
    return path


def identity_of(path, **dataset):
    spec = {"dataset": {"uri": str(path), "answerField": "answer", **dataset}}
    return Identity(spec_hash="", dataset=dataset_at(path).fingerprint(), models={}, spec=spec)


def test_ids_are_found_at_ascending_indices_also_of_bad_rows(dataset):
    lookup = RowLookup()
    found = list(lookup.ids(identity_of(dataset), [0, 2, 3, 9]))
    assert [index for index, _ in found] == [0, 2, 3, 9]
    assert (found[0][1], found[2][1], found[3][1]) == ("a", "d", None)
    assert found[1][1]
    assert lookup.problem == ""


def test_a_prompt_is_found_with_the_place_it_came_from(dataset):
    identity = identity_of(dataset)
    said = f"it was read from the dataset, {dataset}"
    assert RowLookup().prompt(identity, 0, "a") == ("Why?", said)
    assert RowLookup().prompt(identity, 3, "d") == ("When?", said)
    messages, _ = RowLookup().prompt(identity, 1, "b")
    assert json.loads(json.dumps(messages)) == [{"role": "user", "content": "How?"}]


def test_a_prompt_of_another_row_of_a_changed_or_lost_dataset_is_never_given(dataset):
    identity = identity_of(dataset)
    assert RowLookup().prompt(identity, 0, "b") == (None, "the dataset has another row in its place")
    assert RowLookup().prompt(identity, 2, "c")[0] is None
    assert RowLookup().prompt(None, 0, "a") == (None, "nothing there says which dataset it was")
    assert RowLookup().prompt(Identity(spec_hash="", dataset="", models={}), 0, "a")[0] is None
    dataset.write_text("another")
    assert RowLookup().prompt(identity, 0, "a") == (None, f"{dataset} is not the dataset of that run any more")
    dataset.unlink()
    prompt, why = RowLookup().prompt(identity, 0, "a")
    assert prompt is None
    assert why.startswith(f"{dataset}: ")
