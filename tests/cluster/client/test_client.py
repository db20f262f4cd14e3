"""The client's calls against an API server over HTTP: what goes in, what comes out."""

import subprocess
import sys
import threading

import pytest

from specbatch.cluster.client.kinds import CLUSTER_QUEUES, CONFIG_MAPS, EVENTS, JOBS, LOCAL_QUEUES, NODES, PODS
from specbatch.errors import ClusterError


def config_map(name, **metadata):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, **metadata}, "data": {"a": "1"}}


def names(items):
    return [item["metadata"]["name"] for item in items]


def test_importing_the_client_imports_no_kubernetes():
    code = (
        "import specbatch.cluster.client.client, sys; print({'kubernetes', 'urllib3', 'websocket'} & set(sys.modules))"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
        == "set()"
    )


def test_connecting_asks_nothing_of_the_server(api):
    cluster = api.cluster()
    assert (cluster.context, cluster.server, cluster.namespace) == ("test", api.url, "default")
    assert api.requests == []


def test_a_created_object_is_got_back_as_the_server_completed_it(api):
    cluster = api.cluster()
    created = cluster.create(CONFIG_MAPS, config_map("one"))
    assert created["metadata"]["uid"]
    assert cluster.get(CONFIG_MAPS, "one") == created


def test_unknown_fields_are_refused_by_every_call_that_writes(api):
    cluster = api.cluster()
    cluster.create(CONFIG_MAPS, config_map("one"))
    cluster.patch(CONFIG_MAPS, "one", {"data": {"b": "2"}})
    assert {query["fieldValidation"] for method, _, query in api.requests if method != "GET"} == {"Strict"}
    assert {query["fieldManager"] for method, _, query in api.requests if method != "GET"} == {"specbatch"}


def test_a_dry_run_changes_nothing(api):
    cluster = api.cluster()
    assert cluster.create(CONFIG_MAPS, config_map("one"), dry_run=True)["metadata"]["uid"]
    assert api.objects(CONFIG_MAPS) == []


def test_a_merge_patch_changes_what_it_names_and_takes_away_what_is_none(api):
    api.put(CONFIG_MAPS, config_map("one", annotations={"x": "1", "y": "2"}))
    patched = api.cluster().patch(CONFIG_MAPS, "one", {"metadata": {"annotations": {"x": None}}, "data": {"b": "2"}})
    assert patched["metadata"]["annotations"] == {"y": "2"}
    assert patched["data"] == {"a": "1", "b": "2"}


def test_a_patch_of_an_older_version_is_a_conflict(api):
    cluster = api.cluster()
    old = api.put(CONFIG_MAPS, config_map("one"))
    cluster.patch(CONFIG_MAPS, "one", {"data": {"a": "2"}})
    with pytest.raises(ClusterError) as caught:
        cluster.patch(CONFIG_MAPS, "one", {**old, "data": {"a": "3"}})
    assert (caught.value.status, caught.value.reason) == (409, "Conflict")


def test_find_gives_none_for_what_is_not_there_and_for_kinds_that_are_not_known(api):
    cluster = api.cluster()
    assert cluster.find(CONFIG_MAPS, "one") is None
    assert cluster.find(CLUSTER_QUEUES, "one") is None
    api.put(CONFIG_MAPS, config_map("one"))
    assert cluster.find(CONFIG_MAPS, "one")["data"] == {"a": "1"}


def test_a_list_is_picked_by_labels_and_fields(api):
    cluster = api.cluster()
    for name, run, phase in (("a", "x", "Running"), ("b", "x", "Failed"), ("c", "y", "Failed")):
        api.put(PODS, {"metadata": {"name": name, "labels": {"specbatch.dev/run": run}}, "status": {"phase": phase}})
    assert names(cluster.list(PODS, labels={"specbatch.dev/run": "x"})) == ["a", "b"]
    assert names(cluster.list(PODS, fields={"status.phase": "Failed"})) == ["b", "c"]
    assert names(cluster.list(PODS, labels={"specbatch.dev/run": "x"}, fields={"status.phase": "Failed"})) == ["b"]
    assert names(cluster.list(EVENTS, fields={"involvedObject.name": "a"})) == []


def test_listed_objects_say_what_they_are(api):
    api.put(JOBS, {"metadata": {"name": "one"}})
    (job,) = api.cluster().list(JOBS)
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")


def test_a_list_goes_through_every_page(api):
    expected = [f"c{number:04d}" for number in range(1201)]
    for name in expected:
        api.put(CONFIG_MAPS, config_map(name))
    assert names(api.cluster().list(CONFIG_MAPS)) == expected
    assert len(api.requests) == 3


def test_a_list_whose_pages_expire_begins_again(api):
    for number in range(600):
        api.put(CONFIG_MAPS, config_map(f"c{number:04d}"))
    api.fail("GET", "continue=", status=410, reason="Expired")
    assert len(api.cluster().list(CONFIG_MAPS)) == 600
    assert len(api.requests) == 4


def test_namespaces_are_kept_apart_unless_everywhere(api):
    api.put(CONFIG_MAPS, config_map("one"))
    api.put(CONFIG_MAPS, config_map("two", namespace="team"))
    api.put(NODES, {"metadata": {"name": "node"}})
    cluster = api.cluster()
    assert names(cluster.list(CONFIG_MAPS)) == ["one"]
    team = api.cluster(namespace="team")
    assert names(team.list(CONFIG_MAPS)) == ["two"]
    assert names(cluster.list(CONFIG_MAPS, all_namespaces=True)) == ["one", "two"]
    assert names(team.list(NODES)) == ["node"]
    assert cluster.namespace == "default"


def test_deleting_takes_along_what_is_owned(api):
    cluster = api.cluster()
    job = api.put(JOBS, {"metadata": {"name": "owner"}})
    api.put(CONFIG_MAPS, config_map("owned", ownerReferences=[{"uid": job["metadata"]["uid"]}]))
    cluster.delete(JOBS, "owner")
    assert (api.objects(JOBS), api.objects(CONFIG_MAPS)) == ([], [])


def test_deleting_what_is_not_there_is_fine_and_another_of_its_name_is_left(api):
    cluster = api.cluster()
    cluster.delete(CONFIG_MAPS, "one")
    api.put(CONFIG_MAPS, config_map("one"))
    cluster.delete(CONFIG_MAPS, "one", uid="of-another")
    assert names(api.objects(CONFIG_MAPS)) == ["one"]


def test_permissions_are_asked_for_with_group_and_subresource(api):
    api.deny("create", "jobs")
    api.deny("get", "pods/log")
    cluster = api.cluster()
    assert cluster.can("create", JOBS) is False
    assert cluster.can("get", JOBS) is True
    assert cluster.can("get", PODS) is True
    assert cluster.can("get", PODS, subresource="log") is False


def test_a_permission_that_cannot_be_asked_for_is_not_known(api):
    api.deny("create", "selfsubjectaccessreviews")
    assert api.cluster().can("create", JOBS) is None


def test_the_version_is_the_servers(api):
    assert api.cluster().version() == "v1.36.4"


def test_threads_share_a_cluster(api):
    api.put(CONFIG_MAPS, config_map("one"))
    cluster, got = api.cluster(), []
    threads = [threading.Thread(target=lambda: got.append(cluster.get(CONFIG_MAPS, "one")["data"])) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [{"a": "1"}] * 8


def test_a_kind_the_cluster_does_not_know_is_told_as_such(api):
    with pytest.raises(ClusterError, match=r"knows no LocalQueue \(kueue.x-k8s.io/v1beta1\)"):
        api.cluster().list(LOCAL_QUEUES)
