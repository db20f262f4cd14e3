import errno
import hashlib
import json
import os
import subprocess
from pathlib import Path

import pytest

from specbatch.errors import ResultsError
from specbatch.results.layout import SUCCESS
from specbatch.results.manifest import Manifest, read_manifests, write_manifest, write_success
from specbatch.results.shard.shard import ShardResults
from specbatch.results.timeline import Timeline
from tests.results.builders import IDENTITY, finish_run, make_error, make_row, make_summary

FILE = "manifest-00000-of-00001.json"


def test_the_manifest_has_the_sha256_bytes_and_rows_of_the_files_across_a_restart(run_dir):
    finish_run(run_dir, [make_row(0)], complete=False)
    finish_run(run_dir, [make_row(1), make_row(2)], [make_error(3)])
    entries = json.loads((run_dir / FILE).read_bytes())["files"]
    assert [(entry["name"][:6], entry["rows"]) for entry in entries] == [("part-0", 3), ("errors", 1)]
    for entry in entries:
        sums = subprocess.run(["sha256sum", entry["name"]], cwd=run_dir, capture_output=True, text=True, check=True)
        assert sums.stdout.split()[0] == entry["sha256"]
        assert (run_dir / entry["name"]).stat().st_size == entry["bytes"]


def test_the_manifest_comes_back_from_its_file(run_dir):
    made = finish_run(
        run_dir,
        [make_row(0)],
        spec={"decoding": {"maxNewTokens": 128}},
        versions={"torch": "2.13.0"},
        placement={"target": {"": "cpu"}},
        placement_tree="target: cpu",
        env={"TARGET_GPU": "cpu"},
    )
    assert read_manifests(run_dir) == (made,)


def test_the_manifest_says_what_follows_from_its_numbers(run_dir):
    finish_run(run_dir, [make_row(0)], [make_error(1)])
    value = json.loads((run_dir / FILE).read_bytes())
    assert value["rows"] == {"results": 1, "errors": 1, "skipped": 0, "other_models": 0, "dataset": None}
    assert value["throughput"]["tokens_per_second"] == pytest.approx(10 / 12.5)
    assert value["throughput"]["fraction_of_ceiling"] == pytest.approx(10 / 12.5 / 900)
    assert value["acceptance"]["acceptance_rate"] == pytest.approx(620 / 960)
    assert value["acceptance"]["accepted_by_position"] == [210, 170, 130, 110]
    assert value["k_changes"] == [[0, 4], [20, 3], [41, 4]]
    assert value["identity"]["models"]["target"] == "embedded:target@1"


def test_acceptance_that_was_not_counted_is_null(run_dir):
    with ShardResults.open(run_dir, identity=IDENTITY) as store:
        uncounted = make_summary(store, drafted=0, accepted=0)
    finish_run(run_dir, [make_row(0)], summary=uncounted)
    acceptance = json.loads((run_dir / FILE).read_bytes())["acceptance"]
    assert (acceptance["acceptance_rate"], acceptance["mean_acceptance_length"]) == (None, None)
    assert read_manifests(run_dir)[0].summary.acceptance_rate == 0.0


def test_success_is_written_once_every_shard_is_complete(run_dir):
    for shard in (0, 1, 2):
        assert not write_success(run_dir)
        with ShardResults.open(run_dir, shard=shard, shards=3, identity=IDENTITY) as store:
            store.write(make_row(shard))
            store.save_progress(make_summary(store), Timeline(), "done")
        fields = {
            "name": "nightly",
            "shard": shard,
            "shards": 3,
            "identity": IDENTITY,
            "files": store.files,
            "totals": store.totals,
            "attempts": store.attempts,
        }
        write_manifest(run_dir, Manifest(complete=False, **fields))
        assert not write_success(run_dir)
        write_manifest(run_dir, Manifest(complete=True, **fields))
    assert not (run_dir / SUCCESS).exists()
    assert write_success(run_dir)
    assert json.loads((run_dir / SUCCESS).read_bytes()) == {"shards": 3, "results": 3, "errors": 0}


def test_an_empty_directory_is_no_success(tmp_path):
    assert not write_success(tmp_path)
    assert not write_success(tmp_path / "missing")


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"name": 1}'])
def test_a_broken_manifest_is_an_error_with_a_remedy(tmp_path, content):
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(ResultsError, match=r"not a manifest[\s\S]*remedy: start the run again"):
        read_manifests(tmp_path)


def test_an_unreadable_manifest_is_an_error(tmp_path, monkeypatch):
    (tmp_path / FILE).touch()

    def fail(path):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(ResultsError, match=r"manifest-00000-of-\d+.json: cannot read the file: Input/output error"):
        read_manifests(tmp_path)


def test_the_manifest_of_an_empty_file_has_the_hash_of_nothing(run_dir):
    made = finish_run(run_dir)
    assert {entry.sha256 for entry in made.files} == {hashlib.sha256(b"").hexdigest()}
