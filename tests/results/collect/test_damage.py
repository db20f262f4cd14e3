"""collect believes nothing that the manifests do not vouch for: every kind of damage is one error that names the file."""

import hashlib
import uuid

import pytest

from specbatch.errors import ExitCode, ResultsError
from specbatch.results.collect import row_files as collect_rows
from specbatch.results.collect.collect import collect
from specbatch.results.identity import Identity
from specbatch.results.layout import ShardFile
from specbatch.results.manifest import write_success
from specbatch.results.storage.folder import Folder
from specbatch.results.wire import encode_result
from tests.results.builders import IDENTITY, make_row
from tests.results.collect_runs import change_manifest, indices, write_rows, write_run, write_shard

PART = ShardFile("part", 1, 2).name


@pytest.fixture
def part(run_dir):
    write_run(run_dir, 20, shards=2, errors={3})
    return run_dir / PART


def refused(run_dir, tmp_path, match):
    """Collecting is refused, with --partial too, and nothing is written."""
    for partial in (False, True):
        with pytest.raises(ResultsError, match=match) as caught:
            collect(run_dir, tmp_path / "out.jsonl", partial=partial)
        assert caught.value.remedy
        assert caught.value.exit_code == ExitCode.RESULTS_NOT_WRITTEN
        assert [path.name for path in tmp_path.iterdir()] == ["nightly"]
    return str(caught.value)


def test_every_flipped_byte_is_found(part, run_dir, tmp_path):
    data = part.read_bytes()
    for at in range(0, len(data), 13):
        part.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises(ResultsError, match=f"{PART}: it is not what its manifest says"):
            collect(run_dir, tmp_path / "out.jsonl")


def test_a_flipped_byte_is_told_with_both_hashes(part, run_dir, tmp_path):
    data = part.read_bytes()
    part.write_bytes(data.replace(b"The", b"She", 1))
    said = refused(run_dir, tmp_path, "not what its manifest says")
    assert f"expected {len(data):,} bytes, 9 rows, sha256 " in said
    assert f"found    {len(data):,} bytes, 9 rows, sha256 " in said
    assert "delete it and its shard's manifest and start the run again" in said


