"""Help as a person reads it: whole sentences in 80 columns, and examples that work."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer

from specbatch.cli import main as cli

ROOT = Path(__file__).parents[2]
NAMES = [name for commands in cli.COMMANDS.values() for name in commands]
APP = typer.main.get_command(cli.app)


@pytest.fixture
def help_of(capsys):
    def text(*words):
        assert cli.main([*words, "--help"]) == 0
        return capsys.readouterr().out

    return text


def test_the_list_has_every_command_once_in_a_group_and_in_one_whole_line(help_of):
    text = help_of()
    listed = re.findall(r"^  (\w+) {2,}(.+)$", text, re.MULTILINE)
    assert [name for name, _ in listed] == NAMES
    assert all(sentence.endswith(".") for _, sentence in listed)
    assert [f"\n{group}:\n" in text for group in cli.COMMANDS] == [True] * len(cli.COMMANDS)


@pytest.mark.parametrize("name", NAMES)
def test_help_fits_80_columns_and_names_every_value(help_of, name):
    text = help_of(name)
    assert max(map(len, text.splitlines())) <= 80
    assert not re.findall(r"<(?:str|path|file|int.*|float.*|list.*)>|[^.\w]\.\.\.$|\[\[", text, re.MULTILINE)


@pytest.mark.parametrize("name", NAMES)
def test_examples_are_commands_that_exist(help_of, name):
    examples = re.findall(r"^  Example: (.+)$", help_of(name), re.MULTILINE)
    assert examples
    for example in examples:
        for command in re.split(r"\||&&|>", example):
            program, *words = shlex.split(command)
            if program == "specbatch":
                APP.commands[words[0]].make_context(words[0], words[1:])  # parsed; raises for wrong usage
            for word in words:
                assert not word.startswith("job/") or [*ROOT.glob(word)], word


def test_help_of_a_command_is_its_help(help_of, capsys):
    assert cli.main(["help", "run"]) == 0
    assert capsys.readouterr().out == help_of("run")
    assert cli.main(["help"]) == 0
    assert capsys.readouterr().out == help_of()


def test_help_of_an_unknown_command_names_the_nearest(capsys):
    assert cli.main(["help", "rendr"]) == 2
    assert "No such command 'rendr'. Did you mean 'render'" in capsys.readouterr().err
