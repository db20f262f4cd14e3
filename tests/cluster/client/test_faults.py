"""When the API server refuses, fails, or is not there: what is tried again, and what people are told."""

import ssl

import pytest
import urllib3

from specbatch.cluster.client import connection as client_connection
from specbatch.cluster.client.client import Cluster
from specbatch.cluster.client.errors import Call, unreachable
from specbatch.cluster.client.kinds import CONFIG_MAPS, JOBS, NODES, PODS
from specbatch.cluster.client.retry_policy import RetryPolicy
from specbatch.errors import ClusterError, ExitCode


def config_map(name="one", **metadata):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, **metadata}, "data": {"a": "1"}}


def told(call):
    with pytest.raises(ClusterError) as caught:
        call()
    return caught.value


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_failure_that_passes_is_not_seen(api, status):
    api.put(CONFIG_MAPS, config_map())
    cluster = api.cluster()
    for method in ("GET", "POST", "PATCH", "DELETE"):
        api.fail(method, "/configmaps", status=status, times=2)
    assert cluster.get(CONFIG_MAPS, "one")["data"] == {"a": "1"}
    assert cluster.create(CONFIG_MAPS, config_map("two"))["metadata"]["name"] == "two"
    assert cluster.patch(CONFIG_MAPS, "one", {"data": {"a": "2"}})["data"] == {"a": "2"}
    cluster.delete(CONFIG_MAPS, "one")
    assert len(api.requests) == 12
    assert api.time.waits == [0.25, 0.5] * 4


def test_waits_grow_until_half_a_minute_has_passed_and_the_error_says_what_failed(api):
    cluster = api.cluster()
    cluster.version()
    api.fail("GET", "/jobs", status=503, reason="ServiceUnavailable", message="etcd is away", times=99)
    error = told(lambda: cluster.get(JOBS, "one"))
    assert api.time.waits == [0.25, 0.5, 1, 2, 4, 8, 8]
    assert (error.status, error.reason, error.exit_code) == (503, "ServiceUnavailable", ExitCode.CLUSTER)
    assert "failed to get jobs (HTTP 503): etcd is away" in str(error)


def test_the_server_is_waited_for_as_long_as_it_asks(api):
    api.fail("GET", "/nodes", status=429, retry_after=7)
    api.put(NODES, {"metadata": {"name": "node"}})
    cluster = api.cluster()
    cluster.version()
    assert len(cluster.list(NODES)) == 1
    assert api.time.waits == [7.0]


def test_a_server_that_asks_for_an_hour_is_not_waited_for(api):
    api.fail("GET", "/nodes", status=429, retry_after=3600)
    assert told(lambda: api.cluster().list(NODES)).status == 429
    assert api.time.waits == []


@pytest.mark.parametrize("status", [400, 403, 404, 409, 413, 422])
def test_a_refusal_is_told_at_once(api, status):
    api.fail("POST", "/jobs", status=status)
    error = told(lambda: api.cluster().create(JOBS, {"metadata": {"name": "one"}}))
    assert error.status == status
    assert len(api.requests) == 1


def test_a_lost_connection_is_not_seen(api):
    api.put(CONFIG_MAPS, config_map())
    cluster = api.cluster()
    for method in ("GET", "POST", "PATCH"):
        api.fail(method, "/configmaps", drop="before", times=2)
    assert cluster.get(CONFIG_MAPS, "one")["data"] == {"a": "1"}
    assert cluster.create(CONFIG_MAPS, config_map("two"))["metadata"]["name"] == "two"
    assert cluster.patch(CONFIG_MAPS, "one", {"data": {"a": "2"}})["data"] == {"a": "2"}


def test_a_lost_answer_to_create_is_told_as_already_exists_for_the_caller_to_judge(api):
    api.fail("POST", "/configmaps", drop="after")
    error = told(lambda: api.cluster().create(CONFIG_MAPS, config_map()))
    assert (error.status, error.reason) == (409, "AlreadyExists")
    assert "ConfigMap one in namespace default exists already" in str(error)
    assert len(api.objects(CONFIG_MAPS)) == 1


def test_an_object_that_the_server_names_is_never_created_twice(api):
    api.fail("POST", "/pods", drop="after")
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "reader-"}}
    assert told(lambda: api.cluster().create(PODS, body)).reason == "Dropped"
    assert len(api.objects(PODS)) == 1
    api.fail("POST", "/pods", status=429)
    api.cluster().create(PODS, body)
    assert len(api.objects(PODS)) == 2


def test_a_lost_answer_to_delete_is_fine(api):
    api.put(CONFIG_MAPS, config_map())
    api.fail("DELETE", "/configmaps", drop="after")
    api.cluster().delete(CONFIG_MAPS, "one")
    assert api.objects(CONFIG_MAPS) == []


@pytest.mark.slow
def test_a_server_that_does_not_answer_is_asked_again(api, monkeypatch):
    cluster = api.cluster()
    cluster.version()
    monkeypatch.setattr(client_connection, "_READ_SECONDS", 0.05)
    api.fail("GET", "/version", delay=5.0)
    assert cluster.version() == "v1.36.4"
    api.fail("GET", "/version", delay=5.0, times=99)
    error = told(cluster.version)
    assert "does not answer (timed out)" in str(error)
    assert api.url in str(error)


