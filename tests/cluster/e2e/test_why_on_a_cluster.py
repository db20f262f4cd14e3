"""`why` on real pods: what a cluster really says of the usual accidents is recognised."""

import json

import pytest

from specbatch.cluster.client.kinds import CLAIMS, JOBS, NODES
from tests.cluster.e2e.conftest import claim, eventually

SPEC = "job/quickstart.yaml"
GPU = "nvidia.com/gpu"


def cause_of(specbatch, run, expected, seconds=240):
    """Waits until `why` names one of the expected causes."""

    def named():
        verdict = json.loads(specbatch("why", run, "--output", "json"))
        return verdict if verdict["cause"] in expected else None

    verdict = eventually(named, seconds)
    assert verdict["sentence"]
    assert verdict["remedy"]
    return verdict


def test_sixteen_gpus_are_on_no_node(specbatch, admin, run):
    most = max(int(node["status"]["allocatable"].get(GPU, 0)) for node in admin.list(NODES))
    wanted = max(16, 2 * most)
    specbatch("submit", SPEC, *specbatch.settings(run, placement__gpus=wanted))
    verdict = cause_of(specbatch, run, {"not-enough-gpus", "gpu-resource-unknown", "gpus-taken"})
    assert GPU in verdict["sentence"] + " ".join(verdict["evidence"])


def test_a_secret_that_is_not_there(specbatch, run):
    secret = {"HF_TOKEN": {"name": "no-such-secret", "key": "token"}}
    specbatch("submit", SPEC, "--skip-checks", *specbatch.settings(run, job__secretEnv=secret))
    verdict = cause_of(specbatch, run, {"secret-missing"})
    assert "no-such-secret" in verdict["sentence"]


def test_a_claim_that_is_not_there(specbatch, run):
    specbatch(
        "submit", SPEC, "--skip-checks", *specbatch.settings(run, job__volumes__results__claimName="no-such-claim")
    )
    verdict = cause_of(specbatch, run, {"claim-missing"})
    assert "no-such-claim" in verdict["sentence"]


def test_a_claim_that_no_storage_class_serves(specbatch, admin, run):
    if admin.find(CLAIMS, "unserved") is None:
        admin.create(CLAIMS, claim("unserved", storageClassName="no-such-class"))
    specbatch("submit", SPEC, "--skip-checks", *specbatch.settings(run, job__volumes__results__claimName="unserved"))
    verdict = cause_of(specbatch, run, {"claim-unbound", "storage-class-missing"})
    assert "unserved" in verdict["sentence"]


def test_a_model_that_does_not_exist(specbatch, run):
    settings = specbatch.settings(run, target__model="no-such/model", drafter__model="no-such/drafter")
    specbatch("submit", SPEC, *settings, "--set", "job.env.HF_HUB_OFFLINE='1'")
    specbatch("wait", run, "--timeout", "300", code=1)
    verdict = cause_of(specbatch, run, {"model-missing"})
    assert "no-such/model" in verdict["sentence"] + " ".join(verdict["evidence"])


def test_too_little_memory(specbatch, run):
    settings = specbatch.settings(run, job__resources__limits__memory="96Mi", job__resources__requests__memory="64Mi")
    specbatch("submit", SPEC, *settings, "--set", "job.backoffLimitPerIndex=0")
    verdict = cause_of(specbatch, run, {"out-of-memory-killed"})
    assert "96Mi" in verdict["sentence"] + verdict["remedy"] + " ".join(verdict["evidence"])


def test_a_folder_of_the_node_is_refused_before_anything_is_made(specbatch, admin, run):
    volumes = {"results": {"hostPath": "/tmp/specbatch"}}
    said = specbatch("submit", SPEC, "--skip-checks", *specbatch.settings(run, job__volumes=volumes), code=71)
    assert "hostPath" in said
    assert "PodSecurity" in said
    assert not admin.list(JOBS, labels={"specbatch.dev/run": run})


def test_a_label_that_no_node_has(specbatch, run):
    settings = specbatch.settings(run, job__nodeSelector={"example.com/rack": "42"})
    specbatch("submit", SPEC, "--skip-checks", *settings)
    verdict = cause_of(specbatch, run, {"node-selector"})
    assert "example.com/rack" in verdict["sentence"] + verdict["remedy"] + " ".join(verdict["evidence"])


def test_an_image_that_is_not_there(specbatch, run):
    settings = specbatch.settings(run)
    specbatch("submit", SPEC, *settings, "--set", "job.image=registry.invalid/specbatch/missing:1")
    cause_of(
        specbatch,
        run,
        {"image-not-found", "image-denied", "image-registry-unreachable", "image-pull", "image-never-pull"},
    )


def test_suspended_by_a_person(specbatch, run):
    specbatch("submit", SPEC, *specbatch.settings(run, job__nodeSelector={"example.com/rack": "42"}), "--skip-checks")
    specbatch("suspend", run)
    cause_of(specbatch, run, {"suspended"})


@pytest.mark.parametrize("command", ["status", "events", "list", "doctor"])
def test_a_submitter_with_only_the_role_can_look(specbatch, run, command):
    specbatch("submit", SPEC, *specbatch.settings(run), "--wait")
    assert specbatch(command, *([run] if command in {"status", "events"} else []))
