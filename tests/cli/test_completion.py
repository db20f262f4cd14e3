"""Completion, by the shells themselves where they are installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from specbatch.cli.completion import candidates, split_line
from specbatch.cli.main import COMMANDS, app


def words_at(line):
    return [word for word, _ in candidates(app, line)]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("specbatch coll", ["collect"]),
        ("specbatch nope x", []),
        ("specbatch help ren", ["render"]),
        ("specbatch run x --li", ["--limit"]),
        ("specbatch render x -o ", ["yaml", "json"]),
        ("specbatch render x --output=j", ["--output=json"]),
        ("specbatch run ", []),  # file names
        ("specbatch run --set 'placement.str", ["placement.strategy="]),
        ("specbatch run --set placement.strategy=s", ["placement.strategy=same", "placement.strategy=separate"]),
        ("specbatch run --set spec.decoding.ign", ["spec.decoding.ignoreEos="]),
        ("specbatch run --set decoding.ignoreEos=", ["decoding.ignoreEos=true", "decoding.ignoreEos=false"]),
        ("specbatch run --set dataset.uri=", []),
        ("specbatch run --set nope.", []),
        ("specbatch run --set ]=", []),
        ("specbatch explain plac", ["placement."]),
        ("specbatch explain metadata.na", ["metadata.name", "metadata.namespace"]),
    ],
)
def test_candidates(line, expected):
    assert words_at(line) == expected


def test_every_command_is_a_candidate_with_its_sentence():
    found = dict(candidates(app, "specbatch "))
    assert set(found) == {name for commands in COMMANDS.values() for name in commands}
    assert all(found.values())


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("specbatch ", ["specbatch", ""]),
        ("specbatch ru", ["specbatch", "ru"]),
        ("specbatch run 'my sp", ["specbatch", "run", "my sp"]),
        ("specbatch run my\\ sp", ["specbatch", "run", "my sp"]),
        ("", [""]),
    ],
)
def test_a_line_is_split_as_far_as_it_is_written(line, words):
    assert split_line(line) == words


BASH = """
source <(specbatch completion bash)
complete_line() {
    COMP_LINE=$1 COMP_POINT=${#1} COMP_WORDS=() COMP_CWORD=0
    _specbatch specbatch
    echo "$1 -> ${COMPREPLY[*]}"
}
compopt() { :; }
"""
CASES = {
    "specbatch coll": "collect",
    "specbatch render x -o j": "json",
    "specbatch run x --set placement.strategy=sep": "separate",
}


def shell(*command):
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        command, env=os.environ | {"PATH": path}, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_bash_completes_words_and_values_after_an_equals_sign():
    lines = "\n".join(f"complete_line '{line}'" for line in CASES)
    assert shell("bash", "-c", BASH + lines).splitlines() == [f"{line} -> {word}" for line, word in CASES.items()]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("fish") is None, reason="needs fish")
def test_fish_completes_words_values_and_files(tmp_path):
    (tmp_path / "rows.jsonl").touch()
    files = {f"specbatch run {tmp_path}/ro": "", f"specbatch run x --set dataset.uri={tmp_path}/ro": "dataset.uri="}
    wanted = [
        "collect",
        "json",
        "placement.strategy=separate",
        *(f"{before}{tmp_path}/rows.jsonl" for before in files.values()),
    ]
    lines = "; ".join(f"complete -C '{line}'" for line in [*CASES, *files])
    said = shell("fish", "--private", "-c", f"specbatch completion fish | source; {lines}").splitlines()
    assert [line.partition("\t")[0] for line in said] == wanted


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("zsh") is None, reason="needs zsh")
def test_the_zsh_script_is_zsh():
    shell(
        "zsh",
        "-f",
        "-c",
        "autoload -Uz compinit && compinit -D -u && source <(specbatch completion zsh) && whence _specbatch",
    )
