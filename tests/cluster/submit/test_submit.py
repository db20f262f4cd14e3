"""What a submit does: once, and again, and of another spec."""

import threading
import time
from types import SimpleNamespace

import pytest

from specbatch.cluster.client.kinds import CONFIG_MAPS, JOBS, PODS
from specbatch.cluster.jobs.job_view import JOB_NAME
from specbatch.cluster.jobs.start_job import start_job, suspended
from specbatch.cluster.manifests.job import render
from specbatch.cluster.manifests.names import CANCELLED, SUBMITTED
from specbatch.cluster.submit.results_name import with_folder_of_run, with_fresh_folder
from specbatch.cluster.submit.submit import existing, submit
from specbatch.errors import ClusterError
from tests.cluster.submitting import FILES, assert_started_once, end, only_job, parsed, rendered, submitted

QUEUE = "job.queueName=team-a"


def writes(api):
    return [(method, path.rsplit("/", 2)[-2:]) for method, path, _ in api.requests if method != "GET"]


def test_the_job_comes_suspended_then_its_config_map_then_it_is_resumed(api):
    seen = []
    api.store._changed = lambda: seen.append([job["spec"]["suspend"] for job in api.objects(JOBS)])
    submission = submitted(api)
    assert submission.action == "created"
    assert seen == [[True], [True], [False]]
    assert [method for method, _ in writes(api)] == ["POST", "POST", "PATCH"]
    [config_map] = api.objects(CONFIG_MAPS)
    owner = config_map["metadata"]["ownerReferences"][0]
    assert (owner["kind"], owner["uid"], owner["controller"]) == ("Job", submission.job["metadata"]["uid"], True)
    assert_started_once(api)


def test_the_same_spec_again_meets_its_job_and_changes_nothing(api):
    first = submitted(api)
    before = only_job(api)
    api.requests.clear()
    again = submitted(api)
    assert (again.action, again.state) == ("attached", "pending")
    assert again.job["metadata"]["uid"] == first.job["metadata"]["uid"]
    assert only_job(api) == before
    assert writes(api) == []


def test_another_spec_of_the_same_name_is_refused_with_what_differs(api):
    submitted(api)
    with pytest.raises(ClusterError) as refused:
        submitted(api, "decoding.maxNewTokens=128")
    assert "decoding.maxNewTokens: 64 -> 128" in refused.value.message
    assert "--force" in refused.value.remedy
    assert "not continued" in refused.value.remedy
    assert_started_once(api)


def test_a_change_that_affects_no_row_is_said_to_continue_the_finished_ones(api):
    submitted(api)
    with pytest.raises(ClusterError, match=r"batching.maxSequences: \S+ -> 3") as refused:
        submitted(api, "batching.maxSequences=3")
    assert "would continue the finished rows" in refused.value.remedy


def test_another_number_of_shards_is_said_to_need_a_reshard(api):
    submitted(api)
    with pytest.raises(ClusterError, match=r"job.completions: 3 -> 6") as refused:
        submitted(api, "job.completions=6")
    assert "until specbatch reshard NAME --completions 6 has run" in refused.value.remedy


def test_other_content_of_a_bundled_file_is_another_spec(api):
    submitted(api)
    with pytest.raises(ClusterError, match=r"prompts.jsonl: other content") as refused:
        submitted(api, files={"prompts.jsonl": b'{"prompt": "bye"}\n'})
    assert "not continued" in refused.value.remedy


def test_a_spec_whose_config_map_is_gone_is_refused_all_the_same(api):
    submitted(api)
    api.remove(CONFIG_MAPS, only_job(api)["metadata"]["name"])
    with pytest.raises(ClusterError, match="its ConfigMap is gone"):
        submitted(api, "job.completions=6")


def test_another_name_is_another_run(api):
    submitted(api)
    submitted(api, "metadata.name=weekly")
    assert len(api.objects(JOBS)) == 2


def test_force_replaces_the_job_of_another_spec(api):
    old = submitted(api).job
    forced = submitted(api, "job.completions=6", force=True)
    assert (forced.action, forced.replaced) == ("created", [old["metadata"]["name"]])
    assert assert_started_once(api)["spec"]["completions"] == 6


