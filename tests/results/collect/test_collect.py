"""collect: order, duplicates, gaps, partial runs, and what is written where."""

import io
import json
import os
import uuid

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from specbatch.errors import ResultsError
from specbatch.results.collect.collect import collect
from specbatch.results.collect.lines import error_code, index_of, is_openai, key_of
from specbatch.results.layout import ShardFile
from specbatch.results.manifest import write_success
from specbatch.results.rows import OpenAIForm
from specbatch.results.storage.folder import Folder
from specbatch.results.wire import encode_error, encode_result
from tests.results.builders import IDENTITY, finish_run, make_error, make_row
from tests.results.collect_runs import indices, write_rows, write_run, write_shard
from tests.results.test_wire import errors as any_errors
from tests.results.test_wire import results as any_results


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def test_shards_and_parts_come_out_as_one_file_in_input_order(run_dir, tmp_path):
    write_run(run_dir, 1000, shards=3, parts=4)
    done = collect(run_dir, tmp_path / "out.jsonl")
    assert (tmp_path / "out.jsonl").read_bytes() == b"".join(encode_result(make_row(index)) for index in range(1000))
    assert (done.complete, done.results, done.rows, done.files, done.shards) == (True, 1000, 1000, 15, 3)
    assert done.bytes == sum(path.stat().st_size for path in run_dir.glob("*.jsonl"))
    assert done.written == (("1,000 rows as jsonl", tmp_path / "out.jsonl"),)
    assert names(tmp_path) == ["nightly", "out.jsonl"]


@pytest.mark.parametrize("memory_bytes", [1, 1000, 50_000])
def test_little_memory_changes_nothing(run_dir, tmp_path, memory_bytes):
    write_run(run_dir, 400, shards=2, parts=3, errors={3, 399})
    collect(run_dir, tmp_path / "out.jsonl", memory_bytes=memory_bytes)
    assert indices(tmp_path / "out.jsonl") == [index for index in range(400) if index not in {3, 399}]
    assert indices(tmp_path / "out.errors.jsonl") == [3, 399]
    assert names(tmp_path) == ["nightly", "out.errors.jsonl", "out.jsonl"]


def test_a_run_as_the_runner_writes_it_is_collected(run_dir, tmp_path):
    finish_run(run_dir, [make_row(1), make_row(0)], [make_error(2)], dataset_rows=3)
    done = collect(run_dir, tmp_path / "out.jsonl")
    assert done.complete
    assert indices(tmp_path / "out.jsonl") == [0, 1]


def test_any_store_is_a_source(run_dir, tmp_path):
    write_run(run_dir, 20, shards=2)
    store = Folder(f"memory://{uuid.uuid4().hex}/nightly")
    for path in run_dir.iterdir():
        store.put(path.name, path)
    assert collect(store.uri, tmp_path / "out.jsonl").complete
    assert indices(tmp_path / "out.jsonl") == list(range(20))


def test_a_stream_gets_the_rows(run_dir):
    write_run(run_dir, 5, errors={2})
    stream = io.BytesIO()
    done = collect(run_dir, stream)
    assert [json.loads(line)["index"] for line in stream.getvalue().splitlines()] == [0, 1, 3, 4]
    assert done.errors == {"invalid_json": 1}
    assert done.written == (("4 rows as jsonl", "standard output"),)


@pytest.mark.slow
def test_a_thousand_parts(run_dir, tmp_path):
    write_run(run_dir, 3000, shards=4, parts=250)
    assert collect(run_dir, tmp_path / "out.jsonl", memory_bytes=20_000).files == 1004
    assert indices(tmp_path / "out.jsonl") == list(range(3000))


