"""specbatch fetch on this machine; what is downloaded how: tests/runner/hub."""

import pytest
from typer.testing import CliRunner

from specbatch.cli.main import app, main
from tests.documents import ROOT
from tests.hub_server import COMMIT, model, point_at, serving_hub

PAIR = str(ROOT / "job/qwen3-8b.yaml")


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with serving_hub({"Qwen/Qwen3-8B": model(), "Qwen/Qwen3-1.7B": model()}) as server:
        point_at(server.url, monkeypatch, tmp_path / "cache")
        monkeypatch.chdir(tmp_path)
        yield server


def fetch(*arguments):
    done = CliRunner().invoke(app, ["fetch", *arguments])
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.slow
def test_the_pair_of_a_spec_goes_to_the_cache_and_its_commits_are_told(hub, tmp_path):
    said = fetch(PAIR)
    assert f"target.revision: {COMMIT}" in said
    assert f"drafter.revision: {COMMIT}" in said
    assert {path.name for path in (tmp_path / "cache").glob("models--*")} == {"models--Qwen--Qwen3-8B", "models--Qwen--Qwen3-1.7B"}  # fmt: skip


@pytest.mark.slow
def test_folders_are_told_as_the_spec_says_them(hub, tmp_path):
    said = fetch(PAIR, "--to", "models")
    assert f"target.model: {tmp_path}/models/Qwen3-8B" in said
    assert (tmp_path / "models/Qwen3-1.7B/model.safetensors").is_file()


@pytest.mark.slow
def test_one_model_fills_the_folder_itself_at_its_revision(hub, tmp_path):
    fetch(f"Qwen/Qwen3-8B@{COMMIT}", "--to", "here")
    assert (tmp_path / "here/model.safetensors").is_file()


def test_a_spec_with_the_models_of_the_package_has_nothing_to_fetch():
    assert "nothing to fetch" in fetch(str(ROOT / "job/quickstart.yaml"))


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["Qwen/None"], 66), (["/a/folder"], 66), (["missing.yaml"], 64), (["Qwen/Qwen3-8B", "--set", "a=b"], 2)],
)
def test_what_cannot_be_fetched_ends_with_its_code(hub, arguments, code):
    assert main(["fetch", *arguments]) == code


def test_without_the_library_the_extra_is_named(monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    assert main(["fetch", "Qwen/Qwen3-8B"]) == 66
    assert "specbatch[runner]" in capsys.readouterr().err
