from __future__ import annotations

import pytest
from pydantic.alias_generators import to_camel

from specbatch.api import DecodingSpec, DrafterSpec, EngineSpec, TargetSpec
from specbatch.api.hash import FIELDS, NEUTRAL, SECTIONS
from tests.api.specs import job

PLAIN = job().spec_hash()


def test_the_hash_is_a_sha256_that_does_not_change_between_versions():
    assert PLAIN == "f58d5673cd49442c7ad606bf0e2e5805b7d93659aa40d88c5f249ef3ccdf2a29"


def test_writing_a_default_out_changes_nothing():
    assert (
        job(
            "{decoding: {maxNewTokens: 256, temperature: 0.0, topP: 1}, dataset: {uri: prompts.jsonl, format: auto}}"
        ).spec_hash()
        == PLAIN
    )


@pytest.mark.parametrize(
    "spec",
    [
        "target: {model: a/b}",
        "target: {model: Qwen/Qwen3-8B, revision: main}",
        "{target: {model: Qwen/Qwen3-8B, adapter: a}, engine: {name: vllm}}",
        "engine: {name: vllm}",
        "drafter: {model: a/b}",
        "decoding: {seed: 1}",
        "decoding: {maxSpeculativeTokens: 4}",
        "batching: {maxLength: 512}",
        "dataset: {uri: other.jsonl}",
        "dataset: {uri: prompts.jsonl, limit: 3}",
        "dataset: {uri: prompts.jsonl, ignoreFields: [system]}",
        "dataset: {uri: prompts.jsonl, anyModel: true}",
        "dataset: {uri: prompts.jsonl, columns: {carry: none}}",
        "dataset: {uri: prompts.jsonl, template: '{{ question }}'}",
        "results: {includePrompt: true}",
    ],
)
def test_what_affects_the_results_changes_the_hash(spec):
    assert job(spec).spec_hash() != PLAIN


@pytest.mark.parametrize(
    "spec",
    [
        "placement: {gpus: 8, strategy: same}",
        "engine: {name: native}",
        "batching: {maxSequences: 8}",
        "dataset: {uri: prompts.jsonl, errorBudget: 3}",
        "results: {dir: /elsewhere, publish: 's3://b/c', partSize: 1Gi, publishSeconds: 9, publishRetrySeconds: 9, fsyncSeconds: 1, fsyncRows: 1, report: false}",
        "job: {completions: 8, image: other}",
    ],
)
def test_where_and_how_fast_it_runs_does_not(spec):
    assert job(spec).spec_hash() == PLAIN


def test_how_a_drafter_is_run_counts_where_it_decides_on_what_is_drawn():
    def digest(drafter, rule):
        return job(f"{{drafter: {{model: a/b{drafter}}}, decoding: {{acceptanceRule: {rule}}}}}").spec_hash()

    for asked in (", quantization: int8", ", kvDtype: fp8"):
        assert digest(asked, "coupled") == digest("", "coupled")
        assert digest(asked, "rejection") != digest("", "rejection")


def test_kv_in_fp8_is_another_target():
    assert job("target: {model: Qwen/Qwen3-8B, kvDtype: fp8}").spec_hash() != PLAIN
    assert job("target: {model: Qwen/Qwen3-8B, kvDtype: auto}").spec_hash() == PLAIN


def test_the_name_does_not_count():
    assert job(metadata="{name: other, labels: {a: b}}").spec_hash() == PLAIN


def test_options_of_an_engine_count_and_the_order_they_are_written_in_does_not():
    one, other = (
        job(f"engine: {{name: vllm, options: {{{options}}}}}").spec_hash()
        for options in ("a: 1, b: {c: 2}", "b: {c: 2}, a: 1")
    )
    assert one == other != job("engine: {name: vllm}").spec_hash()


def test_every_field_that_may_be_left_out_of_the_hash_is_one_that_stands_in_it():
    fields = {f"{section}.{to_camel(name)}" for section in SECTIONS for name in _fields(section)}
    assert set(NEUTRAL) <= fields | {f"{section}.{name}" for section, names in FIELDS.items() for name in names}


def _fields(section):
    return {"target": TargetSpec, "drafter": DrafterSpec, "decoding": DecodingSpec, "engine": EngineSpec}[
        section
    ].model_fields