def test_a_row_that_is_there_twice_goes_out_once_and_the_first_one_counts(run_dir, tmp_path):
    first = [make_row(0, text="first"), make_row(1)]
    again = [make_row(0, text="again"), make_row(2)]
    write_shard(run_dir, [first, again, [make_row(0, text="third")]], dataset_rows=3)
    write_success(run_dir)
    done = collect(run_dir, tmp_path / "out.jsonl")
    lines = (tmp_path / "out.jsonl").read_bytes().splitlines(keepends=True)
    assert lines == [encode_result(row) for row in (first[0], first[1], again[1])]
    assert (done.duplicates, done.results, done.complete) == (2, 3, True)


def test_of_a_result_and_an_error_of_one_row_the_result_stays(run_dir, tmp_path):
    write_shard(run_dir, [[], [make_row(0)]], [[make_error(0)]], dataset_rows=1)
    write_success(run_dir)
    done = collect(run_dir, tmp_path / "out.jsonl")
    assert (done.results, done.errors, done.duplicates) == (1, {}, 1)
    assert names(tmp_path) == ["nightly", "out.jsonl"]


def test_the_same_row_in_another_json_spelling_is_the_same_row(run_dir, tmp_path):
    write_shard(run_dir, [[make_row(0, id="é")], [make_row(0, id="é", openai=OpenAIForm(model="m"))]], dataset_rows=1)
    write_success(run_dir)
    assert collect(run_dir, tmp_path / "out.jsonl").duplicates == 1


@pytest.mark.parametrize("change", [{"id": "other"}, {"fingerprint": "f" * 16}])
def test_one_index_with_two_ids_or_fingerprints_is_refused(run_dir, tmp_path, change):
    write_shard(run_dir, [[make_row(1), make_row(0)], [make_row(0, **change)]], dataset_rows=2)
    write_success(run_dir)
    with pytest.raises(ResultsError, match="row 0 is there twice and differs") as caught:
        collect(run_dir, tmp_path / "out.jsonl")
    assert "part-00000-of-00001.jsonl line 2: id 'row-0', fingerprint 0000000000000000" in str(caught.value)
    assert f"part-00000-of-00001-00001.jsonl line 1: id {change.get('id', 'row-0')!r}" in str(caught.value)
    assert "two runs" in caught.value.remedy
    assert names(tmp_path) == ["nightly"]


def test_error_rows_go_beside_the_output_or_where_they_are_wanted(run_dir, tmp_path):
    write_run(run_dir, 6, shards=2, errors={1, 4})
    wanted = b"".join(encode_error(make_error(index)) for index in (1, 4))
    done = collect(run_dir, tmp_path / "out.jsonl")
    assert (tmp_path / "out.errors.jsonl").read_bytes() == wanted
    assert ("2 errors", tmp_path / "out.errors.jsonl") in done.written
    collect(run_dir, io.BytesIO(), errors=tmp_path / "mine.jsonl")
    assert (tmp_path / "mine.jsonl").read_bytes() == wanted


def test_errors_of_an_earlier_collect_do_not_stay_beside_rows_without_any(run_dir, tmp_path):
    write_run(run_dir, 3)
    (tmp_path / "out.errors.jsonl").write_text("old")
    collect(run_dir, tmp_path / "out.jsonl")
    assert names(tmp_path) == ["nightly", "out.jsonl"]


def test_a_wanted_errors_file_is_there_even_if_empty(run_dir, tmp_path):
    write_run(run_dir, 3)
    collect(run_dir, tmp_path / "out.jsonl", errors=tmp_path / "errors.jsonl")
    assert (tmp_path / "errors.jsonl").read_bytes() == b""


def test_only_errors_make_an_empty_output(run_dir, tmp_path):
    write_run(run_dir, 3, errors={0, 1, 2})
    done = collect(run_dir, tmp_path / "out.jsonl")
    assert (done.complete, done.results, done.errors) == (True, 0, {"invalid_json": 3})
    assert (tmp_path / "out.jsonl").read_bytes() == b""


def test_more_shards_than_rows_leave_empty_files_that_need_not_be_published(run_dir, tmp_path):
    write_run(run_dir, 2, shards=4)
    (run_dir / ShardFile("part", 3, 4).name).unlink()
    assert collect(run_dir, tmp_path / "out.jsonl").complete


