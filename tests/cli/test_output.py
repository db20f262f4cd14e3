"""Everything that commands write goes through one place."""

import io
import json
import os
import subprocess
import sys

import pytest

from specbatch.cli.main import main
from specbatch.results.protocol import Progress
from specbatch.runner.display import JsonDisplay, RichDisplay, TextDisplay, choose_display
from tests.documents import ROOT

ODD = "nightly\x1b[2J\u202e\x9b\r"


def test_an_error_names_an_odd_path_without_obeying_it(capsys, tmp_path):
    (tmp_path / f"{ODD}.yaml").write_text("kind: [")
    assert main(["validate", str(tmp_path / f"{ODD}.yaml")]) == 64
    said = "".join(capsys.readouterr())
    assert r"nightly\x1b[2J\u202e\x9b\r.yaml" in said
    assert not set(said) & set("\x1b\x9b\r\u202e")


def test_a_secret_that_a_person_typed_is_not_repeated(capsys):
    assert main(["status", "https://127.0.0.1:1/run?X-Amz-Signature=abc123"]) != 0
    assert "abc123" not in "".join(capsys.readouterr())


def test_an_output_that_knows_ascii_only_ends_no_run():
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    display = choose_display(stream)
    display.step("reading prömpts.jsonl")
    display.show(Progress(rows=3, total_rows=7), last=True)
    assert raw.getvalue().decode() == "reading pr\\xf6mpts.jsonl\nrows 3 of 7 \\xb7 0 tokens/s\n"


@pytest.mark.slow
def test_a_command_says_what_ascii_lacks(tmp_path):
    (tmp_path / "jöb.yaml").write_text("kind: [")
    words = [sys.executable, "-m", "specbatch", "validate", "jöb.yaml"]
    environment = os.environ | {"PYTHONIOENCODING": "ascii:strict", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.splitlines()[0]) == (64, "error: j\\xf6b.yaml: 1 problem")


@pytest.mark.parametrize("display", [JsonDisplay, TextDisplay, RichDisplay])
def test_what_a_run_says_of_itself_holds_neither_secrets_nor_controls(display):
    from rich.console import Console

    stream = io.StringIO()
    shown = display(Console(file=stream, width=200) if display is RichDisplay else stream)
    shown.step(f"reading {ODD} of https://h/r.jsonl?sig=abc123")
    said = stream.getvalue()
    assert "abc123" not in said
    assert not set(said.replace("\r\n", "\n")) & set("\x1b\x9b\r\u202e")
    if display is JsonDisplay:
        assert json.loads(said)["message"] == f"reading {ODD} of https://h/r.jsonl?REDACTED"
