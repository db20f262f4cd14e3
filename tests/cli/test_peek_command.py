import json
import subprocess
import sys

import pytest

from specbatch.cli.main import main

SPEC = """\
apiVersion: specbatch.dev/v1alpha1
kind: SpecBatchJob
metadata: {name: a}
spec:
  target: {model: "embedded:target"}
  dataset: {uri: %s}
"""


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"question": "Why?", "source": "web"}\n{"question": ""}\n')
    return path


def test_a_dataset_is_looked_at_without_a_spec(rows, capsys):
    assert main(["peek", str(rows), "-n", "1"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{rows}: JSON Lines, 2 rows",
        "prompts     question; into the results, not shown to the model: source",
        "wrapped in  nothing yet: --set target.model=MODEL shows its chat template, and counts tokens",
        "columns     question  string  prompt",
        "            source    string  carried (none in 1 of 2)",
        "refused     1 of the first 2 rows:",
        "              1 x empty_prompt, as line 2: question is empty",
        "",
        "row 0, id row-00000000-1f277289c955",
        "    Why?",
        '  columns: {"source": "web"}',
    ]


def test_a_json_file_is_a_dataset_unless_it_is_a_spec(tmp_path, capsys):
    (tmp_path / "rows.json").write_text('[{"prompt": "a"}, {"prompt": "b"}]')
    assert main(["peek", str(tmp_path / "rows.json"), "-n", "0", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "a JSON array"
    spec = {"apiVersion": "specbatch.dev/v1alpha1", "kind": "SpecBatchJob", "metadata": {"name": "a"}, "spec": {}}
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    assert main(["peek", str(tmp_path / "spec.json")]) == 64


def test_a_dataset_that_nothing_would_be_answered_of_ends_with_65(tmp_path, capsys):
    (tmp_path / "rows.jsonl").write_text('{"prompt": ""}\n')
    assert main(["peek", str(tmp_path / "rows.jsonl")]) == 65
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a", "text": "b"}\n')
    assert main(["peek", str(tmp_path / "rows.jsonl")]) == 65
    out, err = capsys.readouterr()
    assert "text    string" in out
    assert "--set dataset.promptField=text" in err
    assert main(["peek", str(tmp_path / "none.jsonl")]) == 65


def test_a_template_is_given_on_the_command_line_without_quotes_of_yaml(rows, capsys):
    assert main(["peek", str(rows), "-n", "1", "--set", "dataset.template=Q: {{ question }} ({{ source }})"]) == 0
    assert "    Q: Why? (web)" in capsys.readouterr().out


@pytest.mark.slow
def test_torch_is_not_imported_for_a_spec_with_a_tokenizer(rows, tmp_path):
    (tmp_path / "spec.yaml").write_text(SPEC % rows)
    program = "import sys; from specbatch.cli.main import main; code = main(['peek', sys.argv[1]]); sys.exit(code or 'torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "spec.yaml")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "tokens\n    <|im_start|>user\n    Why?<|im_end|>" in done.stdout
    assert done.stderr == ""
