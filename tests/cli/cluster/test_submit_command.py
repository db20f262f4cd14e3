"""`specbatch submit` on the command line."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
import yaml

from specbatch.cli.main import main
from specbatch.cluster.client.kinds import CONFIG_MAPS, JOBS, PODS
from tests.cluster.job_objects import pod_of
from tests.cluster.submitting import FILES, SPEC, assert_started_once, end, only_job, put_claim, put_node
from tests.documents import ROOT


@pytest.fixture
def submit(api, tmp_path, monkeypatch):
    """Calls the command where the spec is; the cluster has what it needs."""
    put_claim(api)
    put_node(api, "node-a")
    (tmp_path / "nightly.yaml").write_text(SPEC)
    (tmp_path / "prompts.jsonl").write_bytes(FILES["prompts.jsonl"])
    monkeypatch.chdir(tmp_path)
    return lambda *words: main(["submit", "nightly.yaml", "--kubeconfig", api.kubeconfig, *words])


def writes(api):
    return [
        path
        for method, path, query in api.requests
        if method != "GET" and "dryRun" not in query and "selfsubject" not in path
    ]


def test_it_says_what_it_made_and_what_to_type_next(submit, api, capsys):
    assert submit("-n", "default") == 0
    out, err = capsys.readouterr()
    name = only_job(api)["metadata"]["name"]
    assert f"created Job {name} in namespace default (context test)" in out
    assert "3 shards, all at once, on CPUs" in out
    assert "/results/nightly on PersistentVolumeClaim specbatch-results" in out
    for verb in ("status", "logs -f", "why", "collect"):
        assert f"specbatch {verb} nightly -n default --kubeconfig" in out
    assert err == ""
    assert_started_once(api)


@pytest.mark.slow
def test_again_attaches_and_another_spec_is_71(submit, api, capsys):
    submit()
    assert submit() == 0
    assert "is there already, pending: attached" in capsys.readouterr().out
    assert submit("--set", "decoding.maxNewTokens=128") == 71
    assert "decoding.maxNewTokens: 64 -> 128" in capsys.readouterr().err
    assert submit("--set", "decoding.maxNewTokens=128", "--name", "other") == 0
    assert len(api.objects(JOBS)) == 2


@pytest.mark.slow
def test_of_a_job_that_has_ended_the_code_says_how(submit, api, capsys):
    submit()
    name = only_job(api)["metadata"]["name"]
    end(api, name, "Failed", reason="BackoffLimitExceeded")
    assert submit() == 1
    assert submit("--wait") == 1
    out = capsys.readouterr().out
    assert "has failed (BackoffLimitExceeded)" in out
    assert "specbatch retry nightly" in out
    end(api, name, "Complete", completed="0-2")
    assert submit() == 0
    assert submit("--wait", "-o", "json") == 0
    assert "is complete" in capsys.readouterr().out


def test_problems_of_the_cluster_are_71_and_nothing_is_written(submit, api, capsys):
    wrong = [
        "job.volumes.results.claimName=none",
        "job.secretEnvFrom=[{name: s3}]",
        "job.resources.requests.memory=1Ti",
    ]
    assert submit(*(word for change in wrong for word in ("--set", change))) == 71
    err = capsys.readouterr().err
    assert "warning: nodes: each pod asks for 1024 GiB of memory" in err
    assert "2 problems in the cluster" in err
    assert "there is: specbatch-results" in err
    assert writes(api) == []


def test_warnings_and_what_could_not_be_looked_at_go_to_stderr(submit, api, capsys):
    put_claim(api, modes=["ReadWriteOnce"])
    api.deny("list", "nodes")
    assert submit("--output", "name") == 0
    out, err = capsys.readouterr()
    assert out == f"job.batch/{only_job(api)['metadata']['name']}\n"
    assert "warning: claims: the claim specbatch-results" in err
    assert "not checked, since reading them is not permitted: nodes" in err


def test_machines_get_one_document(submit, api, capsys):
    assert submit("-o", "json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["action"] == "created"
    assert (document["run"], document["job"]) == ("nightly", only_job(api)["metadata"]["name"])
    assert document["warnings"] == document["unchecked"] == document["replaced"] == []
    end(api, document["job"], "Failed", failed="1", reason="FailedIndexes")
    assert submit("-o", "yaml", "--wait") == 1
    document = yaml.safe_load(capsys.readouterr().out)
    assert (document["end"], document["reason"], document["shards_failed"]) == ("failed", "FailedIndexes", 1)


def test_a_dry_run_of_the_client_needs_no_cluster(submit, api, capsys):
    assert submit("--dry-run=client", "--kubeconfig", "/none") == 0
    assert "it would be Job nightly-" in capsys.readouterr().out
    assert submit("--dry-run=client", "-o", "yaml") == 0
    assert [one["kind"] for one in yaml.safe_load_all(capsys.readouterr().out)] == ["ConfigMap", "Job"]
    assert submit("--dry-run=client", "--set", "job.completions=0") == 64
    assert submit("--dry-run=client", "--diff") == 2
    assert api.requests == []


@pytest.mark.slow
def test_a_dry_run_of_the_server_writes_nothing(submit, api, capsys):
    assert submit("--dry-run=server") == 0
    assert "the cluster accepts Job nightly-" in capsys.readouterr().out
    assert writes(api) == []
    submit()
    before = len(writes(api))
    assert submit("--dry-run=server") == 0
    assert "submit would attach to it" in capsys.readouterr().out
    assert submit("--dry-run=server", "--set", "job.completions=4") == 71
    assert submit("--dry-run=server", "--set", "job.completions=4", "--force") == 0
    assert "in place of Job nightly-" in capsys.readouterr().out
    assert len(writes(api)) == before


@pytest.mark.slow
def test_the_diff_comes_before_the_refusal(submit, capsys):
    submit()
    capsys.readouterr()
    assert submit("--diff", "--set", "job.completions=4") == 71
    out, err = capsys.readouterr()
    assert {"-  completions: 3", "+  completions: 4"} <= set(out.splitlines())
    assert "--force" in err
    assert submit("--diff") == 0
    assert "nothing would change" in capsys.readouterr().out


@pytest.mark.slow
def test_force_says_what_it_replaced(submit, api, capsys):
    submit()
    old = only_job(api)["metadata"]["name"]
    capsys.readouterr()
    assert submit("--set", "job.completions=4", "--force") == 0
    assert f"deleted Job {old}" in capsys.readouterr().out
    assert_started_once(api)


@pytest.mark.slow
def test_the_time_may_run_out(submit, api, capsys):
    assert submit("--wait", "--timeout", "0.1") == 124
    assert "goes on" in capsys.readouterr().out
    assert_started_once(api)


@pytest.mark.slow
def test_follow_shows_progress_and_ends_with_the_job(submit, api, capsys):
    submit()
    end(api, only_job(api)["metadata"]["name"], "Complete", completed="0-2")
    capsys.readouterr()
    assert submit("--follow") == 0
    out = capsys.readouterr().out
    assert "complete: 3 of 3 shards done" in out
    assert "specbatch collect nightly" in out


@pytest.mark.slow
def test_follow_shows_what_the_pods_say(submit, api, capsys):
    submit("--set", "job.completions=1")
    job = only_job(api)
    pod = pod_of(job, state="succeeded")
    api.put(PODS, pod)
    api.logs[pod["metadata"]["name"]] = '{"event": "step", "message": "loading the target"}\n'
    end(api, job["metadata"]["name"], "Complete", completed="0")
    capsys.readouterr()
    assert submit("--set", "job.completions=1", "--follow") == 0
    assert "loading the target" in capsys.readouterr().out


@pytest.mark.slow
def test_logs_that_may_not_be_read_end_no_wait(submit, api, capsys):
    submit("--set", "job.completions=1")
    job = only_job(api)
    api.put(PODS, pod_of(job, state="succeeded"))
    api.deny("get", "pods/log")
    end(api, job["metadata"]["name"], "Complete", completed="0")
    assert submit("--set", "job.completions=1", "--follow") == 0
    assert "warning: logs cannot be followed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("job.volumes.results={hostPath: /mnt/runs}", "/results/nightly on the nodes (hostPath /mnt/runs)"),
        ("job.volumes.results={csi: {driver: efs.csi.aws.com}}", "/results/nightly on a volume of efs.csi.aws.com"),
        ("results.publish=s3://bucket/runs/", "and s3://bucket/runs/nightly/"),
    ],
)
def test_it_says_where_the_results_will_be(submit, capsys, change, told):
    assert submit("--set", change) == 0
    assert told in capsys.readouterr().out


def test_skip_checks_leaves_the_dry_run(submit, api):
    assert submit("--skip-checks", "--set", "job.volumes.results.claimName=none") == 0
    assert any("dryRun" in query for _, _, query in api.requests)
    assert not any("persistentvolumeclaims" in path for _, path, _ in api.requests)


@pytest.mark.slow
def test_ctrl_c_detaches_and_leaves_the_job(submit, api, tmp_path):
    command = [sys.executable, "-m", "specbatch", "submit", "nightly.yaml", "--kubeconfig", api.kubeconfig, "--wait"]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    ends = time.monotonic() + 30
    while not any(query.get("watch") for _, _, query in api.requests) and time.monotonic() < ends:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "detached: Job nightly-" in err
    assert "Traceback" not in err
    assert_started_once(api)


def test_no_cluster_and_a_bad_spec_have_their_codes(submit, capsys):
    assert submit("--kubeconfig", "/none") == 71
    assert submit("--set", "decoding.maxNewTokens=-1") == 64
    err = capsys.readouterr().err
    assert "no such kubeconfig" in err
    assert "spec.decoding.maxNewTokens" in err


@pytest.mark.slow
def test_the_namespace_is_the_options_then_the_specs(submit, api, capsys):
    put_claim(api, namespace="ml")
    put_claim(api, namespace="mine")
    assert submit("--set", "metadata.namespace=ml") == 0
    assert only_job(api)["metadata"]["namespace"] == "ml"
    assert "specbatch status nightly -n ml" in capsys.readouterr().out
    assert submit("--set", "metadata.namespace=ml", "-n", "mine") == 0
    assert {job["metadata"]["namespace"] for job in api.objects(JOBS)} == {"ml", "mine"}
    assert {one["metadata"]["namespace"] for one in api.objects(CONFIG_MAPS)} == {"ml", "mine"}


def test_what_was_left_half_way_is_said_to_be_started_now(submit, api, capsys):
    submit("--set", "job.queueName=team-a", "--skip-checks")
    job = only_job(api)
    del job["metadata"]["annotations"]["specbatch.dev/submitted"]
    api.put(JOBS, job)
    capsys.readouterr()
    assert submit("--set", "job.queueName=team-a") == 0
    out = capsys.readouterr().out
    assert "an earlier submit had left it half-way" in out
    assert "when queue team-a admits it" in out
    assert_started_once(api)


def test_ctrl_c_half_way_says_that_the_same_command_goes_on(submit, api, capsys, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("specbatch.cluster.jobs.start_job._configure", interrupted)
        assert submit() == 130
    assert "the same command goes on from there" in capsys.readouterr().err
    assert only_job(api)["spec"]["suspend"] is True
    assert submit() == 0
    assert_started_once(api)


@pytest.mark.slow
def test_fresh_starts_in_a_folder_of_its_own_and_the_same_file_goes_on_there(submit, api, capsys):
    submit()
    old = only_job(api)["metadata"]["name"]
    end(api, old, "Complete", completed="0-2")
    changed = ("--set", "decoding.maxNewTokens=128")
    assert submit("--force", *changed, "--dry-run=server") == 71
    assert submit("--force", *changed) == 71
    assert capsys.readouterr().err.count("would find the results of another run") == 2
    assert only_job(api)["metadata"]["name"] == old
    assert submit("--fresh", *changed) == 0
    assert re.search(r"results: /results/nightly-[0-9]{8}-[0-9]{6} on", capsys.readouterr().out)
    fresh = assert_started_once(api)["metadata"]["name"]
    assert fresh != old
    assert submit(*changed) == 0
    assert f"Job {fresh} of the same spec is there already" in capsys.readouterr().out


def test_what_no_retry_mends_is_not_recommended_to_be_tried_again(submit, api, capsys):
    submit()
    name = only_job(api)["metadata"]["name"]
    message = "Container runner for pod default/x failed with exit code 64 matching FailJob rule at index 2"
    end(api, name, "Failed", reason="PodFailurePolicy", message=message)
    capsys.readouterr()
    assert submit("--wait") == 1
    said = capsys.readouterr().out
    assert "specbatch why nightly" in said
    assert "retry" not in said