def test_a_cut_or_longer_file_is_found_before_anything_is_read(part, run_dir, tmp_path, monkeypatch):
    data = part.read_bytes()
    monkeypatch.setattr(Folder, "open", None)
    for changed in (data[:-1], data[: len(data) // 2], data + b"\n", data + encode_result(make_row(21))):
        part.write_bytes(changed)
        refused(run_dir, tmp_path, f"{PART}: it has {len(changed):,} bytes, and its manifest says {len(data):,}")


def test_a_line_more_of_the_same_length_is_found(part, run_dir, tmp_path):
    data = part.read_bytes()
    part.write_bytes(data[:-40] + b"\n" + data[-39:])
    refused(run_dir, tmp_path, r"expected .* 9 rows(.|\n)*found .* 10 rows")


def test_a_wrong_row_count_in_the_manifest_is_found(part, run_dir, tmp_path):
    change_manifest(run_dir, lambda value: value["files"][0].update(rows=8), 1, 2)
    refused(run_dir, tmp_path, r"expected .* 8 rows(.|\n)*found .* 9 rows")


def test_a_missing_file_is_named(part, run_dir, tmp_path):
    part.unlink()
    refused(run_dir, tmp_path, f"{PART}: the file is missing: its manifest lists it with 9 rows")


def forge(run_dir, data):
    """A run whose manifest vouches for a file with this content."""
    write_shard(run_dir, [[make_row(0)]], dataset_rows=1)
    (run_dir / ShardFile("part", 0, 1).name).write_bytes(data)
    entry = {"bytes": len(data), "rows": data.count(b"\n"), "sha256": hashlib.sha256(data).hexdigest()}
    change_manifest(run_dir, lambda value: value["files"][0].update(entry))
    write_success(run_dir)


def test_a_line_that_is_no_row_is_named_though_the_hash_is_right(run_dir, tmp_path):
    forge(run_dir, b'{"id": 1}\n')
    refused(run_dir, tmp_path, "line 1 is not a row, though the sha256 is as in the manifest")


def test_a_row_that_is_there_twice_without_a_fingerprint_is_refused(run_dir, tmp_path):
    forge(run_dir, encode_result(make_row(0)) + b'{"index": 0}\n')
    refused(run_dir, tmp_path, "line 1 and part-00000-of-00001.jsonl line 2, and one of them is no whole row")


def test_no_run_is_told_with_what_to_name(tmp_path):
    for place in (tmp_path, tmp_path / "nowhere", f"memory://{uuid.uuid4().hex}/none"):
        with pytest.raises(ResultsError, match="no run is there") as caught:
            collect(place, tmp_path / "out.jsonl")
        assert "<results.dir>/<metadata.name>" in caught.value.remedy


def test_manifests_of_two_runs_are_refused_with_what_differs(part, run_dir, tmp_path):
    other = Identity(
        spec_hash="b" * 64, dataset=IDENTITY.dataset, models=IDENTITY.models, spec={"decoding": {"maxNewTokens": 64}}
    )
    change_manifest(run_dir, lambda value: value.update(identity=other.to_json()), 1, 2)
    said = refused(
        run_dir, tmp_path, "manifest-00000-of-00002.json and manifest-00001-of-00002.json belong to different"
    )
    assert "decoding.maxNewTokens: 128 -> 64" in said


def test_a_shard_without_a_manifest_must_be_of_the_same_run_too(run_dir, tmp_path):
    write_shard(run_dir, [[make_row(0)]], shard=0, shards=2)
    write_rows(run_dir, ShardFile("part", 1, 2), [make_row(1)])
    name = ShardFile("identity", 1, 2).name
    Folder(run_dir).write(name, b'{"spec_hash": "c", "dataset": "d", "models": {}, "spec": {}}')
    refused(run_dir, tmp_path, f"manifest-00000-of-00002.json and {name} belong to different runs")
    Folder(run_dir).write(name, b"[]")
    refused(run_dir, tmp_path, "not an identity file")


def test_runs_of_two_splits_in_one_folder_are_refused(part, run_dir, tmp_path):
    write_rows(run_dir, ShardFile("part", 0, 3), [])
    refused(run_dir, tmp_path, "runs split into 2, 3 shards")


def test_a_renamed_manifest_is_refused(part, run_dir, tmp_path):
    source, target = (run_dir / ShardFile("manifest", shard, 2).name for shard in (0, 1))
    target.write_bytes(source.read_bytes())
    refused(run_dir, tmp_path, "the manifest of another shard")


def test_a_manifest_that_is_none_or_lists_files_of_others_is_refused(part, run_dir, tmp_path):
    change_manifest(run_dir, lambda value: value["files"][0].update(name="part-00000-of-00002.jsonl"), 1, 2)
    refused(run_dir, tmp_path, "lists 'part-00000-of-00002.jsonl', which is no file of its shard")
    (run_dir / ShardFile("manifest", 1, 2).name).write_text("{")
    refused(run_dir, tmp_path, "not a manifest")


def test_manifests_that_disagree_on_the_dataset_are_refused(part, run_dir, tmp_path):
    change_manifest(run_dir, lambda value: value["rows"].update(dataset=21), 1, 2)
    refused(run_dir, tmp_path, "disagree on the rows of the dataset: 20, 21")


@pytest.mark.parametrize(("index", "why"), [(1, "it belongs to shard 1"), (22, "the dataset has 4 rows")])
def test_a_row_that_cannot_be_of_that_shard_is_refused(run_dir, tmp_path, index, why):
    write_shard(run_dir, [[make_row(index), make_row(0)]], shard=0, shards=2, dataset_rows=4)
    write_shard(run_dir, [[make_row(1), make_row(3)]], shard=1, shards=2, dataset_rows=4)
    write_success(run_dir)
    refused(run_dir, tmp_path, f"row {index} is no row of this shard: {why}")


def test_a_read_that_breaks_off_goes_on_where_it_was(run_dir, tmp_path, monkeypatch):
    rows = [make_row(index, text="x" * 300_000) for index in range(20)]
    write_shard(run_dir, [rows], dataset_rows=20)
    write_success(run_dir)
    monkeypatch.setattr(collect_rows.time, "sleep", lambda _: None)
    monkeypatch.setattr(Folder, "open", flaky(Folder.open, good_reads=2))
    assert collect(run_dir, tmp_path / "out.jsonl").complete
    assert indices(tmp_path / "out.jsonl") == list(range(20))


def test_a_store_that_stays_away_is_one_error(part, run_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(collect_rows.time, "sleep", lambda _: None)
    monkeypatch.setattr(Folder, "open", flaky(Folder.open, good_reads=0))
    refused(run_dir, tmp_path, "cannot read the file: Connection was closed")


def flaky(real, good_reads):
    """Streams that break after so many reads."""

    def opened(folder, name):
        stream, left = real(folder, name), [good_reads]
        read = stream.read

        class Breaking:
            def __enter__(self):
                return self

            def __exit__(self, *_):
                stream.close()

            def seek(self, offset):
                stream.seek(offset)

            def read(self, size):
                left[0] -= 1
                if left[0] < 0:
                    raise RuntimeError("Connection\n was closed")
                return read(size)

        return Breaking()

    return opened
