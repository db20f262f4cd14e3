"""What a single wrong field is answered with."""

from __future__ import annotations

import pytest

from tests.api.specs import MINIMUM, job, problems, text

WRONG = [
    # unknown keys
    ("decoding: {maxNewToken: 3}", "spec.decoding.maxNewToken", "did you mean maxNewTokens?"),
    ("decoding: {max_new_tokens: 3}", "spec.decoding.max_new_tokens", "did you mean maxNewTokens?"),
    ("gpus: 3", "spec.gpus", "did you mean spec.placement.gpus?"),
    ("revision: main", "spec.revision", "did you mean spec.target.revision or spec.drafter.revision or spec.dataset.revision?"),
    ("results: {zzz: 1}", "spec.results.zzz", "known here: dir, partSize, publish"),
    ("job: {tolerations: [{kye: a, operator: Exists}]}", "spec.job.tolerations[0].kye", "did you mean key?"),
    ("job: {secretEnv: {A: {name: s, kye: k}}}", "spec.job.secretEnv.A.kye", "did you mean key?"),
    ("dataset: {url: a}", "spec.dataset.url", "did you mean uri?"),
    # choices
    ("placement: {strategy: multi-gpu-ratio}", "spec.placement.strategy", "did you mean multi_gpu_ratio?"),
    ("target: {model: a, dtype: bf16}", "spec.target.dtype", "did you mean bfloat16?"),
    ("placement: {replicas: atuo}", "spec.placement.replicas", "did you mean auto?"),
    ("placement: {strategy: zzzzzz}", "spec.placement.strategy", 'one of auto, same, separate, multi_gpu_ratio, found "zzzzzz"'),
    ("decoding: {acceptanceRule: null, ignoreEos: 3}", "spec.decoding.ignoreEos", "expected true or false, found 3"),
    # types, in a person's words
    ("placement: {gpus: '8'}", "spec.placement.gpus", "write 8, without quotes"),
    ("placement: {gpus: true}", "spec.placement.gpus", "found true"),
    ("placement: {gpus: 8.0}", "spec.placement.gpus", "found 8.0"),
    ("placement: {gpus: [1, 2]}", "spec.placement.gpus", "found a list of 2 items"),
    ("placement: {gpus: {}}", "spec.placement.gpus", "found a mapping"),
    ("placement: 8", "spec.placement", "a mapping with the fields gpus, strategy"),
    ("target: Qwen/Qwen3-8B", "spec.target", 'write target: {model: "Qwen/Qwen3-8B"}'),
    ("drafter: none", "spec.drafter", "write drafter: null, or leave it out"),
    ("drafter: ngram", "spec.drafter", "write drafter: {method: ngram}"),
    ("drafter: {method: eagle}", "spec.drafter.method", "did you mean eagle3?"),
    ("drafter: {method: medusa}", "spec.drafter.method", "drafters are a model of the same vocabulary"),
    ("drafter: {method: deepseek_mtp}", "spec.drafter.method", "drafter: {method: mtp}"),
    ("target: {model: 8}", "spec.target.model", 'put it in quotes: "8"'),
    ("target: {model: ' a'}", "spec.target.model", "expected a hub id"),
    ("decoding: {stop: x}", "spec.decoding.stop", 'write a list: ["x"]'),
    ("decoding: {stop: ['a', '']}", "spec.decoding.stop[1]", 'text of at least one character, found ""'),
    (f"decoding: {{stop: {list('abcdefghijklmnopq')}}}", "spec.decoding.stop", "at most 16 items"),
    ("decoding: {ignoreEos: 'yes'}", "spec.decoding.ignoreEos", "write true, without quotes"),
    ("decoding: {temperature: hot}", "spec.decoding.temperature", 'a number from 0 to 10, found "hot"'),
    # ranges
    ("placement: {gpus: -1}", "spec.placement.gpus", "from 0 to 64, found -1"),
    ("placement: {replicas: 0}", "spec.placement.replicas", "a whole number from 1 to 1024, or auto, found 0"),
    ("decoding: {topP: 0, temperature: 1}", "spec.decoding.topP", "a number above 0 and at most 1, found 0"),
    ("decoding: {temperature: 11}", "spec.decoding.temperature", "from 0 to 10"),
    ("decoding: {seed: 9223372036854775808}", "spec.decoding.seed", "from 0 to 9223372036854775807"),
    (f"decoding: {{seed: {'9' * 80}}}", "spec.decoding.seed", "found a number of more than 60 digits"),
    ("decoding: {numSpeculativeTokens: 33}", "spec.decoding.numSpeculativeTokens", "from 0 to 32, or auto, found 33"),
    ("dataset: {uri: a, errorBudget: '120%'}", "spec.dataset.errorBudget", 'a share in quotes such as "5%"'),
    ("dataset: {uri: a, limit: 0}", "spec.dataset.limit", "from 1 to"),
    ("dataset: {uri: '  '}", "spec.dataset.uri", "not blank"),
    ("results: {publish: bucket/a}", "spec.results.publish", "a URI such as s3://bucket/path/"),
    ("results: {fsyncSeconds: 0}", "spec.results.fsyncSeconds", "above 0"),
    ("job: {sharedMemory: 8 GB}", "spec.job.sharedMemory", 'a quantity such as 4, "500m" or "16Gi"'),
    ("job: {sharedMemory: true}", "spec.job.sharedMemory", "a quantity"),
    ("job: {env: {A: 1}}", "spec.job.env.A", "expected text, found something else"),
    ("job: {env: {1A: b}}", "spec.job.env", 'the key "1A" is not the name of an environment variable'),
    # required
    ("target: {dtype: auto}", "spec.target.model", "add it, for example: model: Qwen/Qwen3-8B"),
    ("dataset: null", "spec.dataset", "is required"),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "path", "words"), WRONG, ids=[f"{p}-{i}" for i, (_, p, _) in enumerate(WRONG)])
