"""collect from a real S3 server."""

import shutil
import threading

import pytest

from specbatch.errors import ResultsError
from specbatch.results.collect import row_files as collect_rows
from specbatch.results.collect.collect import collect
from specbatch.results.layout import ShardFile
from tests.results.collect_runs import indices, write_run
from tests.s3 import credentials

pytestmark = pytest.mark.slow
SOURCE = "s3://bucket/runs/nightly"


def publish(s3, run_dir):
    (s3.bucket() / "runs").mkdir()
    shutil.copytree(run_dir, s3.bucket() / "runs" / "nightly")


def test_a_thousand_parts_come_back_in_order(s3, run_dir, tmp_path):
    write_run(run_dir, 4000, shards=4, parts=250, errors={5})
    publish(s3, run_dir)
    done = collect(SOURCE, tmp_path / "out.jsonl")
    assert (done.complete, done.files, done.results) == (True, 1004, 3999)
    assert indices(tmp_path / "out.jsonl") == [index for index in range(4000) if index != 5]


def test_a_damaged_object_is_named_by_its_uri(s3, run_dir, tmp_path):
    write_run(run_dir, 50)
    part = run_dir / ShardFile("part", 0, 1).name
    part.write_bytes(part.read_bytes().replace(b"The", b"She", 1))
    publish(s3, run_dir)
    with pytest.raises(ResultsError, match=f"{SOURCE}/{part.name}: it is not what its manifest says"):
        collect(SOURCE, tmp_path / "out.jsonl")


def test_wrong_credentials_and_a_missing_bucket_are_errors_with_a_remedy(s3, run_dir, tmp_path, monkeypatch):
    with pytest.raises(ResultsError) as caught:
        collect("s3://nobody/runs/nightly", tmp_path / "out.jsonl")
    assert caught.value.remedy
    for name, value in credentials(s3.url, secret="wrong" * 4).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ResultsError, match="cannot list the folder") as caught:
        collect(SOURCE, tmp_path / "out.jsonl")
    assert caught.value.remedy


def test_a_server_that_is_killed_and_comes_back_costs_nothing(s3, run_dir, tmp_path, monkeypatch):
    write_run(run_dir, 3000, shards=2, parts=30)
    publish(s3, run_dir)
    real, reads = collect_rows.FileReader.read, []

    def read(reader):
        reads.append(reader)
        if len(reads) == 20:
            s3.kill()
            threading.Timer(0.5, s3.start).start()
        return real(reader)

    monkeypatch.setattr(collect_rows.FileReader, "read", read)
    assert collect(SOURCE, tmp_path / "out.jsonl").complete
    assert indices(tmp_path / "out.jsonl") == list(range(3000))


def test_a_server_that_stays_away_is_one_error_and_writes_nothing(s3, run_dir, tmp_path, monkeypatch):
    write_run(run_dir, 300, shards=2, parts=30)
    publish(s3, run_dir)
    monkeypatch.setattr(collect_rows.time, "sleep", lambda _: None)
    real, reads = collect_rows.FileReader.read, []

    def read(reader):
        reads.append(reader)
        if len(reads) == 20:
            s3.kill()
        return real(reader)

    monkeypatch.setattr(collect_rows.FileReader, "read", read)
    with pytest.raises(ResultsError, match=r"cannot (open|read) the file") as caught:
        collect(SOURCE, tmp_path / "out.jsonl")
    assert SOURCE in caught.value.where
    assert not (tmp_path / "out.jsonl").exists()
