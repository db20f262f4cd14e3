"""What the chart refuses, and in which words."""

from __future__ import annotations

import base64
import gzip
import json

import jsonschema
import pytest
import yaml
from hypothesis import given, settings

from specbatch.api import parse_spec
from specbatch.cluster.manifests.job import render
from tests.cluster.any_spec import any_spec
from tests.cluster.rendering import JOBS, ROOT
from tests.helm.charts import CHART, HELMS, WITH_SPEC, Refused, of_kind, template

SCHEMA = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
SPEC = """\
apiVersion: specbatch.dev/v1alpha1
kind: SpecBatchJob
metadata: {{name: nightly}}
spec:
  target: {{model: Qwen/Qwen3-8B}}
  dataset: {{uri: {uri}}}
  job: {{volumes: {{results: {{claimName: results}}}}}}
"""
every_helm = pytest.mark.parametrize("name", HELMS)


def valid(data) -> bool:
    return jsonschema.Draft7Validator(SCHEMA).is_valid(data)


def refusal(name: str, *arguments: str) -> str:
    with pytest.raises(Refused) as refused:
        template(name, *arguments)
    return str(refused.value)


def test_the_schema_is_a_schema():
    jsonschema.Draft7Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.stem)
def test_files_in_job_are_valid_values(path):
    assert valid(yaml.safe_load(path.read_text(encoding="utf-8")))


@pytest.mark.slow
@settings(max_examples=25)
@given(any_spec())
def test_any_spec_is_valid_values(spec):
    assert valid(spec.data)


@every_helm
@pytest.mark.parametrize(
    ("setting", "place", "said"),
    [
        ("spec.decoding.maxNewToken=8", "decoding", "maxNewToken"),
        ("spec.drafter.modle=x", "drafter", "modle"),
        ("spec.job.volumes.results.claim=x", "results", "claim"),
        ("persistance.results.create=true", "", "persistance"),
        ("metadata.nam=x", "metadata", "nam"),
        ("spec.placement.gpus=eight", "gpus", "integer"),
        ("spec.target.dtype=float16", "dtype", "bfloat16"),
    ],
)
def test_a_mistake_is_named_with_its_place(name, setting, place, said):
    text = refusal(name, *WITH_SPEC, "--set", setting)
    assert place in text
    assert said in text


@every_helm
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("decoding: {seed: 9223372036854775807}", "seed"),
        ("dataset: {uri: 's3://b/r', limit: 9007199254740993}", "limit"),
        ("job: {affinity: {a: [9007199254740993]}}", "affinity"),
        ("job: {resources: {requests: {memory: 9007199254740993}}}", "memory"),
    ],
)
def test_numbers_that_helm_would_round_are_refused(name, change, said, tmp_path):
    (tmp_path / "more.yaml").write_text(f"spec: {{{change}}}")
    assert said in refusal(name, *WITH_SPEC, "-f", str(tmp_path / "more.yaml"))


def test_the_largest_number_that_helm_keeps_is_kept(tmp_path):
    (tmp_path / "more.yaml").write_text("spec: {decoding: {seed: 9007199254740991}}")
    data = of_kind(template("helm3", *WITH_SPEC, "-f", str(tmp_path / "more.yaml")), "ConfigMap")["data"]
    assert '"seed": 9007199254740991' in data["spec.json"]


@every_helm
@pytest.mark.parametrize(
    "change",
    [
        r'job: {env: {A: "b\x92"}}',
        r'job: {podTemplate: {spec: {a: ["\ufeff"]}}}',
        "job: {env: {y: no}}",
        "job: {affinity: {y: 1}}",
    ],
)
def test_what_helm_would_lose_or_turn_into_something_else_is_refused(name, change, tmp_path):
    (tmp_path / "more.yaml").write_text(f"spec: {{{change}}}")
    assert refusal(name, *WITH_SPEC, "-f", str(tmp_path / "more.yaml"))


def test_every_null_is_a_field_left_out_but_where_it_is_required():
    data = yaml.safe_load((ROOT / "job/quickstart.yaml").read_text(encoding="utf-8"))
    assert valid(data | {"spec": data["spec"] | {"drafter": None, "job": None, "decoding": {"seed": None}}})
    assert not valid(data | {"spec": data["spec"] | {"target": None}})
    assert not valid(data | {"metadata": {"name": None}})


def test_a_spec_needs_its_kind_and_its_name():
    data = yaml.safe_load((ROOT / "job/quickstart.yaml").read_text(encoding="utf-8"))
    for name in ("apiVersion", "kind", "metadata"):
        assert not valid({key: value for key, value in data.items() if key != name})


@every_helm
def test_a_missing_file_is_answered_with_the_argument_that_brings_it(name, tmp_path):
    (tmp_path / "spec.yaml").write_text(SPEC.format(uri="'my/rows.v1,a.jsonl'"))
    (tmp_path / "rows").write_text("row\n")
    said = refusal(name, "-f", str(tmp_path / "spec.yaml"))
    argument = r"files.my/rows\.v1\,a\.jsonl=my/rows.v1\,a.jsonl"
    assert "spec.dataset.uri: my/rows.v1,a.jsonl is to be bundled with the Job" in said
    assert f"--set-file '{argument}'" in said
    taken = argument.partition("=")[0] + f"={tmp_path}/rows"
    objects = template(name, "-f", str(tmp_path / "spec.yaml"), "--set-file", taken)
    assert of_kind(objects, "ConfigMap")["data"]["dataset-rows.v1_a.jsonl"] == "row\n"


