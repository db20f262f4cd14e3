import json
import re

import pytest

from specbatch.cli.main import main
from specbatch.results.manifest import read_manifests
from tests.runner.tiny import byte_level_tokenizer, save_model, spec_text, write_rows


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder, tokenizer = tmp_path_factory.mktemp("pair"), byte_level_tokenizer()
    return (
        save_model(folder / "target", tokenizer, layers=2, seed=1),
        save_model(folder / "drafter", tokenizer, layers=1, seed=2),
    )


@pytest.fixture
def results(tmp_path, pair, capsys):
    rows = write_rows(
        tmp_path / "rows.jsonl", [{"id": f"r{number}", "prompt": f"hello {number}"} for number in range(8)]
    )
    file = tmp_path / "spec.yaml"
    file.write_text(spec_text(pair, rows, tmp_path / "results"))
    assert main(["run", str(file), "--quiet"]) == 0
    capsys.readouterr()
    return tmp_path / "results" / "tiny"


def tamper(results):
    path = results / "part-00000-of-00001.jsonl"
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    for line in lines[1:]:
        line["text"] = lines[0]["text"]
    path.write_bytes(b"".join(json.dumps(line).encode() + b"\n" for line in lines))


@pytest.mark.slow
def test_an_honest_run_ends_with_0_and_a_verdict(results, capsys):
    assert main(["verify", str(results), "--sample", "5"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("tiny\n  sample        5 of 8 finished rows (seed 0)\n")
    assert re.search(r"\n  speed-up      \d+\.\d\dx the target alone \(measured on 5 rows\)\n", said.out)
    assert main(["status", str(results)]) == 0
    assert "x the target alone (measured on 5 rows)" in " ".join(capsys.readouterr().out.split())
    assert "5 exact, 0 ties, 0 unexplained" in said.out
    assert said.out.endswith("exactly what the target alone gives: every one of 5 rows\n")
    assert "decoding 5 rows with the target alone" in said.err


@pytest.mark.slow
def test_unexplained_rows_end_with_1_and_the_first_are_shown(results, capsys):
    tamper(results)
    assert main(["verify", str(results), "--quiet"]) == 1
    said = capsys.readouterr()
    assert said.err == ""
    assert "7 of 8 rows cannot be explained" in said.out
    assert said.out.count("(index ") == 5
    assert "and 2 more" in said.out
    assert read_manifests(results)[0].verification["unexplained"] == 7


@pytest.mark.slow
def test_json_output_is_what_the_manifest_holds(results, capsys):
    assert main(["verify", str(results), "--output", "json", "--sample", "3", "--seed", "4", "--gpus", "0"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == read_manifests(results)[0].verification
    assert (said["sampled"], said["seed"], said["exact"]) == (3, 4, 3)


@pytest.mark.slow
def test_faults_end_with_their_codes(results, tmp_path, capsys):
    assert main(["verify", str(tmp_path / "nothing")]) == 74
    assert "no manifest" in capsys.readouterr().err
    assert main(["verify", str(results), "--set", "decoding.seed=4"]) == 64
    assert "spec.decoding.seed" in capsys.readouterr().err.replace("--set decoding", "spec.decoding")
    assert main(["verify", str(results), "--set", f"target.model={tmp_path}/none"]) == 66
    (tmp_path / "rows.jsonl").unlink()
    assert main(["verify", str(results)]) == 65
    assert main(["verify", str(results), "--sample", "0"]) == 2
