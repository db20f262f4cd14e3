"""Every command that a document shows can be meant as it stands: none is too far from this machine to be at least parsed."""

import subprocess

import pytest
import yaml

from specbatch.api import parse_spec
from tests.checkout import fresh_checkout, run_block
from tests.command_checks import problem
from tests.documents import (
    COMMAND_BLOCKS,
    OTHER_BLOCKS,
    READMES,
    ROOT,
    TWIN,
    Command,
    blocks,
    commands_of,
    documents,
    fenced,
    parsed,
)

BY_PROGRAMS = ("kubectl", "helm")
RUN = [name for name in documents() if blocks(name, "bash") and name not in READMES and TWIN not in name]
TWINS = [name for name in documents() if TWIN in name]
YAML = sorted(
    str(path.relative_to(ROOT)) for place in ("job/*", "k8s/**/*", "helm/*/*") for path in ROOT.glob(f"{place}.yaml")
)
COMMENTED = [*YAML, "Dockerfile"]
# What has changed or been decided is told in the words of its time.
TOLD = [name for name in documents() if name != "CHANGELOG.md" and not name.startswith("docs/decisions/")]


@pytest.mark.slow
@pytest.mark.parametrize("name", TOLD + COMMENTED)
def test_every_command_is_known_with_its_options_and_files(name):
    mine = [one for one in commands_of(name) if one.words[0] not in BY_PROGRAMS]
    assert {one.text: problem(one) for one in mine if problem(one)} == {}


@pytest.mark.slow
def test_kubectl_and_helm_know_what_the_documents_ask_of_them():
    theirs = [one for name in TOLD + YAML for one in commands_of(name) if one.words[0] in BY_PROGRAMS]
    assert len(theirs) > 5
    assert {one.text: problem(one) for one in theirs if problem(one)} == {}


@pytest.mark.parametrize("name", documents())
def test_every_block_says_what_it_is_and_is_that(name):
    for language, block in fenced(name):
        assert language in COMMAND_BLOCKS + OTHER_BLOCKS, f"tests/documents.py says which there are: {language}"
        if language in COMMAND_BLOCKS:
            done = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True, check=False)
            assert not done.stderr, block
    for block in blocks(name, "yaml"):
        if block.startswith("apiVersion: specbatch.dev"):
            parse_spec(block, name)
        else:
            list(yaml.safe_load_all(block))


@pytest.mark.slow
@pytest.mark.parametrize("name", RUN)
def test_the_commands_for_this_machine_work_in_the_order_of_the_document(name, tmp_path):
    for block in blocks(name, "bash"):
        done = run_block(block, fresh_checkout(tmp_path) if not any(tmp_path.iterdir()) else tmp_path)
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("name", TWINS)
def test_a_document_in_chinese_has_the_same_commands_and_output(name):
    for language in (*COMMAND_BLOCKS, "console", ""):
        assert blocks(name, language) == blocks(name.replace(TWIN, ".md"), language)


def test_a_script_is_taken_apart_into_its_commands():
    script = "A=1 B=2 make x -- y > z  # told\ncat <<'E' > f | wc\ndrop me\nE\nfor a in b; do specbatch \\\n  run $a; done && true\n"
    assert [one.text for one in parsed(script, whole=True)] == [
        "make x -- y", "cat", "wc", "a in b", "specbatch run '$a'", "true",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("specbatch runn job/quickstart.yaml", "no command runn"),
        ("specbatch run job/quickstart.yaml --sett a=1", "No such option: --sett"),
        ("specbatch run", "MissingParameter"),
        ("specbatch run job/quickstart.yaml --set decoding.maxNewToken=1", "maxNewTokens"),
        ("specbatch run mine.yaml --set decoding.maxNewToken=1", "no field decoding.maxNewToken"),
        ("specbatch run job/none.yaml", "job/none.yaml does not exist"),
        ("make nothing", "no make target"),
        ("python -m benchmarks.none", "no module"),
        ("python -m benchmarks.gpu --none", "benchmarks.gpu has no --none"),
        ("pip install 'specbatch[none]'", "no extra of none"),
        ("uv pip install 'specbatch[none]'", "no extra of none"),
        ("docker run --none image", "docker run has no {'--none'}"),
        ("podman run image", "say in OPTIONS"),
    ],
)
def test_a_wrong_command_is_found(words, told):
    (command,) = parsed(words, whole=True)
    assert told in problem(command)


def test_a_command_in_a_sentence_may_leave_its_arguments_out():
    assert problem(Command(("specbatch", "run"), whole=False)) is None
