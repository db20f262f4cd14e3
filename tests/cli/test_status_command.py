import json
import os
import pty
import subprocess
import sys

import pytest

from specbatch.cli.main import main
from tests.results.builders import finish_run, make_row


def test_status_says_how_a_run_stands(tmp_path, capsys):
    finish_run(tmp_path / "nightly", [make_row(0)])
    assert main(["status", str(tmp_path / "nightly")]) == 0
    assert "complete (updated" in capsys.readouterr().out
    assert main(["status", str(tmp_path / "nightly"), "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["shards"][0]["verdict"] == "complete"


def test_no_run_is_74(tmp_path, capsys):
    assert main(["status", str(tmp_path)]) == 74
    assert "no run is there" in capsys.readouterr().err


@pytest.mark.slow
def test_watching_ends_with_the_run_as_text_as_json_and_on_a_terminal(tmp_path, capsys):
    finish_run(tmp_path / "nightly", [make_row(0)])
    assert main(["status", str(tmp_path / "nightly"), "--watch"]) == 0
    assert main(["status", str(tmp_path / "nightly"), "--watch", "--output", "json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["complete"] is True
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "specbatch", "status", str(tmp_path / "nightly"), "--watch"]
    done = subprocess.run(command, stdout=theirs, stderr=subprocess.PIPE, check=False, timeout=60)
    os.close(theirs)
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    assert (done.returncode, done.stderr) == (0, b"")
    assert "1 of 1, no errors" in shown
