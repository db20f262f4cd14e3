"""Models fetched onto a claim of a real cluster, from a hub that is a pod of it; then a run that asks no hub."""

import time

import pytest

from specbatch.cluster.client.kinds import CLAIMS, CONFIG_MAPS, JOBS, PODS
from tests.cluster.e2e.conftest import claim, eventually
from tests.documents import ROOT

SPEC = "job/quickstart.yaml"
PORT = 8080
# The hub of the tests, with the demonstration pair of the image under names of the hub.
HUB = f"""
import socket, sys, time
from pathlib import Path
sys.path.insert(0, "/hub")
from http.server import ThreadingHTTPServer
import specbatch
from tests import web
web._Server.__init__ = lambda self, address, handler: ThreadingHTTPServer.__init__(self, ("0.0.0.0", {PORT}), handler)
from tests.hub_server import serving_hub
shelf = Path(specbatch.__file__).parent / "embedded"
files = lambda role: {{path.name: path.read_bytes() for path in (shelf / role).iterdir()}}
with serving_hub({{"org/target": files("target"), "org/drafter": files("drafter")}}):
    time.sleep(3600)
"""


@pytest.fixture
def hub(admin, image, run):
    """The URL of a hub in the cluster."""
    name, labels = f"{run}-hub", {"specbatch.dev/run": run}
    code = {"web.py": "tests/web.py", "hub_server.py": "tests/hub_server.py"}
    data = {"__init__.py": "", **{key: (ROOT / path).read_text() for key, path in code.items()}}
    admin.create(CONFIG_MAPS, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels}, "data": data})  # fmt: skip
    container = {
        "name": "hub",
        "image": image,
        "command": ["python", "-c", HUB],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "code", "mountPath": "/hub/tests"}],
    }
    spec = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [{"name": "code", "configMap": {"name": name}}],
    }
    admin.create(PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec})
    pod = eventually(lambda: next((one for one in [admin.get(PODS, name)] if one.get("status", {}).get("podIP")), None))
    eventually(lambda: admin.get(PODS, name)["status"]["phase"] == "Running")
    time.sleep(2)  # until it listens
    address = pod["status"]["podIP"]
    return f"http://{f'[{address}]' if ':' in address else address}:{PORT}"


@pytest.fixture
def models(admin, run):
    """A claim for models, gone after the test."""
    name = f"{run}-models"
    admin.create(CLAIMS, claim(name))
    yield name
    for job in admin.list(JOBS, labels={"specbatch.dev/run": f"{run}-fetch"}):
        admin.delete(JOBS, job["metadata"]["name"])
    admin.delete(CLAIMS, name)


def settings(specbatch, run, models, **more):
    return specbatch.settings(
        run,
        target__model="org/target",
        drafter__model="org/drafter",
        job__volumes={"results": {"claimName": "specbatch-results"}, "modelCache": {"claimName": models, "readOnly": True}},
        **more,
    )  # fmt: skip


def test_models_are_fetched_once_and_pods_start_without_the_hub(specbatch, admin, namespace, run, hub, models):
    fetch = ["fetch", SPEC, "-n", namespace, *settings(specbatch, run, models, job__env={"HF_ENDPOINT": hub})]
    said = specbatch(*fetch)
    assert "org/target@" in said
    assert f"the models are on claim {models}" in said
    admin.delete(PODS, f"{run}-hub")
    specbatch("submit", SPEC, "-n", namespace, *settings(specbatch, run, models), "--wait")
    assert f"{run}-fetch" not in specbatch("list", "-n", namespace)


def test_a_hub_that_is_not_there_fails_the_fetch_with_the_cause(specbatch, namespace, run, models):
    nowhere = {"HF_ENDPOINT": "http://127.0.0.1:9"}
    template = {"spec": {"containers": [{"name": "runner", "env": [{"name": "HF_HUB_ETAG_TIMEOUT", "value": "1"}]}]}}
    given = settings(specbatch, run, models, job__env=nowhere, job__podTemplate=template, target__revision="main")
    process = specbatch.start("fetch", SPEC, "-n", namespace, *given)
    eventually(lambda: "out of reach" in specbatch("logs", f"{run}-fetch", "-n", namespace), seconds=120)
    process.kill()
    process.communicate()
    specbatch("delete", f"{run}-fetch", "-n", namespace, "--yes")
