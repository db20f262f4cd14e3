import json

import pytest

from specbatch.cli.main import main
from tests.results.builders import finish_run, make_row


@pytest.fixture
def runs(tmp_path):
    for name in ("a", "b"):
        finish_run(tmp_path / name, [make_row(0), make_row(1, text=name)])
    return [str(tmp_path / name) for name in ("a", "b")]


def test_compare_counts_the_rows_with_the_same_text(runs, capsys):
    assert main(["compare", *runs]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split() == [
        "same",
        "text",
        "as",
        "first",
        "all",
        "2",
        "1",
        "of",
        "2",
    ]
    assert main(["compare", *runs, "--no-texts"]) == 0
    assert "same text" not in capsys.readouterr().out


def test_compare_has_four_outputs(runs, capsys):
    said = {}
    for output in ("text", "markdown", "csv", "json"):
        assert main(["compare", *runs, "-o", output, "--all"]) == 0
        said[output] = capsys.readouterr().out
    assert said["markdown"].startswith("| run | a | b |")
    assert said["csv"].startswith("run,where,state")
    assert len(said["csv"].splitlines()) == 3
    assert json.loads(said["json"])["runs"][1]["texts"]["same"] == 1


def test_one_that_is_no_run_is_74(runs, tmp_path, capsys):
    assert main(["compare", *runs, str(tmp_path / "none")]) == 74
    assert "no run is there" in capsys.readouterr().err
