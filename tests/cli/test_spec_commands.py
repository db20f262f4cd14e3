from __future__ import annotations

import json
import shlex

import pytest

from specbatch.cli.main import main
from tests.api.specs import MINIMUM


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(MINIMUM)
    return path


def test_brackets_in_paths_and_messages_are_shown_as_they_are(file, capsys):
    assert main(["validate", str(file), "--set", "target.model=[red]"]) == 65
    assert "[red]: there is no such folder" in capsys.readouterr().err
    assert main(["validate", str(file), "--set", "[red]=1"]) == 64
    assert "--set [red]: is not a path" in capsys.readouterr().err


def test_explain_shows_a_field(capsys):
    assert main(["explain", "spec.placement.gpus"]) == 0
    assert "number of GPUs in one pod" in capsys.readouterr().out
    assert main(["explain"]) == 0
    assert "apiVersion" in capsys.readouterr().out
    assert main(["explain", "-r", "spec"]) == 0
    assert "cpuThreads" in capsys.readouterr().out


def test_explain_of_an_unknown_path_names_the_nearest(capsys):
    assert main(["explain", "spec.placment"]) == 64
    assert "did you mean spec.placement?" in capsys.readouterr().err
    assert main(["explain", "tensor_parallel_size"]) == 64
    assert "there is no tensor parallelism" in capsys.readouterr().err


def test_schema_is_json(capsys):
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "SpecBatchJob"


@pytest.mark.slow
def test_init_writes_a_spec_and_prompts_that_run_and_that_submit_takes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "some where").mkdir()
    for file in ("my-job.yaml", "some where/Ünï_1.yaml"):
        assert main(["init", file]) == 0
        assert f"next: specbatch run {shlex.quote(file)};" in capsys.readouterr().out
        assert main(["validate", file]) == 0
        assert main(["submit", file, "--dry-run=client"]) == 0
    assert "it would be Job uni-1-" in capsys.readouterr().out


@pytest.mark.slow
def test_the_first_prompts_are_answered_rightly(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["init"]) == 0
    assert main(["run", "my-job.yaml"]) == 0
    assert "embedded:target is there to try specbatch" in capsys.readouterr().out
    text = (tmp_path / "results/my-job/part-00000-of-00001.jsonl").read_text()
    rows = sorted(map(json.loads, text.splitlines()), key=lambda row: row["index"])
    assert [row["text"] for row in rows] == [
        "The sorted numbers are: 78, 76, 35.",
        "30 litres are 30000 millilitres.",
        '{"job": "baker", "city": "Edinburgh", "name": "Matilda", "hobby": "dancing"}',
        "The animals in the list are: octopus, hamster.",
        "Benjamin lives in Reykjavik, works as a carpenter and likes cycling.",
    ]


def test_init_leaves_prompts_that_are_there(tmp_path, capsys):
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("mine")
    assert main(["init", str(tmp_path / "a.yaml"), "--force"]) == 0
    assert "is there already, and its prompts are the dataset" in capsys.readouterr().out
    assert prompts.read_text() == "mine"


def test_init_overwrites_only_by_force(file, capsys):
    assert main(["init", str(file)]) == 64
    assert "exists already\n  remedy: give another name, or --force" in capsys.readouterr().err
    assert file.read_text() == MINIMUM
    assert main(["init", str(file), "--force"]) == 0
    assert file.read_text() != MINIMUM


def test_init_says_why_it_cannot_write(tmp_path, capsys):
    assert main(["init", str(tmp_path / "nowhere" / "a.yaml")]) == 64
    assert (
        "cannot be written: No such file or directory\n  remedy: make its folder first: mkdir -p "
        in capsys.readouterr().err
    )
