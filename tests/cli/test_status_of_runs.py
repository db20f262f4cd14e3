"""status, report and compare of real runs of the tiny pair: what the runner leaves is what they read."""

import json

import pytest

from specbatch.cli.main import main
from tests.runner.tiny import byte_level_tokenizer, save_model, spec_text, write_rows

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder, tokenizer = tmp_path_factory.mktemp("pair"), byte_level_tokenizer()
    return (
        save_model(folder / "target", tokenizer, layers=2, seed=1),
        save_model(folder / "drafter", tokenizer, layers=1, seed=2),
    )


@pytest.fixture
def spec(tmp_path, pair):
    rows = write_rows(tmp_path / "rows.jsonl", [{"prompt": f"hello {number}"} for number in range(6)] + [b"{broken"])
    file = tmp_path / "spec.yaml"
    file.write_text(spec_text(pair, rows, tmp_path / "results"))
    return str(file)


def status_of(run_dir, capsys):
    capsys.readouterr()
    assert main(["status", str(run_dir), "-o", "json"]) == 0
    return json.loads(capsys.readouterr().out)["shards"][0]


def test_a_run_that_fails_says_why_and_the_next_one_completes_it(spec, tmp_path, capsys):
    run_dir = tmp_path / "results" / "tiny"
    assert main(["run", spec, "-q", "--set", "dataset.errorBudget=0"]) == 65
    failed = status_of(run_dir, capsys)
    assert failed["verdict"] == "failed"
    assert "errorBudget" in failed["sentence"]
    assert main(["run", spec, "-q", "--set", "dataset.errorBudget=1"]) == 0
    done = status_of(run_dir, capsys)
    assert (done["verdict"], done["rows"], done["total_rows"], done["errors"]) == ("complete", 7, 7, 1)
    assert [attempt["outcome"] for attempt in done["attempts"]] == ["failed", "done"]
    assert done["phase_seconds"]["verify"] > 0
    assert done["publish"] is None


def test_runs_with_and_without_a_drafter_have_the_same_text(spec, tmp_path, capsys):
    alone = ["--set", "drafter=null", "--set", "decoding.numSpeculativeTokens=auto"]
    assert main(["run", spec, "-q", "--set", "metadata.name=with"]) == 0
    assert main(["run", spec, "-q", "--set", "metadata.name=without", *alone]) == 0
    capsys.readouterr()
    runs = [str(tmp_path / "results" / name) for name in ("without", "with")]
    assert main(["compare", *runs, "-o", "json"]) == 0
    alone, drafted = json.loads(capsys.readouterr().out)["runs"]
    assert (alone["method"], drafted["method"], drafted["k"], drafted["device"]) == ("target alone", "model", 2, "cpu")
    assert drafted["texts"] == {"both": 6, "same": 6, "share": 1.0}
    assert drafted["mean k"] > 1