def test_force_leaves_a_job_of_the_same_spec_that_runs(api):
    first = submitted(api).job
    again = submitted(api, force=True)
    assert (again.action, again.replaced) == ("attached", ())
    assert only_job(api)["metadata"]["uid"] == first["metadata"]["uid"]


@pytest.mark.parametrize("kind", ["Complete", "Failed"])
def test_force_starts_a_job_of_the_same_spec_anew_when_it_has_ended(api, kind):
    first = submitted(api).job
    end(api, first["metadata"]["name"], kind)
    assert submitted(api, force=True).action == "created"
    assert assert_started_once(api)["metadata"]["uid"] != first["metadata"]["uid"]


def sleeping(monkeypatch, sleep):
    """Of those who wait for the end of pods alone: time.sleep itself is what the server's threads call, too."""
    clock = SimpleNamespace(monotonic=time.monotonic, sleep=sleep)
    monkeypatch.setattr("specbatch.cluster.jobs.termination_wait.time", clock)


def test_force_waits_until_the_old_pods_are_gone(api, monkeypatch):
    old = submitted(api).job
    labels = old["spec"]["template"]["metadata"]["labels"]
    owner = {"kind": "Job", "name": old["metadata"]["name"], "uid": old["metadata"]["uid"], "controller": True}
    metadata = {
        "name": "p0",
        "labels": {**labels, JOB_NAME: old["metadata"]["name"]},
        "ownerReferences": [owner],
        "finalizers": ["kubelet"],
    }
    api.put(PODS, {"metadata": metadata, "spec": {"terminationGracePeriodSeconds": 60}, "status": {"phase": "Running"}})
    waited = []

    def sleep(seconds):
        waited.append([job["metadata"]["name"] for job in api.objects(JOBS)])
        pod = api.cluster().get(PODS, "p0")
        assert "deletionTimestamp" in pod["metadata"]
        if len(waited) == 3:
            api.put(PODS, {**pod, "metadata": {**pod["metadata"], "finalizers": []}})
            api.remove(PODS, "p0")

    sleeping(monkeypatch, sleep)
    told = []
    cluster, manifests = api.cluster(), rendered("job.completions=6")
    submit(cluster, manifests, existing(cluster, manifests), force=True, say=told.append)
    assert waited == [[], [], []]  # no Job is made before they are gone
    assert len(told) == 1
    assert "pod p0" in told[0]
    assert_started_once(api)


def test_pods_that_never_end_are_named_with_what_to_do(api):
    labels = rendered().job["spec"]["template"]["metadata"]["labels"]
    api.put(
        PODS, {"metadata": {"name": "p0", "labels": labels}, "spec": {"nodeName": "n1"}, "status": {"phase": "Running"}}
    )
    cluster, manifests = api.cluster(), rendered()
    with pytest.raises(ClusterError, match="pod p0") as refused:
        submit(cluster, manifests, existing(cluster, manifests), seconds=0)
    assert "node n1" in refused.value.remedy
    assert api.objects(JOBS) == []


def test_a_reader_pod_is_not_in_the_way(api):
    labels = {**rendered().job["spec"]["template"]["metadata"]["labels"], "app.kubernetes.io/component": "reader"}
    api.put(PODS, {"metadata": {"name": "reader", "labels": labels}, "spec": {}, "status": {"phase": "Running"}})
    assert submitted(api).action == "created"


def test_a_job_that_is_being_deleted_is_waited_for(api, monkeypatch):
    job = submitted(api).job
    api.put(JOBS, {**job, "metadata": {**job["metadata"], "finalizers": ["foregroundDeletion"]}})
    api.remove(JOBS, job["metadata"]["name"])
    waited = []

    def sleep(seconds):
        waited.append(seconds)
        leaving = only_job(api)
        api.put(JOBS, {**leaving, "metadata": {**leaving["metadata"], "finalizers": []}})
        api.remove(JOBS, leaving["metadata"]["name"])

    sleeping(monkeypatch, sleep)
    assert submitted(api).action == "created"
    assert waited
    assert assert_started_once(api)["metadata"]["uid"] != job["metadata"]["uid"]


def test_with_a_queue_kueue_alone_resumes(api):
    submission = submitted(api, QUEUE)
    assert submission.state == "queued"
    assert assert_started_once(api)["spec"]["suspend"] is True
    assert submitted(api, QUEUE).state == "queued"


