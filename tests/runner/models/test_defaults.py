import json
import shutil

import pytest

from specbatch.api import DecodingSpec
from specbatch.errors import ModelError
from specbatch.results.manifest import read_manifests
from specbatch.results.verification import render_verification
from specbatch.runner.job import run_job
from specbatch.runner.models.defaults import _CHANGES_TEXT, ModelDefaults
from specbatch.runner.verify.verify import verify_run
from tests.runner.tiny import read_lines


@pytest.fixture
def folder(pair, tmp_path):
    return shutil.copytree(pair[0], tmp_path / "m")


def write(folder, name, **fields):
    path = folder / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def warnings(folder, tokenizer, **decoding):
    return ModelDefaults(folder, "org/m").warnings(tokenizer, DecodingSpec(**decoding))


def test_a_model_that_asks_for_nothing_has_no_warning(folder, tokenizer):
    assert warnings(folder, tokenizer) == []
    (folder / "generation_config.json").unlink()
    assert warnings(folder, tokenizer) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("repetition_penalty", 3.0),
        ("suppress_tokens", [7, 8]),
        ("begin_suppress_tokens", [7]),
        ("bad_words_ids", [[7]]),
        ("min_new_tokens", 5),
        ("min_length", 5),
        ("no_repeat_ngram_size", 3),
        ("forced_bos_token_id", 0),
        ("forced_eos_token_id", [0]),
        ("sequence_bias", [[[7], -1.0]]),
        ("exponential_decay_length_penalty", [5, 1.1]),
        ("stop_strings", ["END"]),
        ("num_beams", 4),
    ],
)
def test_what_changes_the_text_and_is_not_done_is_named_with_its_value(folder, tokenizer, name, value):
    write(folder, "generation_config.json", **{name: value})
    (warning,) = warnings(folder, tokenizer)
    assert f"generation_config.json of org/m asks for {name} {json.dumps(value)}, which" in warning


def test_what_the_model_asks_for_is_taken_where_the_spec_says_nothing_else_and_told(folder, tokenizer):
    asked = {
        "do_sample": True, "temperature": 0.6, "top_k": 20, "top_p": 1.0, "repetition_penalty": 1.05, "bad_words_ids": [[7], [8, 9]], "min_new_tokens": 2,
        "sequence_bias": [[[5], -1.5]], "suppress_tokens": None, "typical_p": 1.0,
    }  # fmt: skip
    write(folder, "generation_config.json", **asked)
    defaults = ModelDefaults(folder, "org/m")
    decoding, told = defaults.decoding(DecodingSpec(from_model=True, top_k=5))
    assert (decoding.temperature, decoding.top_k, decoding.top_p, decoding.repetition_penalty) == (0.6, 5, 1.0, 1.05)
    assert (decoding.bad_words, decoding.min_tokens, decoding.logit_bias) == ([[7], [8, 9]], 2, {"5": -1.5})
    assert told.startswith("temperature 0.6, repetition_penalty 1.05, bad_words_ids [[7], [8, 9]]")
    assert defaults.warnings(tokenizer, decoding) == []
    assert defaults.decoding(DecodingSpec()) == (DecodingSpec(), "")
    assert "decoding.fromModel: true takes them" in defaults.warnings(tokenizer, DecodingSpec())[0]


def test_what_cannot_be_taken_is_refused_or_named(folder, tokenizer):
    write(folder, "generation_config.json", repetition_penalty=1.05, num_beams=4, sequence_bias=[[[5, 6], 1.0]])
    with pytest.raises(ModelError, match="asks for sequence_bias"):
        ModelDefaults(folder, "m").decoding(DecodingSpec(from_model=True))
    (warning,) = warnings(folder, tokenizer, from_model=True)
    assert "num_beams 4, which specbatch does not honour" in warning
    assert "repetition_penalty" not in warning


def test_values_that_change_nothing_are_not_named(folder, tokenizer):
    neutral = {name: values[0] if values else None for name, values in _CHANGES_TEXT.items()}
    write(folder, "generation_config.json", **{**neutral, "repetition_penalty": 1.0, "temperature": 0.6})
    assert warnings(folder, tokenizer) == []


def test_without_generation_config_json_the_configs_defaults_count_as_in_transformers(folder, tokenizer):
    write(folder, "config.json", repetition_penalty=1.5)
    assert warnings(folder, tokenizer) == []
    (folder / "generation_config.json").unlink()
    (warning,) = warnings(folder, tokenizer)
    assert "config.json of org/m asks for repetition_penalty 1.5" in warning


def test_a_long_value_is_cut(folder, tokenizer):
    write(folder, "generation_config.json", suppress_tokens=list(range(5000)))
    assert len(warnings(folder, tokenizer)[0]) < 300