def test_gaps_make_a_run_incomplete_whatever_its_manifests_say(run_dir, tmp_path):
    write_shard(run_dir, [[make_row(index) for index in (0, 3, 4, 9)], [make_row(0)] * 6], dataset_rows=10)
    write_success(run_dir)
    stream = io.BytesIO()
    done = collect(run_dir, stream)
    assert (done.complete, done.missing, done.first_missing) == (False, 6, (1, 2, 5, 6, 7))
    assert (done.results, done.duplicates, done.written) == (4, 6, ())
    assert stream.getvalue() == b""
    assert not collect(run_dir, tmp_path / "out.jsonl").written
    assert names(tmp_path) == ["nightly"]
    assert collect(run_dir, tmp_path / "out.jsonl", partial=True).written
    assert indices(tmp_path / "out.jsonl") == [0, 3, 4, 9]


def test_missing_rows_are_written_without_a_result_when_only_they_are_wanted(run_dir, tmp_path):
    write_shard(run_dir, [[make_row(1)]], dataset_rows=4)
    write_success(run_dir)
    done = collect(run_dir, tmp_path / "out.jsonl", missing=tmp_path / "missing.jsonl")
    assert [json.loads(line) for line in (tmp_path / "missing.jsonl").read_text().splitlines()] == [
        {"index": 0},
        {"index": 2},
        {"index": 3},
    ]
    assert done.written == (("3 missing rows", tmp_path / "missing.jsonl"),)
    assert names(tmp_path) == ["missing.jsonl", "nightly"]


def test_missing_rows_get_their_ids_from_whoever_knows_them(run_dir, tmp_path):
    write_shard(run_dir, [[make_row(1)]], dataset_rows=3, complete=False)
    seen = []

    def name_rows(identity, wanted):
        seen.append(identity)
        for index in wanted:
            yield index, None if index == 2 else f"id \ud800 {index}"

    collect(run_dir, tmp_path / "o.jsonl", missing=tmp_path / "missing.jsonl", partial=True, name_rows=name_rows)
    assert (tmp_path / "missing.jsonl").read_bytes() == b'{"index": 0, "id": "id \\ud800 0"}\n{"index": 2}\n'
    assert seen == [IDENTITY]


