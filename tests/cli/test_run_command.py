import json

import pytest

from specbatch.cli.main import main
from tests.runner.tiny import byte_level_tokenizer, read_lines, save_model, spec_text, write_rows


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder, tokenizer = tmp_path_factory.mktemp("pair"), byte_level_tokenizer()
    return (
        save_model(folder / "target", tokenizer, layers=2, seed=1),
        save_model(folder / "drafter", tokenizer, layers=1, seed=2),
    )


@pytest.fixture
def spec(tmp_path, pair):
    rows = write_rows(tmp_path / "rows.jsonl", [{"prompt": f"hello {number}"} for number in range(5)])
    file = tmp_path / "spec.yaml"
    file.write_text(spec_text(pair, rows, tmp_path / "results"))
    return str(file)


@pytest.mark.slow
def test_piped_run_writes_plain_lines_and_ends_with_a_summary(spec, tmp_path, capsys):
    assert main(["run", spec, "--limit", "1", "--set", "decoding.maxNewTokens=2"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("importing torch and transformers\nprompts: prompt\nstarted tiny, results in ")
    assert "1 done, " in out
    assert out.rstrip().endswith(f"{tmp_path}/results/tiny")
    assert not {"{", "\x1b"} & set(out)


@pytest.mark.slow
def test_json_run_ends_with_a_summary_that_names_the_results(spec, tmp_path, capsys):
    assert main(["run", spec, "--limit", "3", "--set", "decoding.maxNewTokens=4", "--log-format", "json"]) == 0
    end = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (end["event"], end["summary"]["results"]) == ("end", 3)
    assert end["results"] == str(tmp_path / "results" / "tiny")
    lines = read_lines(tmp_path / "results" / "tiny")
    assert [line["usage"]["completion_tokens"] for line in lines] == [4, 4, 4]


@pytest.mark.slow
def test_other_spec_in_the_same_directory_is_refused_until_fresh(spec, capsys):
    assert main(["run", spec, "--quiet"]) == 0
    assert main(["run", spec, "--quiet", "--set", "decoding.maxNewTokens=4"]) == 64
    said = capsys.readouterr()
    assert "decoding.maxNewTokens" in said.err
    assert "--fresh" in said.err
    assert said.out == ""
    assert main(["run", spec, "--quiet", "--set", "decoding.maxNewTokens=4", "--fresh"]) == 0


def test_bad_dataset_ends_with_its_exit_code(spec, capsys):
    assert main(["run", spec, "--set", "dataset.uri=none.jsonl"]) == 65
    assert "remedy: " in capsys.readouterr().err
