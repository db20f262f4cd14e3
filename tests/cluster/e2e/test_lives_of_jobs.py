"""Jobs on a real cluster that are stopped, tried again, and taken away."""

import json
import random
import signal
import time

from specbatch.cluster.client.kinds import CONFIG_MAPS, JOBS, PODS
from tests.cluster.e2e.conftest import eventually
from tests.documents import ROOT

SPEC = "job/quickstart.yaml"


def jobs(admin, run):
    return admin.list(JOBS, labels={"specbatch.dev/run": run})


def test_a_submit_that_is_killed_at_any_moment_and_repeated_leaves_one_job_and_nothing_else(specbatch, admin, run):
    settings = specbatch.settings(run, job__completions=2)
    for seconds in (0.6, 1.0, 1.4, random.uniform(0.5, 2.0)):
        process = specbatch.start("submit", SPEC, *settings)
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    specbatch("submit", SPEC, *settings)
    [job] = jobs(admin, run)
    [config_map] = admin.list(CONFIG_MAPS, labels={"specbatch.dev/run": run})
    assert config_map["metadata"]["ownerReferences"][0]["uid"] == job["metadata"]["uid"]
    specbatch("wait", run, "--timeout", "600")


def test_suspended_and_resumed_it_goes_on_where_it_was(specbatch, admin, run, tmp_path):
    specbatch("submit", SPEC, *specbatch.settings(run, batching__maxSequences=1))
    eventually(lambda: json.loads(specbatch("status", run, "--output", "json"))["rows"] > 0)
    specbatch("suspend", run)
    eventually(
        lambda: (
            not [
                pod
                for pod in admin.list(PODS, labels={"specbatch.dev/run": run})
                if pod["status"]["phase"] == "Running"
            ]
        )
    )
    assert json.loads(specbatch("status", run, "--output", "json"))["state"] == "suspended"
    specbatch("resume", run)
    specbatch("wait", run, "--timeout", "600")
    specbatch("collect", run, "-o", tmp_path / "rows.jsonl")
    assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == 200


def test_cancelled_it_keeps_its_record_and_resume_goes_on(specbatch, admin, run):
    specbatch("submit", SPEC, *specbatch.settings(run, batching__maxSequences=1))
    eventually(lambda: json.loads(specbatch("status", run, "--output", "json"))["rows"] > 0)
    specbatch("cancel", run)
    specbatch("wait", run, "--timeout", "120", code=1)
    assert json.loads(specbatch("why", run, "--output", "json"))["cause"] == "cancelled"
    assert len(jobs(admin, run)) == 1
    specbatch("resume", run)
    specbatch("wait", run, "--timeout", "600")
    assert json.loads(specbatch("status", run, "--output", "json"))["rows"] == 200


FAILS_ONCE = """
if [ "$JOB_COMPLETION_INDEX" = 1 ] && [ ! -e /results/failed-once ]; then touch /results/failed-once; exit 69; fi
exec python -m specbatch.runner /etc/specbatch/spec.json
"""


def test_a_retry_runs_what_failed_and_nothing_else(specbatch, admin, run, tmp_path):
    volumes = {"results": {"claimName": "specbatch-results", "subPath": run}}
    container = {"name": "runner", "command": ["sh", "-c", FAILS_ONCE]}
    settings = specbatch.settings(
        run, job__completions=3, job__backoffLimitPerIndex=0, job__volumes=volumes, job__podTemplate={"spec": {"containers": [container]}}
    )  # fmt: skip
    specbatch("submit", SPEC, *settings)
    specbatch("wait", run, "--timeout", "600", code=1)
    assert "1" in specbatch("retry", run)
    specbatch("wait", run, "--timeout", "600")
    again = max(jobs(admin, run), key=lambda job: job["metadata"]["creationTimestamp"])
    assert again["spec"]["completions"] == 1
    specbatch("collect", run, "-o", tmp_path / "rows.jsonl")
    assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == 200


def test_force_replaces_a_job_of_another_spec_and_its_finished_rows_stay(specbatch, admin, run, tmp_path):
    specbatch("submit", SPEC, *specbatch.settings(run, batching__maxSequences=1))
    eventually(lambda: json.loads(specbatch("status", run, "--output", "json"))["rows"] > 0)
    more = specbatch.settings(run, job__completions=3)
    assert "job.completions" in specbatch("submit", SPEC, *more, code=71)
    specbatch("submit", SPEC, *more, "--force", "--wait")
    assert len(jobs(admin, run)) == 1
    specbatch("collect", run, "-o", tmp_path / "rows.jsonl")
    assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == 200


def test_delete_leaves_the_results_and_collect_finds_them_by_the_spec(specbatch, admin, run, tmp_path):
    settings = specbatch.settings(run)
    specbatch("submit", SPEC, *settings, "--wait")
    specbatch("delete", run, "--yes")
    eventually(lambda: not jobs(admin, run) and not admin.list(CONFIG_MAPS, labels={"specbatch.dev/run": run}))
    eventually(lambda: not admin.list(PODS, labels={"specbatch.dev/run": run}))
    spec = tmp_path / "spec.yaml"
    text = (ROOT / SPEC).read_text().replace("name: quickstart", f"name: {run}")
    spec.write_text(f"{text}    image: {specbatch.image}\n")
    specbatch("collect", spec, "-o", tmp_path / "rows.jsonl")
    assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == 200