class TestIncomplete:
    def test_is_told_from_the_manifests_alone_and_nothing_is_written(self, run_dir, tmp_path):
        write_shard(run_dir, [[make_row(0), make_row(3)]], shard=0, shards=3, dataset_rows=10)
        write_shard(run_dir, [[make_row(1)]], [[make_error(4)]], shard=1, shards=3, complete=False)
        write_rows(run_dir, ShardFile("part", 2, 3), [make_row(2)])
        done = collect(run_dir, tmp_path / "out.jsonl")
        size = len(encode_result(make_row(2)))
        assert done.unfinished == (
            "shard 00000-of-00003: its manifest says complete, with 2 of 4 rows",
            "shard 00001-of-00003: 2 of 3 rows have ended",
            f"shard 00002-of-00003: no manifest; 1 file with {size} bytes is there for its 3 rows",
        )
        assert (done.complete, done.read, done.results, done.errors) == (False, False, 3, {"invalid_json": 1})
        assert names(tmp_path) == ["nightly"]

    def test_is_taken_with_partial_torn_lines_left_out(self, run_dir, tmp_path):
        write_shard(run_dir, [[make_row(2), make_row(0)]], shard=0, shards=2, dataset_rows=6)
        write_rows(run_dir, ShardFile("part", 1, 2), [make_row(3)])
        newest = run_dir / ShardFile("part", 1, 2, 1).name
        write_rows(run_dir, ShardFile("part", 1, 2, 1), [make_row(1), make_row(3, text="twice")])
        newest.write_bytes(newest.read_bytes() + encode_result(make_row(5))[:-1])
        done = collect(run_dir, tmp_path / "out.jsonl", partial=True, missing=tmp_path / "missing.jsonl")
        assert indices(tmp_path / "out.jsonl") == [0, 1, 2, 3]
        assert indices(tmp_path / "missing.jsonl") == [4, 5]
        assert (done.torn, done.unlisted, done.duplicates, done.missing) == (1, 2, 1, 2)

    def test_a_run_that_was_cut_anywhere_gives_its_whole_rows(self, run_dir, tmp_path):
        rows = [make_row(index) for index in range(3)]
        write_rows(run_dir, ShardFile("part", 0, 1), rows)
        path = run_dir / ShardFile("part", 0, 1).name
        data = path.read_bytes()
        for cut in range(0, len(data) + 1, 7):
            path.write_bytes(data[:cut])
            collect(run_dir, tmp_path / "out.jsonl", partial=True)
            assert (tmp_path / "out.jsonl").read_bytes() == data[:cut][: data[:cut].rfind(b"\n") + 1]

    def test_a_damaged_line_before_good_ones_is_refused_even_with_partial(self, run_dir, tmp_path):
        write_rows(run_dir, ShardFile("part", 0, 1), [make_row(0), make_row(1)])
        path = run_dir / ShardFile("part", 0, 1).name
        path.write_bytes(b"\0" * 10 + path.read_bytes()[10:])
        with pytest.raises(ResultsError, match="line 1 is damaged, and good lines follow it"):
            collect(run_dir, tmp_path / "out.jsonl", partial=True)

    def test_files_that_the_manifest_does_not_list_yet_are_taken_with_partial_only(self, run_dir, tmp_path):
        write_shard(run_dir, [[make_row(0)]], dataset_rows=2, complete=False)
        write_rows(run_dir, ShardFile("part", 0, 1, 1), [make_row(1)])
        done = collect(run_dir, tmp_path / "out.jsonl")
        assert "does not list part-00000-of-00001-00001.jsonl" in done.unfinished[-1]
        collect(run_dir, tmp_path / "out.jsonl", partial=True)
        assert indices(tmp_path / "out.jsonl") == [0, 1]

    def test_without_success_the_run_has_not_said_that_it_is_complete(self, run_dir, tmp_path):
        write_run(run_dir, 3)
        (run_dir / "_SUCCESS").unlink()
        done = collect(run_dir, tmp_path / "out.jsonl")
        assert done.unfinished == ("_SUCCESS is not there: the run has not said that it is complete",)
        assert not done.written

    def test_a_run_that_has_only_begun_has_no_rows(self, run_dir, tmp_path):
        finish_run(run_dir, complete=False)
        done = collect(run_dir, tmp_path / "out.jsonl", partial=True)
        assert (done.rows, done.missing, done.complete) == (0, 0, False)
        assert (tmp_path / "out.jsonl").read_bytes() == b""