def test_sampling_that_the_spec_replaces_is_named_only_where_the_model_samples(folder):
    write(folder, "generation_config.json", temperature=0.6, top_k=20)
    assert ModelDefaults(folder, "m").sampling == ""
    write(folder, "generation_config.json", do_sample=True)
    assert ModelDefaults(folder, "m").sampling == "temperature 0.6, top_k 20"


def test_a_tokenizer_whose_end_is_not_the_configs_is_said_with_what_counts(folder, tokenizer):
    own = tokenizer.eos_token_id
    write(folder, "generation_config.json", eos_token_id=[0, 7])
    (warning,) = warnings(folder, tokenizer)
    assert f"ends a sequence with <|im_end|> (token {own}), its configs with token 0, 7: " in warning
    assert 'decoding.stop: ["<|im_end|>"]' in warning
    assert warnings(folder, tokenizer, ignore_eos=True) == []
    assert warnings(folder, tokenizer, stop=["<|im_end|>"]) == []
    write(folder, "generation_config.json", eos_token_id=[0, own])
    assert warnings(folder, tokenizer) == []


def test_an_end_that_only_the_tokenizer_knows_is_said(folder, tokenizer):
    write(folder, "config.json", eos_token_id=None)
    write(folder, "generation_config.json", eos_token_id=None)
    assert "its configs with none" in warnings(folder, tokenizer)[0]
    write(folder, "config.json", eos_token_id=None, text_config={"eos_token_id": tokenizer.eos_token_id})
    assert warnings(folder, tokenizer) == []


@pytest.mark.parametrize("data", [b"{", b"[1]", b"\xff", b"[" * 100_000])
def test_a_damaged_generation_config_is_refused_and_not_passed_over(folder, data):
    (folder / "generation_config.json").write_bytes(data)
    with pytest.raises(ModelError, match=r"generation_config\.json cannot be read"):
        ModelDefaults(folder, "m")


@pytest.mark.parametrize("value", ["2", 2.0, True, [2, "x"], {}])
def test_an_end_of_sequence_that_is_no_token_is_refused(folder, value):
    write(folder, "generation_config.json", eos_token_id=value)
    with pytest.raises(ModelError, match=r"eos_token_id in generation_config\.json is .* no token id"):
        ModelDefaults(folder, "m")


@pytest.mark.slow
def test_warnings_stand_in_the_display_the_manifest_the_report_and_the_certificate(
    make_job, folder, tmp_path, display_lines
):
    write(folder, "generation_config.json", repetition_penalty=3.0, eos_token_id=0)
    job = make_job([{"prompt": "hello"}], f"target.model={folder}", "results.report=true")
    lines = display_lines(job)
    said = [line["message"] for line in lines if line["event"] == "step" and line["message"].startswith("warning: ")]
    assert len(said) == 4, "at the start, and once more at the end"
    assert "repetition_penalty 3.0" in said[0]
    assert "<|im_end|>" in said[1]
    results = tmp_path / "results" / "tiny"
    assert [f"warning: {text}" for text in read_manifests(results)[0].warnings] == said[:2] == said[2:]
    assert "repetition_penalty 3.0" in (results / "report.html").read_text()
    found = verify_run(results)
    assert [f"warning: {text}" for text in found.warnings] == said[:2]
    assert "repetition_penalty 3.0" in render_verification(found)
    assert read_manifests(results)[0].verification["warnings"] == list(found.warnings)
    run_job(job)
    assert len(read_manifests(results)[0].warnings) == 2, "where nothing was left to do, too"


@pytest.mark.slow
def test_rows_run_past_the_tokenizers_end_unless_it_is_a_stop_string_as_the_warning_says(
    make_job, tmp_path, display_lines
):
    folder = shutil.copytree("specbatch/embedded/target", tmp_path / "m")
    for name in ("config.json", "generation_config.json"):
        write(folder, name, eos_token_id=0)
    pair = (f"target.model={folder}", "drafter.model=embedded:drafter", "decoding.maxNewTokens=30")

    def answer(*overrides):
        job = make_job([{"prompt": "Convert 30 litres to millilitres."}], *pair, *overrides)
        said = [line.get("message", "") for line in display_lines(job)]
        (row,) = read_lines(tmp_path / "results" / job.metadata.name)
        return row["text"], row["finish_reason"], sum(text.startswith("warning: ") for text in said)

    right = "30 litres are 30000 millilitres."
    text, reason, warned = answer()
    assert (text.startswith(right), text == right, reason, warned) == (True, False, "length", 2)
    shutil.rmtree(tmp_path / "results")
    assert answer('decoding.stop=["<|im_end|>"]') == (right, "stop", 0)
