"""A spec as a ConfigMap and an Indexed Job: what everybody who submits relies on."""

from __future__ import annotations

import json

import pytest
import yaml

from specbatch import __version__
from specbatch.api import parse_spec
from specbatch.api.job_section import RUNNER_IMAGE, VLLM_IMAGE
from specbatch.cluster.manifests.canonical import go_json, sha256_of
from specbatch.cluster.manifests.job import Retry, render
from specbatch.cluster.manifests.spec_files import load_for_cluster
from specbatch.cluster.manifests.yaml_text import manifests_text
from specbatch.errors import ExitCode
from tests.cluster.rendering import ROOT, RUNNABLE, container, env, job, pod, rendered


def test_the_job_is_indexed_and_its_pods_run_the_mounted_spec():
    made = rendered("completions: 4\nparallelism: 2\nbackoffLimitPerIndex: 7")
    spec = made.job["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 4, 2)
    assert spec["backoffLimitPerIndex"] == 7
    assert spec["podReplacementPolicy"] == "Failed"
    assert container(made)["command"] == ["python", "-m", "specbatch.runner", "/etc/specbatch/spec.json"]
    assert container(made)["workingDir"] == "/"
    assert container(made)["terminationMessagePolicy"] == "FallbackToLogsOnError"
    assert pod(made)["restartPolicy"] == "Never"


def test_fields_that_the_spec_leaves_out_stand_in_no_manifest():
    made = rendered()
    assert not {"maxFailedIndexes", "activeDeadlineSeconds", "ttlSecondsAfterFinished"} & made.job["spec"].keys()
    assert not {"affinity", "nodeSelector", "serviceAccountName", "runtimeClassName"} & pod(made).keys()
    assert "namespace" not in made.job["metadata"]
    assert None not in made.job["spec"].values()


@pytest.mark.parametrize(
    ("change", "image"),
    [
        ("engine.name=vllm", VLLM_IMAGE),
        ("target.adapter=/models/adapter", VLLM_IMAGE),
        ("engine.name=native", RUNNER_IMAGE),
        ("engine.name=auto", RUNNER_IMAGE),
    ],
)
def test_the_default_image_is_the_one_with_vllm_where_vllm_has_to_decode(change, image):
    file = str(ROOT / "job/quickstart.yaml")
    changes = ["drafter=null", "decoding.numSpeculativeTokens=auto", change]
    own = [*changes, "job.image=registry.example/own:1"]
    for asked, expected in ((changes, image), (own, "registry.example/own:1")):
        made = render(*load_for_cluster(file, asked, name=None, namespace=None, folder=ROOT))
        assert container(made)["image"] == expected


def test_limits_of_the_job_reach_it():
    made = rendered("maxFailedIndexes: 0\nactiveDeadlineSeconds: 60\nttlSecondsAfterFinished: 0")
    assert [
        made.job["spec"][name] for name in ("maxFailedIndexes", "activeDeadlineSeconds", "ttlSecondsAfterFinished")
    ] == [0, 60, 0]


def test_no_pod_has_a_service_account_token_even_with_a_service_account():
    made = rendered("serviceAccountName: cloud-identity")
    assert pod(made)["automountServiceAccountToken"] is False
    assert pod(made)["serviceAccountName"] == "cloud-identity"


def test_the_failure_policy_ignores_disruptions_first_and_knows_every_exit_code_of_the_runner():
    rules = rendered().job["spec"]["podFailurePolicy"]["rules"]
    assert rules[0] == {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    actions = {code: rule["action"] for rule in rules[1:] for code in rule["onExitCodes"]["values"]}
    runner = {int(code) for code in ExitCode} - {ExitCode.DONE, ExitCode.CLUSTER}
    assert actions.keys() == runner
    assert actions[ExitCode.STOPPED] == "Ignore"
    assert {code for code, action in actions.items() if action == "FailJob"} == {64, 65, 66, 70}
    assert {code for code, action in actions.items() if action == "Count"} == {68, 69, 74}
    assert {rule["onExitCodes"]["containerName"] for rule in rules[1:]} == {"runner"}


def test_the_same_spec_has_the_same_name_and_a_changed_one_another():
    assert rendered().name == rendered().name
    assert rendered().name != rendered("completions: 2").name
    assert rendered().name != rendered(metadata="{labels: {team: a}}").name
    assert rendered().name == rendered(metadata="{namespace: elsewhere}").name  # where it runs, not what


def test_the_name_changes_with_the_content_of_a_bundled_file():
    spec = "{dataset: {uri: rows.jsonl}}"
    one, other = (rendered(spec=spec, files={"rows.jsonl": content}) for content in (b"a", b"b"))
    assert one.name != other.name
    assert one.config_map["data"]["dataset-rows.jsonl"] == "a"


def test_the_spec_in_the_config_map_is_the_same_run():
    submitted = job("completions: 3\nresources: {requests: {cpu: 0.5}}", metadata="{annotations: {note: '<&> é'}}")
    text = render(submitted, {}).config_map["data"]["spec.json"]
    read = parse_spec(text)
    assert read == submitted
    assert read.spec_hash() == submitted.spec_hash()


@pytest.mark.parametrize("path", RUNNABLE, ids=lambda path: path.stem)
def test_files_in_job_are_the_same_run_when_read_from_their_config_map(path):
    submitted, files = load_for_cluster(str(path), (), name=None, namespace=None, folder=ROOT)
    made = render(submitted, files)
    assert parse_spec(made.config_map["data"]["spec.json"]) == submitted
    assert made.config_map["data"].keys() == {"spec.json", f"dataset-{submitted.spec.dataset.uri.rpartition('/')[2]}"}


def test_job_and_config_map_say_what_they_hold():
    made = rendered()
    content = {name: made.config_map[name] for name in ("data", "binaryData") if name in made.config_map}
    assert made.config_sha256 == sha256_of(content)
    assert made.name == f"nightly-{made.config_sha256[:10]}" == made.config_map["metadata"]["name"]
    assert made.config_map["immutable"] is True


@pytest.mark.parametrize("name", ["a", "a" * 52, "a" * 39 + "-" + "b" * 12, "1"])
def test_pods_of_the_longest_names_still_have_host_names(name):
    made = render(job(metadata=f"{{name: '{name}'}}"), {}, Retry(99, "x", [0]))
    assert len(f"{made.name}-99999") <= 63
    assert not made.name.startswith("-")
    assert "--" not in made.name.removeprefix(name)


def test_everything_is_labelled_so_that_it_is_found_again():
    made = rendered(metadata="{labels: {team: search, app.kubernetes.io/name: mine}}")
    for labels in (made.job["metadata"]["labels"], made.config_map["metadata"]["labels"]):
        assert labels == {
            "team": "search",
            "app.kubernetes.io/name": "specbatch",
            "app.kubernetes.io/instance": "nightly",
            "app.kubernetes.io/version": __version__,
            "app.kubernetes.io/component": "runner",
            "app.kubernetes.io/part-of": "specbatch",
            "app.kubernetes.io/managed-by": "specbatch",
            "specbatch.dev/run": "nightly",
        }
    pods = made.job["spec"]["template"]["metadata"]["labels"]
    assert pods["specbatch.dev/run"] == "nightly"
    assert "app.kubernetes.io/managed-by" not in pods


def test_a_queue_is_a_label_and_suspend_is_left_to_kueue():
    made = rendered("queueName: team-a")
    assert made.job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team-a"
    assert "suspend" not in made.job["spec"]


def test_a_retry_runs_its_shards_and_only_them():
    made = render(job("completions: 16\nparallelism: 8"), {}, Retry(2, "nightly-0", [3, 7]))
    first = rendered("completions: 16\nparallelism: 8")
    assert made.name == f"{first.name}-r2"
    assert (made.job["spec"]["completions"], made.job["spec"]["parallelism"]) == (2, 2)
    assert env(made)["SPECBATCH_SHARDS"] == "3,7"
    assert made.job["metadata"]["annotations"]["specbatch.dev/shards"] == "3,7"
    assert made.job["metadata"]["annotations"]["specbatch.dev/retry-of"] == "nightly-0"
    assert made.config_map["data"] == first.config_map["data"]  # still a run of 16 shards


def test_rendering_changes_nothing_of_what_it_is_given():
    submitted = job("podTemplate: {spec: {containers: [{name: runner, env: [{name: A, value: b}]}]}}")
    before = submitted.model_dump()
    render(submitted, {}, Retry(2, "x", [0]))
    assert submitted.model_dump() == before


def test_both_texts_are_the_objects():
    made = rendered("completions: 2", metadata="{annotations: {note: \"a\\n- b: '#'\"}}")
    assert list(yaml.safe_load_all(manifests_text(made.objects, "yaml"))) == [made.config_map, made.job]
    assert json.loads(manifests_text(made.objects, "json"))["items"] == [made.config_map, made.job]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1"),
        (0.7, "0.7"),
        (1e-6, "0.000001"),
        (1e-7, "1e-7"),
        (1.5e-9, "1.5e-9"),
        (1e20, "100000000000000000000"),
        (1e21, "1e+21"),
        (1.25e100, "1.25e+100"),
        (-0.0, "-0"),
        ("<&>\u2028é", '"\\u003c\\u0026\\u003e\\u2028é"'),
        ({"b": [], "a": {}}, '{"a":{},"b":[]}'),
    ],
)
def test_json_is_written_as_go_writes_it(value, text):
    assert go_json(value) == text


def test_pretty_json_is_indented_by_two_spaces():
    assert go_json({"b": [1, {}], "a": None}, pretty=True) == '{\n  "a": null,\n  "b": [\n    1,\n    {}\n  ]\n}'