def test_a_wrong_field_is_one_problem_with_path_value_and_remedy(spec, path, words):
    found = problems(text(spec))
    assert [problem.path for problem in found] == [path]
    assert words in str(found[0])


METADATA = [
    ("{name: Nightly}", "metadata.name", "lower-case"),
    (f"{{name: {'a' * 53}}}", "metadata.name", "at most 52"),
    ("{name: a-}", "metadata.name", "no '-' at either end"),
    ("{namespace: a.b}", "metadata.namespace", "at most 63"),
    ("{labels: {a b: c}}", "metadata.labels", 'the key "a b" is not'),
    ("{labels: {a: b c}}", "metadata.labels.a", "a label's value"),
    ("{labels: {example.com/a: true}}", 'metadata.labels["example.com/a"]', 'put it in quotes: "true"'),
    ("{annotations: {-a: x}}", "metadata.annotations", 'the key "-a" is not'),
]


@pytest.mark.parametrize(("metadata", "path", "words"), METADATA)
def test_metadata_keeps_to_the_rules_of_kubernetes(metadata, path, words):
    found = problems(text(metadata=metadata))
    assert [problem.path for problem in found] == [path]
    assert words in str(found[0])


def test_another_kind_of_object_is_answered_as_such_and_not_field_by_field():
    found = problems("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\nspec: {replicas: 3}\n")
    assert [problem.path for problem in found] == ["apiVersion", "kind"]
    assert "expected SpecBatchJob" in found[1].message


def test_null_means_left_out_as_in_kubernetes():
    parsed = job("{placement: null, drafter: null, decoding: {maxNewTokens: null}, job: {env: {}, volumes: null}}")
    assert parsed == job()


def test_null_is_left_out_in_lists_and_mappings_of_ours_too():
    section = job(
        "job: {secretEnv: {A: {name: s, key: k, optional: null}}, tolerations: [{key: a, value: null}]}"
    ).spec.job
    assert section.secret_env["A"].optional is False
    assert section.tolerations[0].value is None


def test_problems_within_a_mapping_that_is_wrong_itself_come_too():
    found = problems(text("job: {env: {1A: b, B: 3}, completions: 0}"))
    assert [problem.path for problem in found] == ["spec.job.completions", "spec.job.env", "spec.job.env.B"]


def test_null_stays_where_the_content_is_free():
    assert job("job: {podTemplate: {spec: {hostname: null}}}").spec.job.pod_template == {"spec": {"hostname": None}}


def test_problems_name_the_line_of_the_field_or_of_what_it_is_missing_from():
    found = problems(MINIMUM + "  decoding:\n    seed: -1\n  drafter: {dtype: auto}\n")
    assert [(problem.path, problem.line) for problem in found] == [
        ("spec.decoding.seed", 8),
        ("spec.drafter.model", 9),
    ]
    assert "(line 8)" in str(found[0])


def test_a_key_that_cannot_be_read_back_is_shown_all_the_same():
    (problem,) = problems(MINIMUM + "  'a\"b': 1\n")
    assert problem.path == 'spec["a\\"b"]'


def test_numbers_are_taken_as_quantities():
    resources = job("job: {resources: {requests: {cpu: 4, memory: 1.5e9}}}").spec.job.resources
    assert resources.requests == {"cpu": "4", "memory": "1500000000"}


def test_specs_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        job().spec.placement.gpus = 3
