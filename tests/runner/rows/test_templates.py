import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from specbatch.api.dataset import DatasetSpec
from specbatch.errors import ModelError, SpecError
from specbatch.runner.models.tokenizer import load_tokenizer
from specbatch.runner.rows import templates
from specbatch.runner.rows.templates import proposed_instant, template_file
from tests.runner.tiny import CHAT_TEMPLATE


class Named:
    """A tokenizer as far as its templates go."""

    def __init__(self, chat_template):
        self.chat_template = chat_template


BOTH = Named({"default": "plain {{ messages }}", "tool_use": "tools {{ messages }}"})


def choose_template(setting, tokenizer):
    return templates.choose_template(DatasetSpec(uri="rows.jsonl", chat_template=setting), tokenizer)


def text_of(setting, tokenizer):
    return choose_template(setting, tokenizer).text


def test_template_is_the_tokenizers_none_or_a_file(tokenizer, tmp_path):
    assert text_of("auto", tokenizer) == CHAT_TEMPLATE
    assert choose_template("none", tokenizer) is None
    assert choose_template("auto", Named(None)) is None
    (tmp_path / "t.jinja").write_text("{{ messages }}")
    assert text_of(str(tmp_path / "t.jinja"), tokenizer) == "{{ messages }}"
    with pytest.raises(SpecError, match=r"chatTemplate.*cannot be read"):
        choose_template(str(tmp_path / "none.jinja"), tokenizer)


def test_of_named_templates_default_is_taken_or_the_one_that_the_spec_names():
    assert text_of("auto", BOTH) == "plain {{ messages }}"
    assert text_of("tool_use", BOTH) == "tools {{ messages }}"
    assert text_of("default", Named("the only one")) == "the only one"
    with pytest.raises(SpecError, match=r"no chat template named 'rag'(.|\n)*default, tool_use; .* write \./rag"):
        choose_template("rag", BOTH)


def test_named_templates_without_default_are_refused_with_their_names():
    with pytest.raises(SpecError, match=r"2 named chat templates and none is named default(.|\n)*: rag, tool_use"):
        choose_template("auto", Named({"tool_use": "a", "rag": "b"}))


def in_folder(pair, folder, *, config=None, files=None):
    """The tokenizer of the pair's target with its templates replaced: in tokenizer_config.json and in files."""
    shutil.copytree(pair[0], folder)
    (folder / "chat_template.jinja").unlink()
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **({"chat_template": config} if config else {})}))
    for name, text in (files or {}).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    return load_tokenizer(folder, name="m")


LIST = [{"name": "default", "template": "plain"}, {"name": "tool_use", "template": "tools"}]
FOLDERS = {
    "a list in tokenizer_config.json": {"config": LIST},
    "files": {"files": {"chat_template.jinja": "plain", "additional_chat_templates/tool_use.jinja": "tools"}},
    "a list in chat_template.json": {"files": {"chat_template.json": json.dumps({"chat_template": LIST})}},
}


@pytest.mark.parametrize("folder", FOLDERS)
def test_named_templates_are_found_wherever_a_model_folder_keeps_them(pair, tmp_path, folder):
    tokenizer = in_folder(pair, tmp_path / "m", **FOLDERS[folder])
    assert (text_of("auto", tokenizer), text_of("tool_use", tokenizer)) == ("plain", "tools")


def test_one_template_is_found_in_tokenizer_config_and_in_chat_template_json(pair, tmp_path):
    assert text_of("auto", in_folder(pair, tmp_path / "a", config="one")) == "one"
    kept = json.dumps({"chat_template": "two"})
    assert text_of("auto", in_folder(pair, tmp_path / "b", files={"chat_template.json": kept})) == "two"
    both = in_folder(pair, tmp_path / "c", config="one", files={"chat_template.json": kept})
    assert text_of("auto", both) == "one"


@pytest.mark.parametrize("config", [7, {"default": 7}])
def test_a_template_that_is_no_text_is_refused(pair, tmp_path, config):
    with pytest.raises(ModelError, match="neither text nor named texts"):
        in_folder(pair, tmp_path / "m", config=config)


@pytest.mark.parametrize("kept", ["[", "[]", "{}", '{"chat_template": [{"name": "a"}]}'])
def test_a_damaged_chat_template_json_is_refused_by_name(pair, tmp_path, kept):
    with pytest.raises(ModelError, match=r"chat_template\.json holds no chat template"):
        in_folder(pair, tmp_path / "m", files={"chat_template.json": kept})


def test_a_template_that_does_not_parse_is_refused_with_its_line():
    with pytest.raises(SpecError, match=r"the tokenizer's chat template cannot be parsed: .* \(line 2\)"):
        choose_template("auto", Named("hello\n{% if %}"))
    with pytest.raises(SpecError, match="cannot be parsed"):
        choose_template("auto", Named("{{ " + "(" * 5000))
    with pytest.raises(SpecError, match="cannot be parsed"):
        choose_template("auto", Named("{{ " + "9" * 5000 + " }}"))


def test_transformers_own_tags_parse():
    text = "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% continue %}{% endfor %}"
    assert text_of("auto", Named(text)) == text


@pytest.mark.parametrize(
    "text", ["{{ messages | random }}", "{{ messages | map('random') | list }}", "{{ lipsum(1) }}", "{% if x | random %}{% endif %}"]
)  # fmt: skip
def test_a_template_that_draws_at_random_is_refused(text):
    with pytest.raises(SpecError, match="draws at random"):
        choose_template("auto", Named(text))


def test_a_template_that_may_read_the_clock_is_known():
    llama = "{%- if strftime_now is defined %}{% set d = strftime_now('%d %b %Y') %}{% else %}{% set d = '26 Jul 2024' %}{% endif %}{{ d }}"
    assert choose_template("auto", Named(llama)).reads_clock
    assert not choose_template("auto", Named(CHAT_TEMPLATE)).reads_clock
    assert not choose_template("auto", Named("{# strftime_now #}{{ 'strftime_now()' }}")).reads_clock


def test_a_templates_file_counts_by_its_content(tmp_path, tokenizer):
    path = tmp_path / "t.jinja"
    path.write_text("a")
    first = template_file(choose_template(str(path), tokenizer))
    path.write_text("b")
    assert template_file(choose_template(str(path), tokenizer)) != first
    assert set(first) == {"dataset.chatTemplate"}
    assert template_file(choose_template("auto", tokenizer)) == {}


def test_the_instant_of_a_new_run_is_now_or_what_the_environment_says():
    assert abs((proposed_instant({}) - datetime.now(UTC)).total_seconds()) < 60
    given = "2026-11-28T09:00:00+05:30"
    assert proposed_instant({"SPECBATCH_INSTANT": given}).isoformat() == given
    assert proposed_instant({"SPECBATCH_INSTANT": "2026-11-28"}).tzinfo is not None
    with pytest.raises(SpecError, match="SPECBATCH_INSTANT: 'noon' is no time"):
        proposed_instant({"SPECBATCH_INSTANT": "noon"})


def test_the_embedded_models_template_is_plain():
    tokenizer = load_tokenizer(Path("specbatch/embedded/target"), name="embedded:target")
    assert not choose_template("auto", tokenizer).reads_clock
