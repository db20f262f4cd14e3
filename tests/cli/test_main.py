"""The `specbatch` command itself: start-up, exit codes, and who catches what."""

from __future__ import annotations

import errno
import os
import resource
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from specbatch import __version__
from specbatch.cli import main as cli
from specbatch.errors import ExitCode, ModelError

# Makes every heavy package un-importable, in a fresh interpreter, before specbatch is imported.
BLOCKED = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in {names!r}:
            raise AssertionError(f'{{name}} was imported')
sys.meta_path.insert(0, Blocked())
from specbatch.cli.main import main
sys.exit(main({arguments!r}))
"""
QUICKSTART = Path(__file__).parents[2] / "job" / "quickstart.yaml"
HEAVY = {"torch", "transformers", "accelerate", "safetensors", "numpy", "matplotlib", "kubernetes"}


def fresh(arguments: list[str], names: set[str]) -> subprocess.CompletedProcess[str]:
    code = BLOCKED.format(names=sorted(names), arguments=arguments)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_help_needs_neither_torch_nor_pydantic_nor_yaml():
    done = fresh(["--help"], HEAVY | {"pydantic", "yaml", "rich", "fsspec"})
    assert done.returncode == 0, done.stderr
    assert "validate" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["schema"], ["explain", "placement"], ["validate", str(QUICKSTART)]])
def test_commands_about_the_spec_need_no_torch(arguments):
    done = fresh(arguments, HEAVY)
    assert done.returncode == 0, done.stderr


def test_help_answers_in_half_a_second_of_work():
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "specbatch", "--help"], capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert used < 0.5  # of the processor: the machine may be busy, the command may not be slow


def test_version_is_printed(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"specbatch {__version__}\n"


def test_python_dash_m_specbatch_is_the_same_command(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["specbatch", "--version"])
    with pytest.raises(SystemExit) as done:
        runpy.run_module("specbatch", run_name="__main__")
    assert done.value.code == 0
    assert "specbatch" in capsys.readouterr().out


def test_no_command_shows_the_help(capsys):
    assert cli.main([]) == 2
    assert "Run it:" in "".join(capsys.readouterr())


def test_wrong_usage_is_2(capsys):
    assert cli.main(["nope"]) == 2
    assert cli.main(["validate"]) == 2
    assert "Error" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "x", "--tensor-parallel-size", "2"], "--tensor-parallel-size; there is no tensor parallelism: "),
        (["submit", "x", "--max-model-len=9"], "; fields of the spec are set by --set batching.maxLength=VALUE"),
        (["plan", "x", "--max-new-tokens", "9"], "; fields of the spec are set by --set decoding.maxNewTokens=VALUE"),
        (["run", "x", "--limt", "9"], "No such option: --limt (Possible options: --limit"),
        (["list", "--max-new-tokens"], "No such option: --max-new-tokens\n"),
    ],
)
def test_a_flag_of_another_engine_says_what_to_do_instead(words, said, capsys):
    assert cli.main(words) == 2
    assert said in capsys.readouterr().err


def test_a_specbatch_error_is_printed_once_and_ends_with_its_exit_code(monkeypatch, capsys):
    def refuse():
        raise ModelError("is gated", where="Qwen/Qwen3-8B", remedy="set HF_TOKEN [or ask]")

    monkeypatch.setattr("specbatch.api.schema.json_schema", refuse)
    assert cli.main(["schema"]) == ExitCode.MODEL_MISSING
    out, err = capsys.readouterr()
    assert err == "error: Qwen/Qwen3-8B: is gated\n  remedy: set HF_TOKEN [or ask]\n"
    assert out == ""


def test_ctrl_c_is_130(monkeypatch, capsys):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr("specbatch.api.schema.json_schema", interrupted)
    assert cli.main(["schema"]) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_a_bug_is_not_hidden(monkeypatch):
    def bug():
        raise ZeroDivisionError

    monkeypatch.setattr("specbatch.api.schema.json_schema", bug)
    with pytest.raises(ZeroDivisionError):
        cli.main(["schema"])


@pytest.mark.slow
def test_a_reader_that_goes_away_is_no_traceback():
    for command in (["schema"], ["--version"]):  # more than a pipe holds, and less
        reader, writer = os.pipe()
        os.close(reader)
        done = subprocess.run(
            [sys.executable, "-m", "specbatch", *command], stdout=writer, stderr=subprocess.PIPE, text=True, check=False
        )
        os.close(writer)
        assert (done.returncode, done.stderr) == (1, "")


def test_a_reader_that_goes_away_within_a_command_is_no_traceback(monkeypatch):
    def gone():
        raise OSError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr("specbatch.api.schema.json_schema", gone)
    monkeypatch.setattr(sys, "stdout", sys.stdout)  # Typer replaces both: put back after the test
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    assert cli.main(["schema"]) == 1
