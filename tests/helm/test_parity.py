"""Two doors, one Job: `helm template -f FILE` and `specbatch render FILE` make the same objects of the same file."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from specbatch.api import JobSpec, parse_spec
from specbatch.api.job_section import RUNNER_IMAGE, VLLM_IMAGE
from specbatch.api.words import field_names
from specbatch.cluster.manifests.job import Manifests, render
from specbatch.cluster.manifests.spec_files import load_for_cluster
from specbatch.errors import SpecError
from tests.cluster import any_job
from tests.cluster.any_spec import AnySpec, any_spec
from tests.cluster.kubernetes_schemas import VERSIONS, problems
from tests.cluster.rendering import JOBS, ROOT, RUNNABLE, container
from tests.helm.charts import HELMS, Refused, file_arguments, of_kind, template


def without_helms_own(thing: dict[str, Any]) -> dict[str, Any]:
    """The object without the labels that say who made it."""
    thing = copy.deepcopy(thing)
    assert thing["metadata"]["labels"].pop("app.kubernetes.io/managed-by") in {"Helm", "specbatch"}
    thing["metadata"]["labels"].pop("helm.sh/chart", None)
    return thing


def assert_same(objects: list[dict[str, Any]], made: Manifests) -> None:
    config_map, job = of_kind(objects, "ConfigMap"), of_kind(objects, "Job")
    assert config_map["data"] == made.config_map["data"]
    assert without_helms_own(config_map) == without_helms_own(made.config_map)
    assert without_helms_own(job) == without_helms_own(made.job)


@pytest.mark.parametrize("helm", HELMS)
@pytest.mark.parametrize("path", RUNNABLE, ids=lambda path: path.stem)
def test_files_in_job_are_the_same_job(helm, path):
    job, files = load_for_cluster(str(path), (), name=None, namespace=None, folder=ROOT)
    assert_same(template(helm, "-f", str(path)), render(job, files))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "image"),
    [
        ("engine.name=vllm", VLLM_IMAGE),
        ("target.adapter=/models/adapter", VLLM_IMAGE),
        ("engine.name=native", RUNNER_IMAGE),
    ],
)
def test_a_run_that_vllm_decodes_has_the_image_with_vllm_through_both(tmp_path, change, image):
    spec = yaml.safe_load((ROOT / "job/quickstart.yaml").read_text())
    del spec["spec"]["drafter"], spec["spec"]["decoding"]["numSpeculativeTokens"]
    section, _, value = change.partition("=")
    spec["spec"].setdefault(section.split(".")[0], {})[section.split(".")[1]] = value
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(spec))
    made = render(*load_for_cluster(str(tmp_path / "spec.yaml"), (), name=None, namespace=None, folder=ROOT))
    objects = template("helm4", "-f", str(tmp_path / "spec.yaml"))
    assert container(made)["image"] == image
    assert_same(objects, made)


def test_a_file_that_no_pod_could_run_is_refused_by_both_for_the_same_reason(tmp_path, monkeypatch):
    """From a folder without the models that `make smollm2` writes, which submit alone would see."""
    (path,) = set(JOBS) - set(RUNNABLE)
    (tmp_path / "job").symlink_to(ROOT / "job")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SpecError) as ours:
        render(*load_for_cluster(str(path), (), name=None, namespace=None, folder=tmp_path))
    with pytest.raises(Refused) as theirs:
        template("helm4", "-f", str(path))
    (problem,) = ours.value.problems
    assert f"{problem.path}: {problem.message}; {problem.remedy}" in str(theirs.value)


ODD_VALUES = AnySpec(
    {
        "apiVersion": "specbatch.dev/v1alpha1",
        "kind": "SpecBatchJob",
        "metadata": {"name": "a"},
        "spec": {
            "target": {"model": "Qwen/Qwen3-8B"},
            "dataset": {"uri": "job/prompts/quickstart.jsonl"},
            "results": {},
            "job": {
                "env": {"A": "="},
                "affinity": {"nodeAffinity": {"a": 1e-06}},
                "volumes": {"results": {"claimName": "a"}},
            },
        },
    },
    {},
)


@pytest.mark.slow
@settings(max_examples=40)
@given(any_spec(), st.sampled_from(HELMS))
@example(ODD_VALUES, "helm3")
@example(ODD_VALUES, "helm4")
def test_any_spec_is_the_same_job(tmp_path_factory, spec, helm):
    folder: Path = tmp_path_factory.mktemp("spec")
    (folder / "spec.yaml").write_text(spec.text, encoding="utf-8")
    objects = template(helm, "-f", str(folder / "spec.yaml"), *file_arguments(spec.files, folder))
    assert_same(objects, render(parse_spec(spec.text), spec.contents))


@pytest.mark.slow
@settings(max_examples=12)
@given(any_spec(real=True), st.sampled_from(HELMS))
def test_what_helm_makes_of_any_spec_is_what_every_kubernetes_takes(tmp_path_factory, spec, helm):
    folder: Path = tmp_path_factory.mktemp("spec")
    (folder / "spec.yaml").write_text(spec.text, encoding="utf-8")
    objects = template(helm, "-f", str(folder / "spec.yaml"), *file_arguments(spec.files, folder))
    assert [said for version in VERSIONS for one in objects for said in problems(one, version)] == []


def test_any_spec_knows_every_field_of_the_job_section():
    source = Path(any_job.__file__).read_text(encoding="utf-8")
    assert [name for name in field_names(JobSpec) if name not in source] == []


@pytest.mark.slow
@pytest.mark.parametrize("helm", HELMS)
def test_the_same_file_with_a_change_makes_another_job(helm):
    file = ("-f", str(ROOT / "job/quickstart.yaml"))
    one = of_kind(template(helm, *file), "Job")["metadata"]["name"]
    assert of_kind(template(helm, *file, release="other"), "Job")["metadata"]["name"] == one
    changed = of_kind(template(helm, *file, "--set", "spec.decoding.maxNewTokens=8"), "Job")["metadata"]["name"]
    assert changed != one
    assert changed.startswith("quickstart-")
