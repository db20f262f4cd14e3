import dataclasses
import errno
import os
from pathlib import Path

import pytest

from specbatch.errors import ResultsError
from specbatch.results.identity import Identity
from specbatch.results.shard.shard import ShardResults
from tests.results.builders import IDENTITY, make_row

FILE = "identity-00000-of-00001.json"


def change(**changes):
    return dataclasses.replace(IDENTITY, **changes)


def open_store(run_dir, identity=IDENTITY, **options):
    return ShardResults.open(run_dir, identity=identity, **options)


def start(run_dir, identity=IDENTITY):
    with open_store(run_dir, identity) as store:
        store.write(make_row(0))


@pytest.fixture
def started(run_dir):
    start(run_dir)
    return run_dir


def test_another_run_in_the_same_directory_is_refused_with_every_difference_and_both_ways_out(started):
    other = change(
        spec_hash="b" * 64,
        dataset="sha256:5678",
        models={"target": "embedded:target@2"},
        spec={
            "decoding": {"maxNewTokens": 256, "temperature": 0.0, "stop": ["\n"]},
            "dataset": {"uri": "prompts.jsonl"},
        },
    )
    with pytest.raises(ResultsError) as refused:
        open_store(started, other)
    assert str(refused.value) == (
        f"{started}: the results there belong to another run:\n"
        "    decoding.maxNewTokens: 128 -> 256\n"
        '    decoding.stop: (not set) -> ["\\n"]\n'
        "    target as loaded: embedded:target@1 -> embedded:target@2\n"
        "    drafter as loaded: embedded:drafter@1 -> (not set)\n"
        "    dataset content: sha256:1234 -> sha256:5678\n"
        "  remedy: start with --fresh to delete the old results, or set another results.dir (or metadata.name) to keep them"
    )
    with open_store(started) as store:
        assert store.found.results == 1


def test_a_changed_file_of_the_model_is_refused_by_name(run_dir):
    files = {"target/tokenizer.json": "aa", "target/chat_template.jinja": "bb"}
    start(run_dir, change(files=files))
    with pytest.raises(ResultsError) as refused:
        open_store(run_dir, change(files={"target/tokenizer.json": "cc", "target/generation_config.json": "dd"}))
    assert str(refused.value).splitlines()[1:4] == [
        "    content of target/chat_template.jinja: bb -> (not set)",
        "    content of target/generation_config.json: (not set) -> dd",
        "    content of target/tokenizer.json: aa -> cc",
    ]
    open_store(run_dir, change(files=files)).close()


def test_a_run_of_a_release_that_kept_no_files_and_no_instant_goes_on(started):
    open_store(started, change(files={"target/tokenizer.json": "aa"}, instant="2026-11-28T09:00:00+00:00")).close()


def test_another_time_for_the_chat_template_is_refused(run_dir):
    start(run_dir, change(instant="2026-11-28T09:00:00+00:00"))
    with pytest.raises(ResultsError, match="time that the chat template is shown: 2026-11-28T09"):
        open_store(run_dir, change(instant="2026-11-29T09:00:00+00:00"))


def test_a_changed_hash_alone_is_refused_too(started):
    with pytest.raises(ResultsError, match=r"spec hash: a+ -> b+"):
        open_store(started, change(spec_hash="b" * 64))


def test_a_release_that_would_not_know_the_finished_rows_again_is_refused(started):
    """It would decode them all anew, beside the old ones."""
    with pytest.raises(ResultsError, match=r"specbatch's own recipe for rows: .* -> fingerprints 2"):
        open_store(started, change(recipe="fingerprints 2"))


def test_a_long_value_or_a_long_list_of_differences_is_cut_short(started):
    many = change(spec={**IDENTITY.spec, "x": {f"field{n}": "y" * 500 for n in range(40)}}, spec_hash="c")
    with pytest.raises(ResultsError, match="and 28 more") as refused:
        open_store(started, many)
    assert max(map(len, str(refused.value).splitlines())) < 140


def test_values_that_json_changes_are_still_the_same_run(run_dir):
    same = change(spec={"stop": ("a", "b"), "dir": Path("/x"), "empty": {}})
    for _ in range(2):
        open_store(run_dir, same).close()


def test_fresh_lets_another_run_take_the_directory(started):
    other = change(spec_hash="b" * 64)
    with open_store(started, other, fresh=True) as store:
        assert store.found.rows == 0
        store.write(make_row(0))
    with pytest.raises(ResultsError, match="another run"):
        open_store(started, IDENTITY)


def test_another_run_that_is_split_differently_is_refused_and_fresh_removes_the_old_split(started):
    with pytest.raises(ResultsError, match="another run"):
        open_store(started, change(spec_hash="b" * 64), shard=2, shards=4)
    with open_store(started, shard=2, shards=4, fresh=True):
        assert not (started / "part-00000-of-00001.jsonl").exists()


def test_a_sibling_shard_of_another_run_is_refused(run_dir):
    open_store(run_dir, shard=0, shards=2).close()
    open_store(run_dir, shard=1, shards=2).close()
    (run_dir / "identity-00001-of-00002.json").unlink()
    (run_dir / "part-00001-of-00002.jsonl").unlink()
    (run_dir / "errors-00001-of-00002.jsonl").unlink()
    with pytest.raises(ResultsError, match="another run"):
        open_store(run_dir, change(spec_hash="b" * 64), shard=1, shards=2)


def test_fresh_leaves_the_sibling_shards_to_their_own_pods(run_dir):
    for shard in (0, 1):
        open_store(run_dir, shard=shard, shards=2).close()
    with open_store(run_dir, shard=1, shards=2, fresh=True):
        assert (run_dir / "part-00000-of-00002.jsonl").exists()


def test_results_without_an_identity_are_refused(started):
    (started / FILE).unlink()
    with pytest.raises(ResultsError, match=r"part|errors[\s\S]*is there without identity-00000-of-00001\.json"):
        open_store(started)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff"])
def test_a_broken_identity_is_refused(started, content):
    (started / FILE).write_bytes(content)
    with pytest.raises(ResultsError, match=r"not an identity file of a run[\s\S]*--fresh"):
        open_store(started)


def test_an_unreadable_identity_is_an_error(started):
    (started / FILE).unlink()
    (started / FILE).mkdir()
    with pytest.raises(ResultsError, match="cannot read the file: Is a directory"):
        open_store(started)


def test_a_file_that_fresh_cannot_remove_is_an_error(started, monkeypatch):
    def fail(path, **options):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "unlink", fail)
    with pytest.raises(ResultsError, match="remove the old results: Permission denied"):
        open_store(started, fresh=True)


def test_an_identity_comes_back_from_its_file(started):
    import json

    assert Identity.from_json(json.loads((started / FILE).read_bytes())) == IDENTITY


def test_a_run_that_has_ended_no_row_stands_in_nobodys_way_and_one_with_a_row_does(run_dir):
    open_store(run_dir).close()
    other = change(spec_hash="other", spec={"x": 1})
    start(run_dir, other)
    with pytest.raises(ResultsError, match="belong to another run"):
        open_store(run_dir)
    with open_store(run_dir, other) as store:
        assert store.found.rows == 1


def test_a_run_of_several_shards_is_another_runs_also_before_its_first_row(run_dir):
    open_store(run_dir, shards=2).close()
    with pytest.raises(ResultsError, match="belong to another run"):
        open_store(run_dir, change(spec_hash="other", spec={"x": 1}), shards=2)
