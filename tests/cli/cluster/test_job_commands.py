"""`specbatch list`, `suspend`, `resume`, `cancel`, `retry`, `delete`, `wait` on the command line."""

import io
import json
import shlex

import pytest

from specbatch.cli.main import main
from specbatch.cluster.client.kinds import CONFIG_MAPS, JOBS, PODS
from specbatch.cluster.jobs.start_job import suspended
from tests.cluster.submitting import SPEC, end, only_job, rendered, submitted


@pytest.fixture
def command(api):
    return lambda *words: main([*words, "--kubeconfig", api.kubeconfig])


@pytest.mark.slow
def test_list_has_a_line_for_each_run_and_counts_its_retries_in(command, api, capsys):
    first = submitted(api).job["metadata"]["name"]
    end(api, first, "Failed", completed="0,2", failed="1")
    submitted(api, "metadata.name=weekly")
    assert command("retry", "nightly") == 0
    assert command("list") == 0
    out = capsys.readouterr().out
    head, *lines = [line.split() for line in out[out.index("run ") :].splitlines()]
    assert head == ["run", "state", "done", "failed", "age", "Job"]
    assert sorted(line[:4] for line in lines) == [["nightly", "pending", "2/3", "0"], ["weekly", "pending", "0/3", "0"]]
    assert command("list", "-o", "json") == 0
    nightly = next(one for one in json.loads(capsys.readouterr().out) if one["run"] == "nightly")
    assert (nightly["shards"], nightly["shards_done"], nightly["tries"], nightly["job"]) == (3, 2, 2, f"{first}-r2")


@pytest.mark.slow
def test_a_command_that_is_proposed_works_when_it_is_pasted(command, api, capsys, monkeypatch):
    submitted(api)
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    assert command("suspend", "nightly") == 0
    resume = capsys.readouterr().out.partition("; ")[2].removesuffix(" goes on\n")
    assert main(shlex.split(resume)[1:]) == 0
    assert capsys.readouterr().out.startswith("resumed Job nightly-")
    assert command("suspend", "nightly") == 0
    assert command("why", "nightly") == 0
    remedy = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("remedy: "))
    assert main(shlex.split(remedy.removeprefix("remedy: "))[1:]) == 0


def test_list_of_all_namespaces_keeps_equal_runs_apart(command, api, capsys):
    submitted(api)
    job = only_job(api)
    api.put(JOBS, {**job, "metadata": {**job["metadata"], "namespace": "ml"}})
    assert command("list", "-A") == 0
    assert sorted(line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]) == ["default", "ml"]
    assert command("list", "-o", "name") == 0
    assert capsys.readouterr().out == f"job.batch/{job['metadata']['name']}\n"


def test_list_of_nothing_is_no_error(command, capsys):
    assert command("list") == 0
    assert "no runs in namespace default" in capsys.readouterr().err
    assert command("list", "-o", "json") == 0
    assert json.loads(capsys.readouterr().out) == []


@pytest.mark.slow
def test_suspend_resume_and_cancel_say_one_line(command, api, capsys):
    submitted(api)
    for verb in ("suspend", "suspend", "resume", "resume", "cancel", "cancel", "resume"):
        assert command(verb, "nightly") == 0
        assert len(capsys.readouterr().out.splitlines()) == 1
    assert only_job(api)["spec"]["suspend"] is False


def test_a_name_may_be_left_out_be_a_job_or_a_spec_file(command, api, tmp_path, capsys):
    name = submitted(api).job["metadata"]["name"]
    (tmp_path / "spec.yaml").write_text(SPEC)
    for words in ([], [name], [str(tmp_path / "spec.yaml")]):
        assert command("suspend", *words) == 0
        assert name in capsys.readouterr().out


@pytest.mark.parametrize("verb", ["suspend", "resume", "cancel", "retry", "wait"])
def test_what_is_not_there_is_71_with_the_nearest_name(verb, command, api, capsys):
    submitted(api)
    assert command(verb, "nightli") == 71
    assert "did you mean nightly?" in capsys.readouterr().err


def test_retry_names_the_shards_the_next_commands_and_what_will_happen_again(command, api, capsys):
    name = submitted(api).job["metadata"]["name"]
    end(api, name, "Failed", completed="0,2", failed="1", message="failed with exit code 66 matching FailJob rule")
    assert command("retry") == 0
    out, err = capsys.readouterr()
    assert f"created Job {name}-r2 for shard 1 of 3" in out
    assert "specbatch status nightly" in out
    assert "66 (model missing or not permitted)" in err
    assert command("retry") == 71
    assert "has not ended" in capsys.readouterr().err


