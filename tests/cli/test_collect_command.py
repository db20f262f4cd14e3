"""`specbatch collect`: what people see, exit codes, standard output."""

import json
import os
import subprocess
import sys

import pyarrow.parquet
import pytest

from specbatch.api.decoding import DecodingSpec
from specbatch.cli.main import main
from specbatch.results.layout import ShardFile
from specbatch.results.manifest import write_success
from specbatch.runner.rows.row_reader import RowReader
from tests.cli.test_main import HEAVY, fresh
from tests.results.builders import IDENTITY, make_row
from tests.results.collect_runs import indices, write_rows, write_run, write_shard
from tests.runner.tiny import dataset_at, row_rules


@pytest.fixture
def run_dir(tmp_path):
    return tmp_path / "nightly"


def specbatch(*words, **options):
    words = [sys.executable, "-m", "specbatch", *map(str, words)]
    return subprocess.run(words, capture_output=True, check=False, timeout=120, **options)


def test_a_complete_run_is_0_and_the_summary_names_everything(run_dir, tmp_path, capsys):
    write_run(run_dir, 1200, shards=2, errors={7, 8})
    out = tmp_path / "out.jsonl"
    assert main(["collect", str(run_dir), "-o", str(out)]) == 0
    said = capsys.readouterr()
    size = sum(path.stat().st_size for path in run_dir.glob("*.jsonl"))
    assert said.out == ""
    assert said.err.splitlines() == [
        "nightly: 1,198 results and 2 errors of 1,200 rows",
        f"  read       4 files of 2 shards, {size:,} bytes, each as its manifest says",
        "  errors     invalid_json 2 (the line is not valid JSON)",
        f"  wrote      {out} (1,198 rows as jsonl)",
        f"  wrote      {tmp_path / 'out.errors.jsonl'} (2 errors)",
    ]
    assert len(indices(out)) == 1198


def test_an_incomplete_run_is_1_until_partial(run_dir, tmp_path, capsys):
    write_run(run_dir, 10, shards=2)
    (run_dir / ShardFile("manifest", 1, 2).name).unlink()
    out = tmp_path / "out.jsonl"
    assert main(["collect", str(run_dir), "-o", str(out)]) == 1
    said = capsys.readouterr().err
    assert "nightly: 5 results and 0 errors of 10 rows, not complete" in said
    assert "unfinished shard 00001-of-00002: no manifest; 2 files with" in said
    assert "run it to its end, or take what is there with --partial" in said
    assert not out.exists()
    assert main(["collect", str(run_dir), "-o", str(out), "--partial"]) == 0
    assert "2 without a manifest" in capsys.readouterr().err
    assert indices(out) == list(range(10))


def test_of_many_unfinished_shards_the_first_ten_are_shown(run_dir, capsys):
    for shard in range(13):
        write_shard(run_dir, [[]], shard=shard, shards=13, complete=False)
    assert main(["collect", str(run_dir)]) == 1
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "nightly: 0 results and 0 errors, not complete"
    assert said[10] == "  unfinished shard 00009-of-00013: 0 rows have ended"
    assert said[11] == "             and 3 more"


def test_gaps_and_duplicates_are_shown(run_dir, tmp_path, capsys):
    write_shard(run_dir, [[make_row(1), make_row(1)]], dataset_rows=9)
    write_success(run_dir)
    assert main(["collect", str(run_dir), "-o", str(tmp_path / "o"), "--missing", str(tmp_path / "missing.jsonl")]) == 1
    said = capsys.readouterr().err
    assert "  duplicates 1 removed\n" in said
    assert "  missing    8 rows; index 0, 2, 3, 4, 5, ...\n" in said
    assert f"  wrote      {tmp_path / 'missing.jsonl'} (8 missing rows)\n" in said


def test_damage_is_74_and_names_the_file(run_dir, tmp_path, capsys):
    write_run(run_dir, 10)
    part = run_dir / ShardFile("part", 0, 1).name
    part.write_bytes(part.read_bytes().replace(b"The", b"She", 1))
    assert main(["collect", str(run_dir), "-o", str(tmp_path / "o")]) == 74
    said = capsys.readouterr().err
    assert said.startswith(f"error: {part}: it is not what its manifest says:\n    expected ")
    assert "remedy: restore it" in said
    assert main(["collect", str(tmp_path / "nowhere")]) == 74


