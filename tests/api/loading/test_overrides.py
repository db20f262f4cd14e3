from __future__ import annotations

import pytest

from specbatch.api import parse_spec
from specbatch.errors import SpecError
from tests.api.specs import MINIMUM, problems, text


def changed(*overrides: str):
    return parse_spec(MINIMUM, "test.yaml", overrides)


def test_a_field_is_changed_with_and_without_the_leading_spec():
    assert changed("spec.decoding.maxNewTokens=64").spec.decoding.max_new_tokens == 64
    assert changed("decoding.maxNewTokens=64").spec.decoding.max_new_tokens == 64
    assert changed("metadata.name=other").metadata.name == "other"


def test_the_last_of_two_wins():
    assert changed("decoding.seed=1", "decoding.seed=2").spec.decoding.seed == 2


def test_values_are_yaml_or_json():
    assert changed('decoding.stop=["a", b]').spec.decoding.stop == ["a", "b"]
    assert changed("drafter={method: ngram}").spec.drafter.method == "ngram"
    assert changed("decoding.ignoreEos=true").spec.decoding.ignore_eos is True
    assert changed("decoding.temperature=1e-1").spec.decoding.temperature == 0.1
    assert changed("dataset.errorBudget=5%").spec.dataset.error_budget == "5%"


def test_text_fields_take_the_text_itself():
    assert changed("target.revision=1234567").spec.target.revision == "1234567"
    assert changed("dataset.systemPrompt=Answer: yes").spec.dataset.system_prompt == "Answer: yes"
    assert changed("dataset.systemPrompt=[INST").spec.dataset.system_prompt == "[INST"
    assert changed("dataset.systemPrompt='quoted'").spec.dataset.system_prompt == "quoted"
    assert changed("dataset.systemPrompt=").spec.dataset.system_prompt == ""
    assert changed("dataset.uri=s3://b/a?x=1").spec.dataset.uri == "s3://b/a?x=1"


def test_null_puts_a_field_back_to_its_default():
    assert changed("decoding.seed=3", "decoding.seed=null").spec.decoding.seed == 0
    assert changed("drafter.method=ngram", "drafter=null").spec.drafter is None


def test_lists_are_reached_by_index_and_grow_by_one():
    stops = ("decoding.stop=[a, b]", "decoding.stop[1]=c", "decoding.stop.2=d")
    assert changed(*stops).spec.decoding.stop == ["a", "c", "d"]
    toleration = changed("job.tolerations[0].key=gpu", "job.tolerations[0].operator=Exists").spec.job.tolerations[0]
    assert toleration.key == "gpu"


def test_keys_with_dots_are_quoted_or_escaped():
    labels = changed('metadata.labels["example.com/a"]=x', r"metadata.labels.example\.com/b=y").metadata.labels
    assert labels == {"example.com/a": "x", "example.com/b": "y"}


def test_free_parts_are_reached_too():
    template = changed("job.podTemplate.spec.containers[0].name=runner").spec.job.pod_template
    assert template == {"spec": {"containers": [{"name": "runner"}]}}


BAD = [
    ("decoding.seed", "--set decoding.seed", "write --set PATH=VALUE"),
    ("=3", "--set ", "is not a path"),
    ("decoding..seed=3", "--set decoding..seed", "is not a path"),
    ("decoding.seed=[1", "--set decoding.seed", "write YAML or JSON"),
    ("placement.ratio={target:1,drafter:1}", "--set placement.ratio", "write '{target: 1,drafter: 1}'"),
    ("metadata.name.x=3", "--set metadata.name.x", "metadata.name is a value and has nothing inside"),
    ("decoding.stop[3]=a", "--set decoding.stop[3]", "spec.decoding.stop has 0 items"),
    ("decoding.sede=3", "spec.decoding.sede", "did you mean seed?"),
    ("decodign.seed=3", "spec.decodign", "did you mean decoding?"),
    ("decoding.seed=x", "spec.decoding.seed", 'expected a whole number from 0 to 9223372036854775807, found "x"'),
]


@pytest.mark.parametrize(("override", "path", "words"), BAD)
def test_a_wrong_override_is_answered_with_its_path(override, path, words):
    (problem,) = problems(MINIMUM, (override,))
    assert problem.path == path
    assert words in str(problem)
    assert problem.line is None  # it stands on the command line


def test_a_name_within_a_list_is_answered_with_an_index():
    (problem,) = problems(MINIMUM, ("decoding.stop=[a]", "decoding.stop.x=b"))
    assert problem.remedy == "write spec.decoding.stop[0]"


@pytest.mark.parametrize(
    "placement",
    [
        "{gpus: 0}",
        "{gpus: 1, strategy: same}",
        "{gpus: 8, strategy: same, replicas: 8}",
        "{gpus: 2, strategy: separate}",
        "{gpus: 8, strategy: separate, replicas: 4}",
        "{gpus: 8, strategy: multi_gpu_ratio, ratio: {target: 6, drafter: 2}}",
        "{gpus: 4, strategy: auto}",
    ],
)
def test_drafter_null_is_enough_for_the_target_alone(placement):
    written = text(f"{{placement: {placement}, drafter: {{model: b}}, decoding: {{numSpeculativeTokens: 4}}}}")
    for path in ("drafter", "spec.drafter"):
        found = parse_spec(written, overrides=[f"{path}=null"]).spec
        assert found.drafter is None
        assert found.decoding.num_speculative_tokens == "auto"
        assert found.placement.strategy in {"same", "auto"}
        assert found.placement.gpus == parse_spec(written).spec.placement.gpus


def test_what_is_set_beside_drafter_null_is_judged():
    written = text("{placement: {gpus: 2, strategy: separate}, drafter: {model: b}}")
    with pytest.raises(SpecError, match="there is no drafter"):
        parse_spec(written, overrides=["drafter=null", "placement.strategy=separate"])
    found = parse_spec(written, overrides=["drafter=null", "placement.strategy=same", "placement.replicas=2"])
    assert found.spec.placement.replicas == 2
