"""`specbatch reshard`: what people see, and the exit code."""

import random

import pytest

from specbatch.cli.main import main
from tests.results.builders import make_row
from tests.results.sharded_runs import open_shard, rows_in, run_all


@pytest.fixture
def run_dir(tmp_path):
    run_all(tmp_path / "nightly", 2, 0.5, random.Random(0))
    return tmp_path / "nightly"


def test_it_says_what_moved_and_how_to_go_on_and_then_that_nothing_is_left_to_do(run_dir, capsys):
    rows = len(rows_in(run_dir))
    assert main(["reshard", str(run_dir), "--completions", "3"]) == 0
    said = f"{run_dir}: {rows} rows moved from 2 shards to 3; go on with job.completions: 3\n"
    assert capsys.readouterr().out == said
    assert main(["reshard", str(run_dir), "--completions", "3"]) == 0
    assert capsys.readouterr().out == f"{run_dir} has 3 shards\n"


def test_it_says_that_it_has_ended_what_a_killed_reshard_began(run_dir, capsys):
    (run_dir / "part-00000-of-00005.jsonl").touch()
    assert main(["reshard", str(run_dir), "--completions", "2"]) == 0
    assert capsys.readouterr().out == f"{run_dir} has 2 shards: 1 file of another split removed\n"


@pytest.mark.slow
def test_a_run_that_is_written_a_folder_without_a_run_and_no_number_are_refused(run_dir, capsys):
    with open_shard(run_dir, 1, 2) as store:
        store.write(make_row(1))
        assert main(["reshard", str(run_dir), "--completions", "3"]) == 74
    assert "another process is writing shard 1 of this run" in capsys.readouterr().err
    assert main(["reshard", str(run_dir.parent), "--completions", "3"]) == 74
    assert "no run is there" in capsys.readouterr().err
    assert main(["reshard", str(run_dir)]) == 2