def test_a_connection_that_died_unnoticed_does_not_cost_the_call(api, monkeypatch):
    cluster = Cluster.connect(kubeconfig=api.kubeconfig, policy=RetryPolicy(seconds=0.01, sleep=api.time.sleep))
    cluster.version()
    monkeypatch.setattr(client_connection, "_READ_SECONDS", 0.05)
    api.fail("GET", "/version", delay=5.0)
    assert cluster.version() == "v1.36.4"


def test_a_server_that_is_not_there_is_told_within_seconds(api):
    cluster = api.cluster()
    api.stop()
    error = told(lambda: cluster.get(JOBS, "one"))
    assert sum(api.time.waits) <= 5
    assert error.status is None
    assert "refuses the connection" in str(error)
    assert api.url in str(error)
    assert "context test" in error.remedy


def test_a_server_that_went_away_is_waited_for_half_a_minute(api):
    cluster = api.cluster()
    cluster.version()
    api.stop()
    told(lambda: cluster.get(JOBS, "one"))
    assert 15 < sum(api.time.waits) <= 30


def test_an_unknown_host_is_told_by_its_name(api):
    api.url = "http://no-such-host.invalid:6443"
    api.write_kubeconfig()
    error = told(api.cluster().version)
    assert "the name of the API server cannot be resolved" in str(error)
    assert "no-such-host.invalid" in str(error)


def test_tls_that_fails_is_told_and_not_tried_again(api):
    api.url = api.url.replace("http:", "https:")
    api.write_kubeconfig()
    error = told(api.cluster().version)
    assert "TLS fails" in str(error)
    assert api.time.waits == []


def test_a_connection_that_is_cut_while_encrypted_is_no_fault_of_certificates():
    told = unreachable(Call("get"), urllib3.exceptions.SSLError(ssl.SSLEOFError(8, "EOF occurred")))
    assert told.reason == "Dropped"
    told = unreachable(
        Call("get"), urllib3.exceptions.SSLError(ssl.SSLCertVerificationError(1, "self-signed certificate"))
    )
    assert told.reason == "TLS"
    assert "self-signed certificate" in str(told)


def test_what_is_no_kubernetes_is_told(api):
    api.fail("GET", "/version", status=200, body=b"<html>Welcome</html>")
    assert "no Kubernetes API" in str(told(api.cluster().version))


def test_a_page_of_a_proxy_is_told_in_part(api):
    api.fail("GET", "/version", status=400, body=b"<html>" + b"x" * 10_000)
    assert len(str(told(api.cluster().version))) < 1000


def test_a_missing_permission_names_verb_resource_namespace_and_the_role(api):
    api.deny("create", "jobs")
    body = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "one"}}
    error = told(lambda: api.cluster().create(JOBS, body))
    assert (error.status, error.reason) == (403, "Forbidden")
    assert "not permitted to create jobs in namespace default" in str(error)
    assert "Role of k8s/" in error.remedy
    api.deny("list", "nodes")
    assert "not permitted to list nodes in the whole cluster" in str(told(lambda: api.cluster().list(NODES)))
    api.deny("list", "pods")
    told_of = str(told(lambda: api.cluster().list(PODS, all_namespaces=True)))
    assert "not permitted to list pods in the whole cluster" in told_of
    api.deny("get", "pods/log")
    api.put(PODS, {"metadata": {"name": "pod"}})
    assert "not permitted to get pods/log in namespace default" in str(told(lambda: list(api.cluster().log("pod"))))


def test_a_quota_that_is_full_is_not_told_as_a_missing_permission(api):
    api.fail("POST", "/pods", status=403, reason="Forbidden", message='pods "one" is forbidden: exceeded quota: gpus')
    error = told(lambda: api.cluster().create(PODS, {"metadata": {"name": "one"}}))
    assert "exceeded quota: gpus" in str(error)
    assert "Role" not in str(error)


def test_what_is_not_there_is_told_with_kind_name_and_namespace(api):
    error = told(lambda: api.cluster(namespace="default").get(JOBS, "one"))
    assert error.status == 404
    assert "no Job one in namespace default" in str(error)
    assert "kubectl -n default get jobs" in error.remedy
    assert "no Node one\n" in str(told(lambda: api.cluster().get(NODES, "one")))


def test_a_namespace_that_is_not_there_is_told_as_such(api):
    error = told(lambda: api.cluster("team").create(CONFIG_MAPS, config_map()))
    assert "no namespace team" in str(error)
    assert "kubectl create namespace team" in error.remedy


def test_what_is_not_valid_is_told_field_by_field(api):
    cluster = api.cluster()
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "one"}, "spec": {"template": {"a": 1}}}
    cluster.create(JOBS, job)
    error = told(lambda: cluster.patch(JOBS, "one", {"spec": {"template": {"a": 2}}}))
    assert (error.status, error.reason) == (422, "Invalid")
    assert "Job one in namespace default is not valid: spec.template: field is immutable" in str(error)
