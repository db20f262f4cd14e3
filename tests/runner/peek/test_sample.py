"""What a plan tells of prompts that begin alike costs it little, and downloads nothing."""

import pytest

from specbatch.runner.peek import encoding, sample
from specbatch.runner.peek.sample import sharing_here

DOCUMENT = "word " * 40
WHOLE = ("dataset.chatTemplate=none", "batching.maxLength=400")


def rows(count):
    return [{"prompt": f"{DOCUMENT}{at}"} for at in range(count)]


def test_the_first_rows_tell_it_by_the_targets_tokenizer(make_job):
    found = sharing_here(make_job([{"prompt": ""}, *rows(3), b"{"], *WHOLE).spec, {})
    assert (found.unit, found.rows, found.shared) == ("tokens", 5, 2 * 64)


@pytest.mark.parametrize(("name", "value", "least", "most"), [("_TOKENS", 300, 2, 10), ("_BYTES", 900, 2, 10)])
def test_no_more_is_read_than_is_quick(make_job, monkeypatch, name, value, least, most):
    monkeypatch.setattr(sample, name, value)
    assert least <= sharing_here(make_job(rows(100), *WHOLE).spec, {}).rows <= most


def test_without_the_models_files_bytes_tell_it_and_nothing_is_downloaded(make_job, monkeypatch):
    monkeypatch.setattr(encoding, "_download", None)  # would fail
    found = sharing_here(make_job(rows(3), *WHOLE, "target.model=nobody/has-this").spec, {})
    assert (found.unit, found.rows, found.shared) == ("bytes", 3, 0)  # 200 bytes are less than a page
    found = sharing_here(make_job([{"prompt": DOCUMENT * 2}] * 2, *WHOLE, "target.model=nobody/has-this").spec, {})
    assert found.shared == 256


@pytest.mark.parametrize("uri", ["s3://bucket/rows.jsonl", "nothing.jsonl", "hf://datasets/a/b"])
def test_a_dataset_that_is_not_here_tells_nothing(make_job, uri):
    assert sharing_here(make_job(rows(1), f"dataset.uri={uri}").spec, {}) is None


def test_rows_whose_prompts_cannot_be_told_tell_nothing(make_job):
    assert sharing_here(make_job([{"prompt": "a", "question": "b"}]).spec, {}) is None