def test_missing_rows_are_named_from_the_dataset_as_the_run_named_them(run_dir, tmp_path, capsys):
    rows = tmp_path / "rows.jsonl"
    texts = [
        '{"id": "first", "prompt": "a"}',
        '{"prompt": "b"}',
        "",
        "{",
        '{"custom_id": 4, "prompt": "c"}',
        '{"prompt": "d"}',
    ]
    rows.write_text("\n".join(texts))
    dataset = dataset_at(rows, limit=4)
    reader = RowReader(row_rules(decoding=DecodingSpec()))
    ids = [reader.read(raw).id for raw in dataset.rows() if raw.index != 1]
    identity = type(IDENTITY)(
        spec_hash="a", dataset=dataset.fingerprint(), models={}, spec={"dataset": {"uri": str(rows), "limit": 4}}
    )
    write_shard(run_dir, [[make_row(1)]], dataset_rows=4, identity=identity)
    write_success(run_dir)
    words = ["collect", str(run_dir), "-o", str(tmp_path / "o"), "--missing", str(tmp_path / "missing.jsonl")]
    assert main(words) == 1
    assert [json.loads(line) for line in (tmp_path / "missing.jsonl").read_text().splitlines()] == [
        {"index": index, "id": name} for index, name in zip((0, 2, 3), ids, strict=True)
    ]
    assert (ids[0], ids[2]) == ("first", "4")
    assert "not known" not in capsys.readouterr().err

    rows.write_text("another dataset")
    assert main(words) == 1
    assert indices(tmp_path / "missing.jsonl") == [0, 2, 3]
    assert (
        f"ids of missing rows are not known: {rows} is not the dataset of that run any more" in capsys.readouterr().err
    )
    rows.unlink()
    assert main(words) == 1
    assert f"ids of missing rows are not known: {rows}: " in capsys.readouterr().err


def test_without_any_manifest_no_one_says_how_many_rows_are_missing(run_dir, tmp_path, capsys):
    write_rows(run_dir, ShardFile("part", 0, 1), [make_row(2)])
    missing = tmp_path / "missing.jsonl"
    assert main(["collect", str(run_dir), "-o", str(tmp_path / "o"), "--missing", str(missing), "--partial"]) == 0
    assert indices(missing) == [0, 1]
    said = capsys.readouterr().err
    assert "missing    at least 2 rows; index 0, 1\n" in said
    assert "ids of missing rows are not known: nothing there says which dataset it was" in said


@pytest.mark.slow
def test_standard_output_gets_rows_and_nothing_else(run_dir):
    write_run(run_dir, 5, errors={1})
    done = specbatch("collect", run_dir)
    assert done.returncode == 0
    assert [json.loads(line)["index"] for line in done.stdout.splitlines()] == [0, 2, 3, 4]
    assert b"wrote      standard output (4 rows as jsonl)" in done.stderr
    assert b"invalid_json 1" in done.stderr


@pytest.mark.slow
def test_standard_output_gets_nothing_of_a_damaged_run(run_dir):
    write_run(run_dir, 3000, shards=2)
    part = run_dir / ShardFile("part", 1, 2).name
    part.write_bytes(part.read_bytes()[:-3] + b'x"}')
    done = specbatch("collect", run_dir)
    assert (done.returncode, done.stdout) == (74, b"")


@pytest.mark.slow
def test_a_reader_that_goes_away_is_no_traceback_and_leaves_nothing(run_dir, tmp_path):
    write_run(run_dir, 5000)
    (tmp_path / "tmp").mkdir()
    words = f"{sys.executable} -m specbatch collect {run_dir} | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", words], capture_output=True, check=False, env={**os.environ, "TMPDIR": str(tmp_path / "tmp")}
    )
    assert json.loads(done.stdout)["index"] == 0
    assert (done.returncode, done.stderr) == (1, b"")
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.slow
def test_a_table_goes_through_a_pipe(run_dir, tmp_path):
    write_run(run_dir, 5)
    (tmp_path / "out.parquet").write_bytes(specbatch("collect", run_dir, "--format", "parquet").stdout)
    assert pyarrow.parquet.read_table(tmp_path / "out.parquet")["index"].to_pylist() == [0, 1, 2, 3, 4]


@pytest.mark.slow
def test_collecting_needs_no_torch_even_where_it_names_missing_rows(run_dir, tmp_path):
    uri = str(tmp_path / "rows.jsonl")
    (tmp_path / "rows.jsonl").write_text('{"id": "a", "prompt": "p"}\n')
    identity = type(IDENTITY)(
        spec_hash="a", dataset=dataset_at(uri).fingerprint(), models={}, spec={"dataset": {"uri": uri}}
    )
    write_shard(run_dir, [[]], dataset_rows=1, identity=identity)
    words = ["collect", str(run_dir), "-o", str(tmp_path / "o"), "--missing", str(tmp_path / "missing")]
    done = fresh(words, HEAVY | {"pyarrow", "zstandard"})
    assert done.returncode == 1, done.stderr
    assert json.loads((tmp_path / "missing").read_text()) == {"index": 0, "id": "a"}


def test_help_tells_the_exit_codes(capsys):
    assert main(["collect", "--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Example: specbatch collect results/nightly -o nightly.jsonl" in said
    assert "Exit codes: 0 complete, or --partial; 1 rows are missing" in said
