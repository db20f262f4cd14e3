"""Which cluster is meant and with what credentials: every mistake in a kubeconfig is one clear sentence."""

import json
import sys
from pathlib import Path

import kubernetes.config.incluster_config as library
import pytest

from specbatch.cluster.client import config as client_config
from specbatch.cluster.client.client import Cluster
from specbatch.errors import ClusterError

PLUGIN = """#!{python}
import json, os, pathlib
runs = pathlib.Path({folder!r}, "runs")
runs.write_text(runs.read_text() + "x" if runs.exists() else "x")
token = pathlib.Path({folder!r}, "token").read_text()
status = {{"token": token, "expirationTimestamp": {expires!r}}}
print(json.dumps({{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}}))
"""


@pytest.fixture(autouse=True)
def nowhere(monkeypatch, tmp_path):
    """No kubeconfig, no pod."""
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def written(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def config(context="a", *, server="https://a.example:6443", user=None, namespace=None, current=True):
    return {
        "current-context": context if current else "",
        "contexts": [{"name": context, "context": {"cluster": context, "user": context, "namespace": namespace}}],
        "clusters": [{"name": context, "cluster": {"server": server}}],
        "users": [{"name": context, "user": {"token": "t"} if user is None else user}],
    }


def login(folder, *, expires="2099-01-01T00:00:00Z", token="a-token"):
    """A login program."""
    program = folder / "login"
    program.write_text(PLUGIN.format(python=sys.executable, folder=str(folder), expires=expires))
    program.chmod(0o755)
    (folder / "token").write_text(token)
    return {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": str(program),
            "installHint": "get  it\nthere",
        }
    }


def told(**arguments):
    with pytest.raises(ClusterError) as caught:
        Cluster.connect(**arguments)
    return caught.value


def authorization(cluster):
    return cluster._connection.headers().get("authorization")


def test_no_kubeconfig_at_all_is_told(tmp_path):
    error = told()
    assert "there is no ~/.kube/config, and KUBECONFIG is not set" in str(error)
    assert error.exit_code == 71


def test_a_kubeconfig_that_is_named_but_not_there_is_told(monkeypatch, tmp_path):
    assert "/none: no such kubeconfig" in str(told(kubeconfig=str(tmp_path / "none")))
    monkeypatch.setenv("KUBECONFIG", "/no/such")
    assert "KUBECONFIG names /no/such, which does not exist" in str(told())


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("a: [", "the kubeconfig is not YAML"),
        ("just text", "not a kubeconfig"),
        ("contexts: [1]", "contexts is malformed"),
        ("contexts: 7", "contexts is malformed"),
        ("", "has no current-context"),
        (config(current=False), "has no current-context"),
        ({**config(), "clusters": []}, "context a names the cluster a, which has no server"),
        (config(server=""), "context a names the cluster a, which has no server"),
        (config(user={}), "context a: its user has no credentials in the kubeconfig"),
        ({**config(), "users": []}, "context a: its user has no credentials in the kubeconfig"),
        (config(user={"tokenFile": "/no/such/token"}), "its credentials cannot be used"),
        (config(user={"client-certificate": "/no/cert", "client-key": "/no/key"}), "its credentials cannot be used"),
        (config(user={"auth-provider": {"name": "gcp", "config": {}}}), "its credentials cannot be used"),
        (
            config(user={"exec": {"command": "no-such-login"}}),
            "the program that logs in, no-such-login, is not installed",
        ),
        (config(user={"exec": {"command": "false", "apiVersion": "v1"}}), "false gives no credentials"),
    ],
)
def test_a_broken_kubeconfig_is_one_clear_sentence_with_a_remedy(tmp_path, capfd, content, sentence):
    error = told(kubeconfig=written(tmp_path / "config", content))
    assert sentence in str(error)
    assert error.remedy
    assert capfd.readouterr() == ("", "")  # the library logs what it swallows


def test_a_kubeconfig_that_may_not_be_read_is_told(tmp_path):
    (tmp_path / "config").mkdir()
    assert "the kubeconfig cannot be read: Is a directory" in str(told(kubeconfig=str(tmp_path / "config")))


def test_an_unknown_context_is_told_with_the_nearest(tmp_path):
    path = written(tmp_path / "config", config("production"))
    assert told(kubeconfig=path, context="prodution").remedy == "did you mean production?"
    assert told(kubeconfig=path, context="x").remedy == "there are: production"


def test_the_namespace_is_ones_own_else_the_contexts_else_default(tmp_path):
    path = written(tmp_path / "config", config(namespace="team"))
    assert Cluster.connect(kubeconfig=path).namespace == "team"
    assert Cluster.connect(kubeconfig=path, namespace="mine").namespace == "mine"
    assert Cluster.connect(kubeconfig=written(tmp_path / "other", config())).namespace == "default"