def test_a_job_that_was_suspended_stays_so(api):
    job = submitted(api).job
    api.put(JOBS, {**job, "spec": {**job["spec"], "suspend": True}})
    again = submitted(api)
    assert (again.action, again.state) == ("attached", "suspended")
    assert only_job(api)["spec"]["suspend"] is True


def test_a_cancelled_job_stays_so_until_force(api):
    job = submitted(api).job
    annotations = {**job["metadata"]["annotations"], CANCELLED: "true"}
    api.put(
        JOBS,
        {**job, "metadata": {**job["metadata"], "annotations": annotations}, "spec": {**job["spec"], "suspend": True}},
    )
    assert submitted(api).state == "cancelled"
    assert only_job(api)["spec"]["suspend"] is True
    submitted(api, force=True)
    assert_started_once(api)


def test_what_kubectl_applied_is_adopted(api):
    manifests = rendered()
    job = api.cluster().create(JOBS, manifests.job)
    api.cluster().create(CONFIG_MAPS, manifests.config_map)
    assert submitted(api).action == "attached"
    [config_map] = api.objects(CONFIG_MAPS)
    assert config_map["metadata"]["ownerReferences"][0]["uid"] == job["metadata"]["uid"]
    assert only_job(api)["metadata"]["annotations"][SUBMITTED] == "true"


def test_what_helm_made_is_left_to_helm(api):
    manifests = rendered()
    labels = {**manifests.job["metadata"]["labels"], "app.kubernetes.io/managed-by": "Helm"}
    job = {**manifests.job, "metadata": {**manifests.job["metadata"], "labels": labels}}
    made = api.cluster().create(JOBS, job)
    assert submitted(api).action == "attached"
    assert only_job(api) == made
    with pytest.raises(ClusterError, match="is managed by Helm") as refused:
        submitted(api, "job.completions=6", force=True)
    assert "helm uninstall" in refused.value.remedy


@pytest.mark.slow
def test_a_config_map_that_an_earlier_job_of_the_name_left_is_replaced(api):
    manifests = rendered()
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": manifests.name, "uid": "of-the-dead", "controller": True}
    left = {**manifests.config_map, "metadata": {**manifests.config_map["metadata"], "ownerReferences": [owner]}}
    api.put(CONFIG_MAPS, left)
    submitted(api)
    assert_started_once(api)


def test_a_config_map_of_somebody_else_is_never_touched(api):
    manifests = rendered()
    theirs = api.put(CONFIG_MAPS, {"metadata": {"name": manifests.name}, "data": {"a": "b"}})
    with pytest.raises(ClusterError, match="not specbatch's"):
        submitted(api)
    assert api.objects(CONFIG_MAPS) == [theirs]
    assert only_job(api)["spec"]["suspend"] is True


def test_a_job_of_somebody_else_with_the_name_is_never_touched(api):
    theirs = api.put(JOBS, {"metadata": {"name": rendered().name}, "spec": {"suspend": False, "template": {}}})
    with pytest.raises(ClusterError, match="not of this spec"):
        submitted(api)
    assert api.objects(JOBS) == [theirs]


def test_many_submits_at_once_make_one_job(api):
    gate, ends = threading.Barrier(6), []

    def one():
        cluster, manifests = api.cluster(), rendered()
        gate.wait()
        ends.append(submit(cluster, manifests, existing(cluster, manifests)))

    threads = [threading.Thread(target=one) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ends) == 6
    assert len({submission.job["metadata"]["uid"] for submission in ends}) == 1
    assert_started_once(api)


def test_two_specs_of_one_name_at_once_never_both_run(api):
    cluster, one, other = api.cluster(), rendered(), rendered("decoding.maxNewTokens=128")
    seen_by_both = existing(cluster, one), existing(cluster, other)
    submit(cluster, one, seen_by_both[0])
    with pytest.raises(ClusterError, match="at this moment"):
        submit(cluster, other, seen_by_both[1])
    assert only_job(api)["metadata"]["name"] == one.name
    assert_started_once(api)


def test_a_job_that_is_deleted_while_it_is_started_is_told(api):
    cluster, manifests = api.cluster(), rendered()

    class Rival:
        def __getattr__(self, name):
            return getattr(cluster, name)

        def patch(self, *arguments, **options):
            api.remove(JOBS, manifests.name)
            return cluster.patch(*arguments, **options)

    with pytest.raises(ClusterError, match=manifests.name):
        start_job(Rival(), manifests)
    assert api.objects(JOBS) == []
    assert api.objects(CONFIG_MAPS) == []


