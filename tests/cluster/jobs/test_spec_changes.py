"""The spec and its files out of a ConfigMap, and what differs between two."""

import gzip

import pytest

from specbatch.cluster.jobs.spec_changes import spec_changes
from specbatch.cluster.jobs.stored_spec import load_stored_files, load_stored_spec
from specbatch.errors import SpecError
from tests.cluster.submitting import parsed, rendered

ZIPPED = {"prompts.jsonl.gz": gzip.compress(b'{"prompt": "hello"}\n', mtime=0)}


def test_what_is_stored_gives_the_same_spec_and_files_back():
    stored = rendered("dataset.uri=prompts.jsonl.gz", files=ZIPPED).config_map
    job = load_stored_spec(stored)
    assert job == parsed("dataset.uri=prompts.jsonl.gz")
    assert load_stored_files(stored, job) == ZIPPED


def test_a_file_that_is_missing_is_named():
    stored = rendered().config_map
    stored["data"] = {"spec.json": stored["data"]["spec.json"]}
    with pytest.raises(SpecError, match="1 problem") as wrong:
        load_stored_files(stored, load_stored_spec(stored))
    assert "prompts.jsonl is not in it" in str(wrong.value)


def test_fields_that_come_go_and_change_are_told_apart():
    changes = spec_changes(
        rendered("job.parallelism=2").config_map, rendered("job.queueName=a", "job.completions=4").config_map
    )
    assert set(changes.lines) == {
        "job.parallelism: 2 -> (not set)",
        "job.queueName: (not set) -> a",
        "job.completions: 3 -> 4",
    }
    assert changes.same_rows


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ("decoding.maxNewTokens=65", False),
        ("target.model=some/other", False),
        ("results.includePrompt=true", False),
        ("batching.maxSequences=2", True),
        ("job.image=other:1", True),
        ("results.fsyncSeconds=1", True),
    ],
)
def test_it_is_told_whether_the_finished_rows_still_count(change, same):
    assert spec_changes(rendered().config_map, rendered(change).config_map).same_rows is same


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"kind": "SpecBatchJob", "spec": {"of": "another time"}}'])
def test_a_spec_that_cannot_be_read_is_compared_as_well_as_it_goes(text):
    old = rendered().config_map
    old["data"]["spec.json"] = text
    changes = spec_changes(old, rendered().config_map)
    assert changes.lines
    assert not changes.same_rows


def test_long_values_and_many_fields_are_shortened():
    many = [f"job.env.V{number}={'x' * 200}" for number in range(20)]
    changes = spec_changes(rendered().config_map, rendered(*many).config_map)
    assert len(changes.lines) == 20
    assert len(changes.shown) == 13
    assert changes.shown[-1] == "and 8 more"
    assert all(len(line) < 120 for line in changes.shown)