@pytest.mark.slow
def test_wait_ends_as_the_job_does(command, api, capsys):
    name = submitted(api).job["metadata"]["name"]
    assert command("wait", "--timeout", "0.1") == 124
    end(api, name, "Failed", reason="FailedIndexes", failed="0")
    assert command("wait", "nightly") == 1
    out = capsys.readouterr().out
    assert f"Job {name} has failed (FailedIndexes)" in out
    assert "specbatch why nightly" in out
    end(api, name, "Complete", completed="0-2")
    assert command("wait", "nightly", "-o", "json") == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["end"], document["shards_done"]) == ("complete", 3)


@pytest.mark.slow
def test_wait_says_that_a_job_is_suspended(command, api, capsys):
    submitted(api)
    command("suspend")
    assert command("wait", "--timeout", "0.1") == 124
    assert "specbatch resume nightly" in capsys.readouterr().out


class TestDelete:
    def test_it_takes_all_jobs_of_a_run_with_their_config_maps_and_pods(self, command, api, capsys):
        job = submitted(api).job
        end(api, job["metadata"]["name"], "Failed", completed="0")
        command("retry")
        labels = job["spec"]["template"]["metadata"]["labels"]
        api.put(PODS, {"metadata": {"name": "orphan", "labels": labels}, "spec": {}, "status": {"phase": "Running"}})
        submitted(api, "metadata.name=weekly")
        capsys.readouterr()
        assert command("delete", "nightly", "--yes") == 0
        out = capsys.readouterr().out
        assert "2 ConfigMaps, 1 pod" in out
        assert "results stay: /results/nightly on PersistentVolumeClaim specbatch-results" in out
        assert [one["metadata"]["labels"]["specbatch.dev/run"] for one in api.objects(JOBS)] == ["weekly"]
        assert [one["metadata"]["labels"]["specbatch.dev/run"] for one in api.objects(CONFIG_MAPS)] == ["weekly"]
        assert api.objects(PODS) == []
        assert command("delete", "nightly", "--yes") == 0
        assert "nothing to delete" in capsys.readouterr().out

    def test_the_name_of_one_job_deletes_that_one(self, command, api):
        name = submitted(api).job["metadata"]["name"]
        end(api, name, "Failed", completed="0")
        command("retry")
        assert command("delete", f"{name}-r2", "--yes") == 0
        assert [one["metadata"]["name"] for one in api.objects(JOBS)] == [name]
        assert [one["metadata"]["name"] for one in api.objects(CONFIG_MAPS)] == [name]

    def test_what_is_left_without_a_job_goes_too(self, command, api):
        job = submitted(api).job
        [config_map] = api.objects(CONFIG_MAPS)
        api.remove(JOBS, job["metadata"]["name"])
        api.put(CONFIG_MAPS, {**config_map, "metadata": {**config_map["metadata"], "ownerReferences": []}})
        assert command("delete", "nightly", "--yes") == 0
        assert api.objects(CONFIG_MAPS) == []

    def test_pods_that_are_ending_already_are_not_deleted_again(self, command, api, capsys):
        labels = rendered().job["spec"]["template"]["metadata"]["labels"]
        metadata = {
            "name": "p0",
            "labels": labels,
            "deletionTimestamp": "2026-01-01T00:00:00Z",
            "finalizers": ["kubelet"],
        }
        api.put(PODS, {"metadata": metadata, "spec": {}, "status": {"phase": "Running"}})
        assert command("delete", "nightly", "--yes") == 0
        assert "nothing to delete" in capsys.readouterr().out

    def test_what_is_not_specbatchs_stays(self, command, api, capsys):
        api.put(JOBS, {"metadata": {"name": "nightly"}, "spec": {}})
        assert command("delete", "nightly", "--yes") == 0
        assert "nothing to delete" in capsys.readouterr().out
        assert len(api.objects(JOBS)) == 1

    def test_it_asks_and_takes_no_for_an_answer(self, command, api, capsys, monkeypatch):
        submitted(api)
        assert command("delete", "nightly") == 2
        answers = io.StringIO("n\n")
        answers.isatty = lambda: True
        monkeypatch.setattr("sys.stdin", answers)
        assert command("delete", "nightly") == 1
        assert "Results stay" in capsys.readouterr().out
        assert len(api.objects(JOBS)) == 1

    def test_what_is_helms_is_helms_to_delete(self, command, api, capsys):
        job = submitted(api).job
        labels = {**job["metadata"]["labels"], "app.kubernetes.io/managed-by": "Helm"}
        api.put(JOBS, {**job, "metadata": {**job["metadata"], "labels": labels}})
        assert command("delete", "nightly", "--yes") == 71
        assert "helm uninstall nightly -n default" in capsys.readouterr().err
        assert len(api.objects(CONFIG_MAPS)) == 1


def test_of_a_run_that_never_started_no_results_stay(command, api, capsys):
    api.cluster().create(JOBS, suspended(rendered().job))
    assert command("delete", "nightly", "--yes") == 0
    assert "it had never started, and has no results" in capsys.readouterr().out
