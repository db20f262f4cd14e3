"""A real cluster, a namespace of our own in it that enforces the restricted Pod Security level, and a submitter who has the Role of
k8s/ and nothing else: every specbatch command of these tests runs as that submitter.

KUBECONFIG                       an administrator's, of any cluster
SPECBATCH_TEST_IMAGE             an image with specbatch[runner], on the nodes already or to be pulled
SPECBATCH_TEST_STORAGE_CLASS     for the results' claim; left out: the default class
SPECBATCH_TEST_ACCESS_MODE       ReadWriteMany where the class gives it and pods spread over several nodes; else ReadWriteOnce
"""

import os
import secrets
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from specbatch.cluster.client.client import Cluster
from specbatch.cluster.client.kinds import CLAIMS, CONFIG_MAPS, JOBS, NAMESPACES, PODS, Kind
from tests.documents import ROOT

SERVICE_ACCOUNTS = Kind("v1", "serviceaccounts", "ServiceAccount")
ROLES = Kind("rbac.authorization.k8s.io/v1", "roles", "Role")
ROLE_BINDINGS = Kind("rbac.authorization.k8s.io/v1", "rolebindings", "RoleBinding")
CLAIM = "specbatch-results"
SUBMITTER = "specbatch-test-submitter"
_LONG = 600


def pytest_collection_modifyitems(items):
    here = Path(__file__).parent
    for item in items:
        if here in Path(item.path).parents:
            item.add_marker(pytest.mark.cluster)
            if not os.environ.get("SPECBATCH_TEST_IMAGE"):
                item.add_marker(pytest.mark.skip(reason="set SPECBATCH_TEST_IMAGE to an image with specbatch[runner]"))


@pytest.fixture(scope="session")
def image():
    return os.environ["SPECBATCH_TEST_IMAGE"]


@pytest.fixture(scope="session")
def namespace():
    return f"specbatch-test-{secrets.token_hex(3)}"


@pytest.fixture(scope="session")
def admin(namespace):
    """The administrator, in the namespace that is made for the tests and taken away after them."""
    cluster = Cluster.connect(kubeconfig=os.environ["KUBECONFIG"].split(os.pathsep)[0], namespace=namespace)
    labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn", "audit")}
    cluster.create(
        NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}}
    )
    try:
        cluster.create(CLAIMS, claim(CLAIM))
        eventually(lambda: cluster.find(SERVICE_ACCOUNTS, "default"))  # a controller makes it
        yield cluster
    finally:
        if not os.environ.get("SPECBATCH_TEST_KEEP"):
            cluster.delete(NAMESPACES, namespace)


def claim(name, **spec):
    storage_class = os.environ.get("SPECBATCH_TEST_STORAGE_CLASS")
    wanted = {
        "accessModes": [os.environ.get("SPECBATCH_TEST_ACCESS_MODE", "ReadWriteOnce")],
        "resources": {"requests": {"storage": "1Gi"}},
        **({"storageClassName": storage_class} if storage_class else {}),
        **spec,
    }
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": wanted}


def the_role():
    """The Role of k8s/, as an administrator applies it."""
    for path in sorted((ROOT / "k8s").rglob("*.yaml")):
        for one in yaml.safe_load_all(path.read_text()):
            if one and one.get("kind") == "Role":
                return one
    raise AssertionError("k8s/ holds no Role")


@pytest.fixture(scope="session")
def submitter(admin, namespace, tmp_path_factory):
    """The path of a kubeconfig that may do what the Role of k8s/ allows, in the test's namespace."""
    role = the_role()
    role["metadata"] = {"name": role["metadata"]["name"]}
    admin.create(ROLES, role)
    admin.create(SERVICE_ACCOUNTS, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": SUBMITTER}})
    admin.create(
        ROLE_BINDINGS,
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": SUBMITTER},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role["metadata"]["name"]},
            "subjects": [{"kind": "ServiceAccount", "name": SUBMITTER, "namespace": namespace}],
        },
    )
    path = tmp_path_factory.mktemp("kube") / "submitter.yaml"
    path.write_text(yaml.safe_dump(_with_token(_token(admin), namespace)))
    return path


def _token(admin):
    request = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "metadata": {"name": ""},
        "spec": {"expirationSeconds": 7200},
    }
    return admin.create(Kind("v1", f"serviceaccounts/{SUBMITTER}/token", "TokenRequest"), request)["status"]["token"]


def _with_token(token, namespace):
    """The administrator's kubeconfig with another user."""
    config = yaml.safe_load(Path(os.environ["KUBECONFIG"].split(os.pathsep)[0]).read_text())
    current = next(one for one in config["contexts"] if one["name"] == config["current-context"])
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [one for one in config["clusters"] if one["name"] == current["context"]["cluster"]],
        "users": [{"name": SUBMITTER, "user": {"token": token}}],
        "contexts": [
            {
                "name": "submitter",
                "context": {"cluster": current["context"]["cluster"], "user": SUBMITTER, "namespace": namespace},
            }
        ],
        "current-context": "submitter",
    }


class Commands:
    """specbatch as the submitter calls it, in the root of the checkout, where job/ is."""

    def __init__(self, kubeconfig, image):
        self._environment = {**os.environ, "KUBECONFIG": str(kubeconfig), "OMP_NUM_THREADS": "1"}
        self.image = image

    def start(self, *arguments):
        return subprocess.Popen(
            [sys.executable, "-m", "specbatch", *map(str, arguments)],
            cwd=ROOT,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *arguments, code=0, timeout=_LONG):
        """What a command prints, and where it fails what it complains of too; its exit code must be `code`."""
        process = self.start(*arguments)
        output, complaints = process.communicate(timeout=timeout)
        said = f"specbatch {' '.join(map(str, arguments))}: {process.returncode}\n{output}\n{complaints}"
        assert process.returncode == code, said
        return output if code == 0 else output + complaints

    def settings(self, run, **more):
        """--set options of a run on this cluster: its image, little memory, and whatever else."""
        values = {
            "metadata.name": run,
            "job.image": self.image,
            "job.resources.requests.cpu": "100m",
            "job.resources.requests.memory": "512Mi",
            **{path.replace("__", "."): value for path, value in more.items()},
        }
        return [word for path, value in values.items() for word in ("--set", f"{path}={yaml_flow(value)}")]


def yaml_flow(value):
    return yaml.safe_dump(value, default_flow_style=True, width=10_000).strip().removesuffix("...").strip()


@pytest.fixture
def specbatch(submitter, image):
    return Commands(submitter, image)


@pytest.fixture
def run(admin, request):
    """A run's name; what is left of it in the cluster goes away after the test."""
    name = "t-" + secrets.token_hex(3)
    yield name
    for kind in (JOBS, CONFIG_MAPS, PODS):
        for thing in admin.list(kind, labels={"specbatch.dev/run": name}):
            admin.delete(kind, thing["metadata"]["name"])


def eventually(look, seconds=180, every=1.0):
    """The first true answer of `look`."""
    ends = time.monotonic() + seconds
    while not (answer := look()):
        assert time.monotonic() < ends, f"{look} gave {answer!r} for {seconds} s"
        time.sleep(every)
    return answer
