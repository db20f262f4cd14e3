"""What the READMEs say is so: their commands are run, their spec is valid, their tables are the code's."""

import json
import re
from pathlib import Path

import pytest

from specbatch.api import parse_spec
from specbatch.cli.main import app
from specbatch.errors import ExitCode
from tests.checkout import fresh_checkout, run_block
from tests.documents import READMES, ROOT, blocks, make_targets, text_of

COMMANDS = blocks("README.md", "bash")
RESULTS = ("docs/RESULTS.md", "docs/RESULTS.zh-CN.md")
HARDWARE = re.compile(r"kubectl|helm|docker|submit|nvidia|cuda", re.IGNORECASE)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A fresh checkout, and then what the commands leave there."""
    return fresh_checkout(tmp_path_factory.mktemp("checkout"))


@pytest.fixture(scope="module")
def quickstart(checkout):
    """What the first command prints."""
    done = run_block(COMMANDS[0], checkout)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_first_command_is_make_quickstart():
    assert COMMANDS[0] == "make quickstart\n"


@pytest.mark.slow
@pytest.mark.parametrize("block", COMMANDS[1:], ids=[block.splitlines()[-1] for block in COMMANDS[1:]])
def test_every_command_works_as_it_stands(block, checkout, quickstart):
    done = run_block(block, checkout)
    assert done.returncode == 0, done.stdout + done.stderr
    for line in done.stdout.splitlines():
        if line.startswith('{"event": "end"'):
            assert (checkout / json.loads(line)["report"]).is_file()


@pytest.mark.slow
def test_the_quickstart_gives_the_right_answers_and_tokens_that_are_shown(checkout, quickstart):
    *_, rows, report = quickstart.splitlines()
    assert len((checkout / rows.split()[1]).read_text().splitlines()) == 200
    assert (checkout / report.split()[1]).is_file()
    manifest = json.loads(next((checkout / "results/quickstart").glob("manifest-*.json")).read_text())
    totals = manifest["totals"]
    shown = text_of("README.md")
    assert f"right answers  {totals['correct']} of {totals['scored']}" in shown
    assert f"({totals['completion_tokens']:,} tokens)" in shown


def test_both_languages_have_the_same_sections_and_speeds():
    english, chinese = (text_of(name) for name in READMES)
    assert english.count("\n## ") == chinese.count("\n## ")
    speeds = [[re.findall(r"\d[\d,]*", row) for row in re.findall(r"^\| \d.*", text, re.MULTILINE)] for text in (english, chinese)]  # fmt: skip
    assert speeds[0] == speeds[1]


def test_the_speeds_are_those_of_the_benchmarks():
    measured = text_of("benchmarks/README.md")
    for line in re.findall(r"^\| \d.*", text_of("README.md"), re.MULTILINE):
        for speed in re.findall(r"\d[\d,]*", line.split("|", 2)[2]):
            assert re.search(rf"\| {speed}(\.\d)? \|", measured), speed


def test_the_pictures_for_light_and_dark_are_there_and_small():
    for name in READMES:
        shown = re.findall(r"(?:src|srcset)=\"(.*?)\"", text_of(name))
        assert shown == ["docs/report-dark.png", "docs/report-light.png"]
        assert all((ROOT / path).stat().st_size < 200_000 for path in shown)


@pytest.mark.parametrize("name", READMES)
def test_the_spec_shown_is_valid_short_and_the_same_in_both_languages(name):
    (spec,) = blocks(name, "yaml")
    assert parse_spec(spec, name) == parse_spec(blocks("README.md", "yaml")[0], "README.md")
    assert len(re.findall(r"^  \S", spec, re.MULTILINE)) == 5


@pytest.mark.parametrize("name", READMES)
def test_only_commands_that_exist_are_named(name):
    known = {command.name or command.callback.__name__ for command in app.registered_commands}
    assert set(re.findall(r"specbatch (\w+)", " ".join(re.findall(r"`[^`\n]+`", text_of(name))))) <= known
    for block in blocks(name, "bash"):
        assert not HARDWARE.search(block), "commands for a cluster stand in blocks of their own (sh)"
        assert set(re.findall(r"^make (\S+)", block, re.MULTILINE)) <= make_targets()


@pytest.mark.parametrize("name", RESULTS)
def test_the_exit_codes_are_those_of_the_code(name):
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", text_of(name), re.MULTILINE)
    assert [int(code) for code, _ in rows] == [code.value for code in ExitCode]
    if name == RESULTS[0]:
        assert [meaning for _, meaning in rows] == [code.meaning for code in ExitCode]


def test_the_examples_named_exist():
    for name in READMES:
        for path in re.findall(r"`((?:job|docs|specbatch)/[\w./-]+)`", text_of(name)):
            assert Path(ROOT, path).exists(), path
