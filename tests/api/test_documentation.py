"""explain, the schema, the starter and the reference: all made from the types, and covering all of them."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path, PurePath

import jsonschema
import pytest
import yaml

from specbatch.api import SpecBatchJob, parse_spec
from specbatch.api.explain import documentation, explain, find, yaml_value
from specbatch.api.paths import all_field_paths, path_text
from specbatch.api.schema import json_schema
from specbatch.api.starter import starter
from specbatch.errors import SpecError
from tests.api.specs import MINIMUM, job, problems
from tools import generate

FIELDS = [doc for doc in documentation().walk() if doc.path]
JOBS = sorted((Path(__file__).parents[2] / "job").glob("*.yaml"))


@pytest.mark.parametrize("doc", FIELDS, ids=lambda doc: doc.path)
def test_every_field_is_described_with_an_example_and_a_default(doc):
    assert doc.description.endswith(".")
    assert doc.first_sentence.endswith(".")
    assert doc.example is not None
    assert doc.required or doc.default_words
    text = explain(doc.path)
    assert doc.description.split()[0] in text
    assert f"{doc.name}: {yaml_value(doc.example)}" in text


def test_explain_knows_every_path_of_the_types():
    known = {doc.path for doc in FIELDS}
    assert {path_text(path) for path in all_field_paths(SpecBatchJob)} <= known


@pytest.mark.parametrize("doc", FIELDS, ids=lambda doc: doc.path)
def test_every_example_is_valid_by_itself(doc):
    if "[]" in doc.path or "NAME" in doc.path or doc.path in {"spec", "metadata"}:
        return  # covered by the example of the list or mapping around it
    path = f"{doc.path}={yaml_value(doc.example)}"
    found = problems(MINIMUM, ("spec.drafter.model=a/b", path))
    # A rule between fields may object to an example that stands alone; the field itself must not.
    assert not [problem for problem in found if "expected" in problem.message]


def test_explain_takes_short_and_indexed_paths():
    assert find("placement.gpus").path == "spec.placement.gpus"
    assert find("spec.job.tolerations[0].key").path == "spec.job.tolerations[].key"
    assert find("job.tolerations[].key").path == "spec.job.tolerations[].key"
    assert find("job.secretEnv.HF_TOKEN.key").path == "spec.job.secretEnv.NAME.key"
    assert find("").path == ""


def test_explain_shows_type_default_and_fields():
    text = explain("spec.placement")
    assert "gpus" in text
    assert "cpuThreads" in text
    text = explain("spec.decoding.numSpeculativeTokens")
    assert "a whole number from 0 to 32, or auto" in text
    assert "default:  auto" in text
    assert "maxSpeculativeTokens" in explain("spec", recursive=True)


@pytest.mark.parametrize(
    ("path", "nearest"),
    [
        ("spec.placement.ratoi", "did you mean spec.placement.ratio?"),
        ("maxtokens", "here it is decoding.maxNewTokens"),
        ("spec.zzz", "known here: target, drafter"),
        ("decoding.seed.zzz", "known here: nothing further"),
        ("a..b", "known here: apiVersion"),
        ("job.secretEnv.A.B", "known here: name, key, optional"),
    ],
)
def test_an_unknown_path_is_answered_with_the_nearest(path, nearest):
    with pytest.raises(SpecError) as caught:
        explain(path)
    assert caught.value.problems[0].remedy.startswith(nearest)


@pytest.mark.parametrize(
    "value", ["a", "true", "No", "a: b", "1", "", "a b", "/a", "s3://b/c", 'q"', "#", 1, 1.5, True, ["a", {"b/c": "~"}]]
)
def test_one_line_yaml_reads_back_as_the_same(value):
    assert yaml.safe_load(f"x: {yaml_value(value)}") == {"x": value}


@pytest.mark.slow
def test_the_schema_is_a_valid_2020_12_schema_that_accepts_what_the_types_accept():
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for text in [MINIMUM, starter(PurePath("a.yaml")), *(file.read_text() for file in JOBS)]:
        validator.validate(yaml.safe_load(text))


def test_the_schema_describes_every_field_and_refuses_unknown_ones():
    schema = json_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    for definition in schema["$defs"].values():
        assert definition["additionalProperties"] is False
        for name, field in definition["properties"].items():
            # pydantic leaves a section's description to its definition where they are the same
            described = field | schema["$defs"].get(field.get("$ref", "").rpartition("/")[2], {})
            assert described["description"], name
            assert "title" not in field


@pytest.mark.parametrize(
    "change", [{"gpus": -1}, {"gpus": "8"}, {"strategy": "none"}, {"zzz": 1}, {"replicas": "all"}], ids=str
)
def test_the_schema_refuses_what_the_types_refuse(change):
    data = yaml.safe_load(MINIMUM)
    data["spec"]["placement"] = change
    assert not jsonschema.Draft202012Validator(json_schema()).is_valid(data)


def test_the_starter_is_valid_and_what_it_comments_out_is_too():
    text = starter(PurePath("jobs/My Job.yaml"))
    spec = parse_spec(text)
    assert (spec.metadata.name, spec.spec.dataset.uri) == ("my-job", "jobs/prompts.jsonl")
    commented = re.sub(r"^( +)# (image|modelCache): ", r"\1\2: ", text, flags=re.MULTILINE)
    assert parse_spec(commented).spec.job.volumes.model_cache.claim_name == "specbatch-models"


@pytest.mark.parametrize("file", JOBS, ids=lambda file: file.name)
def test_every_file_in_job_is_valid_and_named_like_its_job(file):
    assert parse_spec(file.read_text(), str(file)).metadata.name == file.stem


@pytest.mark.slow
def test_generated_files_are_not_stale():
    assert generate.stale() == []


@pytest.mark.slow
def test_a_stale_file_is_named_and_mended(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(generate, "ROOT", tmp_path)
    monkeypatch.setattr(generate, "GENERATED", {name: cache(make) for name, make in generate.GENERATED.items()})
    monkeypatch.setattr(generate.stale, "__defaults__", (tmp_path,))
    monkeypatch.setattr(generate.write, "__defaults__", (tmp_path,))
    assert generate.main(["--check"]) == 1
    assert "docs/reference/spec.md is stale" in capsys.readouterr().out
    assert generate.main([]) == 0
    assert generate.main(["--check"]) == 0
    (tmp_path / "docs/reference/spec.md").write_text("edited")
    assert generate.main(["--check"]) == 1
    assert generate.main(["--wrong"]) == 2


def test_the_reference_names_every_field():
    text = (generate.ROOT / "docs/reference/spec.md").read_text()
    for doc in FIELDS:
        assert f"| `{doc.name}` |" in text, doc.path


def test_defaults_in_the_documentation_are_the_defaults_of_a_minimal_job():
    resolved = job().model_dump(mode="json", by_alias=True)
    for doc in FIELDS:
        if doc.required or doc.is_section or "[]" in doc.path or "NAME" in doc.path:
            continue
        value = resolved
        for piece in doc.path.split("."):
            value = (value or {}).get(piece)
        if not doc.path.startswith(("spec.drafter.", "spec.job.volumes.")):
            assert value == doc.default, doc.path
