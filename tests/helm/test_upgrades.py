"""`helm upgrade` looks at the cluster before it deletes a Job: one whose results the new Job could not go on with stays."""

import http.server
import json
import threading

import pytest
import yaml

from tests.cluster.submitting import FILES, SPEC, rendered
from tests.helm.charts import CHART, Refused, run_helm

VERSIONS = {"major": "1", "minor": "36", "gitVersion": "v1.36.0"}
CONFIG_MAPS = {
    "name": "configmaps",
    "singularName": "",
    "namespaced": True,
    "kind": "ConfigMap",
    "verbs": ["get", "list"],
}

JOBS = {"name": "jobs", "singularName": "", "namespaced": True, "kind": "Job", "verbs": ["get", "list"]}
BATCH = {"name": "batch", "versions": [{"groupVersion": "batch/v1", "version": "v1"}]}


@pytest.fixture
def cluster(tmp_path):
    """As much of an API server as Helm's lookup asks: it has one run. Its kubeconfig."""
    items = [rendered("results.dir=/results").config_map]
    answers = {
        "/version": VERSIONS,
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": [BATCH]},
        "/apis/batch/v1": {"kind": "APIResourceList", "groupVersion": "batch/v1", "resources": [JOBS]},
        "/api/v1": {"kind": "APIResourceList", "groupVersion": "v1", "resources": [CONFIG_MAPS]},
        "/api/v1/namespaces/default/configmaps": {
            "kind": "ConfigMapList",
            "apiVersion": "v1",
            "metadata": {},
            "items": items,
        },
    }

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            answer = answers.get(self.path.partition("?")[0])
            data = json.dumps(answer or {"kind": "Status", "status": "Failure", "code": 404}).encode()
            self.send_response(200 if answer else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        config = {
            "apiVersion": "v1", "kind": "Config", "current-context": "x", "users": [{"name": "x", "user": {}}],
            "clusters": [{"name": "x", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
            "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x", "namespace": "default"}}],
        }  # fmt: skip
        (tmp_path / "kubeconfig").write_text(json.dumps(config))
        yield tmp_path / "kubeconfig"
        server.shutdown()


@pytest.fixture
def upgraded(cluster, tmp_path):
    (tmp_path / "spec.yaml").write_text(SPEC)
    (tmp_path / "prompts.jsonl").write_bytes(FILES["prompts.jsonl"])

    def upgrade(*sets):
        settings = [
            word for one in ("spec.results.dir=/results", "tests.enabled=false", *sets) for word in ("--set", one)
        ]
        text, _ = run_helm(
            "helm4", "template", "rel", str(CHART), "--dry-run=server", "--is-upgrade", "--disable-openapi-validation", "-f", str(tmp_path / "spec.yaml"),
            "--set-file", f"files.prompts\\.jsonl={tmp_path}/prompts.jsonl", *settings, kubeconfig=str(cluster),
        )  # fmt: skip
        return [one for one in yaml.safe_load_all(text) if one and one["kind"] == "Job"]

    return upgrade


@pytest.mark.slow
def test_an_upgrade_that_would_meet_another_runs_results_is_refused(upgraded):
    with pytest.raises(Refused, match=r"spec.decoding changed: the new Job would find the results of another run"):
        upgraded("spec.decoding.maxNewTokens=128")
    with pytest.raises(Refused, match=r"spec.dataset.limit changed"):
        upgraded("spec.dataset.limit=1")


@pytest.mark.slow
@pytest.mark.parametrize(
    "sets", [(), ("spec.job.completions=5",), ("spec.decoding.maxNewTokens=128", "spec.results.name=nightly-2")]
)
def test_an_upgrade_that_goes_on_or_starts_elsewhere_is_not(upgraded, sets):
    assert upgraded(*sets)