def test_checks_that_fail_leave_everything_as_it_was(api):
    old = submitted(api).job

    def refuse():
        raise ClusterError("no")

    cluster, manifests = api.cluster(), rendered("job.completions=6")
    with pytest.raises(ClusterError, match="no"):
        submit(cluster, manifests, existing(cluster, manifests), force=True, check=refuse)
    assert only_job(api)["metadata"]["uid"] == old["metadata"]["uid"]


def both_specs(api, *, started):
    """A Job of each of two specs under one name, as no submit leaves them."""
    mine = submitted(api).job
    other = rendered("job.completions=6")
    api.cluster().create(JOBS, other.job)
    api.cluster().create(CONFIG_MAPS, other.config_map)
    if not started:
        body = {"metadata": {"annotations": {SUBMITTED: None}}, "spec": {"suspend": True}}
        api.cluster().patch(JOBS, mine["metadata"]["name"], body)
    return mine


@pytest.mark.parametrize("started", [True, False])
def test_force_deletes_the_other_spec_beside_the_job_that_is_there(api, started):
    mine = both_specs(api, started=started)
    with pytest.raises(ClusterError, match="another spec has the name"):
        submitted(api)
    forced = submitted(api, force=True)
    assert (forced.action, len(forced.replaced)) == ("attached" if started else "completed", 1)
    assert only_job(api)["metadata"]["uid"] == mine["metadata"]["uid"]
    api.remove(CONFIG_MAPS, rendered("job.completions=6").name)  # it had no owner
    assert_started_once(api)


def test_force_that_would_meet_another_runs_results_deletes_nothing(api):
    old = submitted(api).job["metadata"]["name"]
    end(api, old, "Complete", completed="0-2")
    with pytest.raises(ClusterError, match="would find the results of another run") as refused:
        submitted(api, "decoding.maxNewTokens=128", force=True)
    assert "decoding.maxNewTokens: 64 -> 128" in refused.value.message
    assert "--fresh" in refused.value.remedy
    assert only_job(api)["metadata"]["name"] == old


@pytest.mark.parametrize(
    "place", ["results.name=nightly-2", "results.dir=/results/other", "job.volumes.results.claimName=other"]
)
def test_force_goes_where_the_results_are_not(api, place):
    end(api, submitted(api, "results.dir=/results").job["metadata"]["name"], "Complete", completed="0-2")
    forced = submitted(api, "results.dir=/results", "decoding.maxNewTokens=128", place, force=True)
    assert forced.action == "created"


def test_a_store_that_both_publish_to_is_the_same_place(api):
    submitted(api, "results.publish=s3://bucket/runs")
    with pytest.raises(ClusterError, match="would find the results of another run"):
        submitted(
            api,
            "results.publish=s3://bucket/runs",
            "job.volumes.results.claimName=other",
            "decoding.seed=1",
            force=True,
        )


def test_a_job_that_never_started_has_written_nothing_and_may_be_replaced(api):
    cluster = api.cluster()
    cluster.create(JOBS, suspended(rendered().job))
    assert submitted(api, "decoding.maxNewTokens=128", force=True).action == "created"


def test_fresh_names_a_folder_that_no_run_has_had_and_fits_a_folder_name():
    job = with_fresh_folder(parsed("metadata.name=" + "x" * 52), clock=1767225600.0)
    assert job.results_name == "x" * 47 + "-20260101-000000"
    assert len(job.results_name) == 63
    assert job.spec_hash() == parsed().spec_hash()


def test_a_plain_submit_goes_on_in_the_folder_of_the_run_that_is_there(api):
    fresh = with_fresh_folder(parsed(), clock=0.0)
    cluster, manifests = api.cluster(), render(fresh, FILES)
    submit(cluster, manifests, existing(cluster, manifests))
    again = render(with_folder_of_run(cluster, parsed()), FILES)
    assert again.name == manifests.name
    assert existing(cluster, again).same is not None
    named = parsed("results.name=mine")
    assert with_folder_of_run(cluster, named) is named  # the file's own word counts
