import json

import pytest

from specbatch.cli.main import main
from specbatch.cluster.client.kinds import CLAIMS, JOBS, PODS
from tests.cluster.diagnose.objects import JOB, job, unschedulable


@pytest.fixture
def cluster(api):
    """A Job whose claim is missing."""
    for kind, thing in ((JOBS, job()), (PODS, unschedulable('persistentvolumeclaim "specbatch-results" not found'))):
        thing["metadata"]["namespace"] = "default"
        api.put(kind, thing)
    return api


@pytest.mark.parametrize("name", [[], ["nightly"], [JOB]])
def test_why_says_the_cause_and_the_remedy_first(cluster, capsys, name):
    assert main(["why", *name, "--kubeconfig", cluster.kubeconfig]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "The claim specbatch-results does not exist in namespace default"
    assert lines[1].startswith("remedy: create it")


def test_json_is_for_scripts(cluster, capsys):
    assert main(["why", "nightly", "-o", "json", "--kubeconfig", cluster.kubeconfig]) == 0
    verdict = json.loads(capsys.readouterr().out)
    assert (verdict["cause"], verdict["shards"], verdict["job"]) == ("claim-missing", [0], JOB)


def test_a_verdict_needs_no_more_than_the_submitters_role(cluster, capsys):
    for plural in ("nodes", "storageclasses", "persistentvolumes", "secrets", "namespaces"):
        for verb in ("get", "list", "watch"):
            cluster.deny(verb, plural)
    cluster.remove(PODS, f"{JOB}-0-abcde")
    waits = unschedulable(
        "0/1 nodes are available: 1 Insufficient nvidia.com/gpu. preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."
    )
    waits["metadata"]["namespace"] = "default"
    cluster.put(PODS, waits)
    cluster.put(CLAIMS, {"metadata": {"name": "specbatch-results"}, "spec": {}, "status": {"phase": "Bound"}})
    assert main(["why", "--kubeconfig", cluster.kubeconfig]) == 0
    said = capsys.readouterr().out
    assert "cause: not-enough-gpus" in said
    assert "not looked at (not permitted, or too many): nodes" in said


def test_a_run_that_is_not_there_is_71(cluster, capsys):
    assert main(["why", "nighty", "--kubeconfig", cluster.kubeconfig]) == 71
    assert "did you mean nightly?" in capsys.readouterr().err