class TestOutput:
    def test_is_replaced_in_one_step_and_kept_where_anything_is_wrong(self, run_dir, tmp_path):
        write_run(run_dir, 3)
        out = tmp_path / "out.jsonl"
        out.write_text("old")
        part = run_dir / ShardFile("part", 0, 1).name
        data = part.read_bytes()
        part.write_bytes(data[:-5] + b'0"}\n ')
        with pytest.raises(ResultsError):
            collect(run_dir, out)
        assert out.read_text() == "old"
        part.write_bytes(data)
        collect(run_dir, out)
        assert indices(out) == [0, 1, 2]

    def test_through_a_link_goes_to_what_the_link_names(self, run_dir, tmp_path):
        write_run(run_dir, 3)
        (tmp_path / "real.jsonl").write_text("old")
        (tmp_path / "link.jsonl").symlink_to(tmp_path / "real.jsonl")
        collect(run_dir, tmp_path / "link.jsonl")
        assert indices(tmp_path / "real.jsonl") == [0, 1, 2]
        assert (tmp_path / "link.jsonl").is_symlink()

    def test_to_a_device_is_written_not_replaced(self, run_dir, tmp_path):
        write_run(run_dir, 3)
        os.mkfifo(tmp_path / "pipe")
        reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
        collect(run_dir, tmp_path / "pipe")
        assert os.read(reader, 100_000).count(b"\n") == 3
        os.close(reader)
        assert names(tmp_path) == ["nightly", "pipe"]

    @pytest.mark.parametrize("where", ["nightly", "nowhere/out.jsonl", "nightly/_SUCCESS/out.jsonl"])
    def test_that_cannot_be_written_is_one_error_that_names_it(self, run_dir, tmp_path, where):
        write_run(run_dir, 3)
        with pytest.raises(ResultsError, match="cannot write") as caught:
            collect(run_dir, tmp_path / where)
        assert caught.value.remedy
        assert names(tmp_path) == ["nightly"]

    def test_never_replaces_a_file_of_the_run_or_another_output(self, run_dir, tmp_path):
        write_run(run_dir, 3)
        before = names(run_dir)
        for name in (ShardFile("part", 0, 1).name, "_SUCCESS", "report.html"):
            with pytest.raises(ResultsError, match="a file of the run itself"):
                collect(run_dir, run_dir / name)
        with pytest.raises(ResultsError, match="two outputs"):
            collect(run_dir, tmp_path / "x", missing=tmp_path / "." / "x")
        assert names(run_dir) == before

    def test_in_a_full_place_is_one_error_and_leaves_nothing(self, run_dir, tmp_path, monkeypatch):
        write_run(run_dir, 3)
        monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(ResultsError, match="No space left on device") as caught:
            collect(run_dir, tmp_path / "out.jsonl")
        assert "free space" in caught.value.remedy
        assert names(tmp_path) == ["nightly"]


@pytest.mark.slow
@given(any_results)
def test_the_index_and_the_key_of_any_result_are_found_as_a_full_reading_finds_them(row):
    line = encode_result(row)[:-1]
    assert index_of(line) == row.index
    assert key_of(line) == (row.id, row.fingerprint)
    assert is_openai(line) == (row.openai is not None)


@pytest.mark.slow
@given(any_errors)
def test_the_index_and_the_code_of_any_error_are_found_as_a_full_reading_finds_them(row):
    line = encode_error(row)[:-1]
    assert index_of(line) == row.index
    assert error_code(line) == row.code
    assert is_openai(line) == (row.openai is not None)


TRAPS = [
    '", "index": 7, "',
    '{"id": "x", "index": 7, "',
    '\\", "index": 7, "',
    ', "specbatch": {"index": 7, "',
    "\\",
    '\\\\"',
]


@given(
    st.lists(st.sampled_from(TRAPS), max_size=4).map("".join), st.lists(st.sampled_from(TRAPS), max_size=4).map("".join)
)
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_no_text_passes_for_the_index(row_id, text):
    for form in (None, OpenAIForm(model=text)):
        for row in (make_row(3, id=row_id, text=text, prompt={text: [text]}, openai=form),):
            assert index_of(encode_result(row)) == 3
        assert index_of(encode_error(make_error(3, id=row_id, message=text, openai=form))) == 3


@pytest.mark.parametrize(
    "line", [b"", b"{}", b"[]", b"1", b'{"id": "a"}', b'{"index": true}', b'{"index": "1"}', b"[" * 100_000]
)
def test_what_has_no_index_is_a_value_error(line):
    for find in (index_of, key_of, error_code):
        with pytest.raises(ValueError, match=r"."):
            find(line)


def test_fields_in_another_order_are_found_too():
    assert index_of(b'{"index": 12, "fingerprint": "f", "id": "a"}') == 12
    assert key_of(b'{"fingerprint": "f", "index": 12, "id": "a"}') == ("a", "f")