def test_several_kubeconfigs_are_one_and_the_first_to_say_a_thing_has_it(monkeypatch, tmp_path):
    first = written(tmp_path / "first", config("a"))
    second = written(tmp_path / "second", config("b", server="https://b.example"))
    monkeypatch.setenv("KUBECONFIG", f"{first}:{tmp_path / 'none'}:{second}")
    assert (Cluster.connect().context, Cluster.connect().server) == ("a", "https://a.example:6443")
    assert Cluster.connect(context="b").server == "https://b.example"


def test_the_kubeconfig_at_home_is_found(tmp_path):
    written(tmp_path / ".kube" / "config", config())
    assert Cluster.connect().context == "a"


def test_a_plain_http_server_needs_no_credentials(tmp_path):
    path = written(tmp_path / "config", config(server="http://127.0.0.1:8001", user={}))
    assert Cluster.connect(kubeconfig=path).server == "http://127.0.0.1:8001"


def test_the_token_is_sent_with_every_request(api):
    assert api.cluster().version()
    api.token = "another"
    with pytest.raises(ClusterError, match="the credentials of context test are not accepted") as caught:
        api.cluster().version()
    assert (caught.value.status, caught.value.reason) == (401, "Unauthorized")


def test_a_token_that_was_renewed_meanwhile_is_taken(api):
    cluster = api.cluster()
    cluster.version()
    api.token = "renewed"
    api.write_kubeconfig(token="renewed")
    assert cluster.version()


def test_a_token_file_that_was_rotated_is_read_again(api, tmp_path):
    token = tmp_path / "token"
    token.write_text("a-token")
    api.write_kubeconfig(tokenFile=str(token))
    cluster = api.cluster()
    cluster.version()
    api.token = "rotated"
    token.write_text("rotated")
    assert cluster.version()


def test_a_login_program_is_run_once_for_many_requests_and_again_when_its_token_runs_out(api, tmp_path):
    api.write_kubeconfig(**login(tmp_path))
    cluster = api.cluster()
    for _ in range(3):
        cluster.version()
    assert (tmp_path / "runs").read_text() == "x"
    api.write_kubeconfig(**login(tmp_path, expires="2020-01-01T00:00:00Z"))
    cluster = api.cluster()
    api.token = "new"
    (tmp_path / "token").write_text("new")
    runs = len((tmp_path / "runs").read_text())
    api.requests.clear()
    cluster.version()
    assert len(api.requests) == 1  # renewed before it was refused
    assert len((tmp_path / "runs").read_text()) == runs + 1


def test_a_login_program_is_run_again_when_its_token_is_refused(api, tmp_path):
    api.write_kubeconfig(**login(tmp_path))
    cluster = api.cluster()
    api.token = "new"
    (tmp_path / "token").write_text("new")
    assert cluster.version()


def test_a_login_program_that_is_not_installed_is_told_with_its_own_hint(tmp_path):
    user = {"exec": {"command": "no-such-login", "apiVersion": "v1", "installHint": "get  it\nthere"}}
    assert told(kubeconfig=written(tmp_path / "config", config(user=user))).remedy == "get it there"


def test_what_a_login_program_says_when_it_fails_is_told(tmp_path):
    program = tmp_path / "login"
    program.write_text("#!/bin/sh\necho 'please run: cloud login' >&2; exit 3\n")
    program.chmod(0o755)
    user = {"exec": {"command": "./login", "apiVersion": "client.authentication.k8s.io/v1"}}
    assert "please run: cloud login" in str(told(kubeconfig=written(tmp_path / "config", config(user=user))))


def test_a_proxy_of_the_kubeconfig_is_used(api):
    content = api.config()
    content["clusters"][0]["cluster"] = {"server": "http://cluster.example", "proxy-url": api.url}
    Path(api.kubeconfig).write_text(json.dumps(content))
    assert api.cluster().version()


def test_loopback_is_reached_without_the_proxy_of_the_environment(api, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert api.cluster().version()


def test_in_a_pod_the_clusters_own_api_is_meant(monkeypatch, tmp_path):
    for name, content in (("token", "pod-token"), ("ca.crt", "x"), ("namespace", "team\n")):
        (tmp_path / name).write_text(content)
    monkeypatch.setattr(client_config, "SERVICE_ACCOUNT", tmp_path)
    monkeypatch.setattr(library, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(library, "SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    # A certificate that is none fails when the connection is made, not here.
    cluster = Cluster.connect()
    assert (cluster.context, cluster.namespace, cluster.server) == ("in-cluster", "team", "https://10.0.0.1:443")
    assert authorization(cluster) == "bearer pod-token"
    assert "no cluster to talk to" in str(told(context="other"))
    path = written(tmp_path / "config", config())
    assert Cluster.connect(kubeconfig=path).context == "a"