@pytest.mark.slow
@every_helm
def test_a_compressed_file_comes_as_base64(name, tmp_path):
    content = gzip.compress(b"row\n" * 99)
    (tmp_path / "spec.yaml").write_text(SPEC.format(uri="rows.jsonl.gz"))
    (tmp_path / "rows").write_bytes(base64.b64encode(content))
    assert r"--set-file 'filesBase64.rows\.jsonl\.gz'=<(base64 -w0 'rows.jsonl.gz')" in refusal(
        name, "-f", str(tmp_path / "spec.yaml")
    )
    objects = template(
        name, "-f", str(tmp_path / "spec.yaml"), "--set-file", rf"filesBase64.rows\.jsonl\.gz={tmp_path}/rows"
    )
    ours = render(parse_spec(SPEC.format(uri="rows.jsonl.gz")), {"rows.jsonl.gz": content})
    assert of_kind(objects, "ConfigMap")["binaryData"] == ours.config_map["binaryData"]
    assert "as base64 on one line" in refusal(
        name, "-f", str(tmp_path / "spec.yaml"), "--set", r"filesBase64.rows\.jsonl\.gz=row"
    )


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        (
            "spec.job.volumes.results=null",
            "spec.job.volumes.results: is not given, and the results would be lost with the pod; set",
        ),
        (
            "spec.results.dir=out",
            "spec.results.dir: out is /out in the pod, and job.volumes.results is mounted at /results; set",
        ),
        (
            "spec.job.volumes.data.claimName=d,spec.dataset.uri=data/x",
            "/data is a read-only volume there; give /data/x",
        ),
        ("spec.job.env.HF_TOKEN=abc", "spec.job.env.HF_TOKEN: looks like a secret"),
        ("spec.job.env.A=hf_0123456789abcdefgh", "spec.job.env.A: looks like a secret"),
        ("spec.job.env.A=-----BEGIN RSA PRIVATE KEY-----", "spec.job.env.A: looks like a secret"),
        ("spec.job.env.DATABASE=postgres://me:pw@db/x", "spec.job.env.DATABASE: looks like a secret"),
        (
            "spec.dataset.uri=https://host/r.jsonl?sv=1&X-Amz-Signature=abc",
            "spec.dataset.uri: holds a signature or token, which whoever may read ConfigMaps would see",
        ),
        (
            "spec.job.podTemplate.spec.volumes[0].name=a,spec.job.podTemplate.spec.volumes[0].hostPath.path=/",
            "volumes[0].hostPath: gives the pod access to its node; leave it out; or set job.allowPrivilegedPodTemplate: true",
        ),
        (
            "spec.job.podTemplate.spec.automountServiceAccountToken=true",
            "spec.job.podTemplate.spec.automountServiceAccountToken: names a service account",
        ),
        (
            "spec.job.podTemplate.spec.securityContext.seccompProfile.type=Unconfined",
            "spec.job.podTemplate.spec.securityContext.seccompProfile.type: gives the pod access to its node",
        ),
    ],
)
def test_what_loses_results_leaks_a_secret_or_takes_privileges_is_refused_in_the_words_of_render(setting, said):
    assert said in refusal("helm4", *WITH_SPEC, "--set", setting)


def test_what_the_schema_leaves_to_the_pod_and_the_api_server_is_rendered():
    setting = "spec.job.parallelism=2,spec.job.volumes.data.claimName=d,spec.job.volumes.data.mountPath=/results"
    job = of_kind(template("helm4", *WITH_SPEC, "--set", setting), "Job")
    assert job["spec"]["parallelism"] == 2
    mounts = [one["mountPath"] for one in job["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]]
    assert mounts.count("/results") == 2  # the API server answers: must be unique


def test_a_pod_template_may_take_privileges_where_the_spec_says_so():
    taken = "spec.job.podTemplate.spec.hostNetwork=true"
    assert "gives the pod access to its node" in refusal("helm4", *WITH_SPEC, "--set", taken)
    made = of_kind(template("helm4", *WITH_SPEC, "--set", f"{taken},spec.job.allowPrivilegedPodTemplate=true"), "Job")
    assert made["spec"]["template"]["spec"]["hostNetwork"] is True


@pytest.mark.parametrize(
    "setting",
    [
        "spec.job.env.TOKENIZERS_PARALLELISM=false",
        "spec.job.env.HF_TOKEN_PATH=/run/token",
        "spec.job.env.DATABASE=postgres://me:$(DB_PASSWORD)@db/x",
        "spec.job.podTemplate.spec.nodeSelector.secret=yes",
        "spec.dataset.uri=https://host/r.jsonl?versionId=3&max_tokens=1",
    ],
)
def test_what_is_no_secret_and_no_privilege_is_taken(setting):
    assert template("helm4", *WITH_SPEC, "--set-string", setting)


def test_a_secret_is_not_repeated_in_its_refusal():
    assert "hf_0123456789" not in refusal("helm4", *WITH_SPEC, "--set", "spec.job.env.A=hf_0123456789abcdefgh")


def test_everything_wrong_comes_at_once():
    said = refusal(
        "helm4", *WITH_SPEC, "--set", "spec.job.volumes.results=null,spec.job.env.HF_TOKEN=x,spec.dataset.uri=x"
    )
    assert "quickstart: 3 problems" in said
