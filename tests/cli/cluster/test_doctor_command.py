import json

import pytest

from specbatch.cli.main import main
from specbatch.cluster.client.kinds import CLAIMS, NODES
from tests.cluster.diagnose.objects import claim, node


@pytest.fixture
def cluster(api):
    api.put(NODES, node("a", gpus=8))
    api.put(CLAIMS, claim())
    return api


def test_doctor_ends_with_zero_where_nothing_fails(cluster, capsys):
    assert main(["doctor", "--kubeconfig", cluster.kubeconfig]) == 0
    said = capsys.readouterr().out
    assert "ok           kubernetes: v1.36" in said
    assert f"(kubectl --kubeconfig {cluster.kubeconfig} apply -k k8s/ makes" in said


def test_a_check_that_fails_is_1_and_json_says_which(cluster, capsys):
    cluster.deny("create", "jobs")
    assert main(["doctor", "-o", "json", "--kubeconfig", cluster.kubeconfig]) == 1
    value = json.loads(capsys.readouterr().out)
    assert value["ok"] is False
    assert [one["check"] for one in value["checks"] if one["outcome"] == "failed"] == ["permissions"]


@pytest.mark.slow
def test_a_spec_file_is_held_against_the_cluster(cluster, capsys):
    assert main(["doctor", "job/quickstart.yaml", "--kubeconfig", cluster.kubeconfig]) == 0
    assert "quickstart: everything that its pods name is there" in capsys.readouterr().out
    cluster.remove(CLAIMS, "specbatch-results")
    assert main(["doctor", "job/quickstart.yaml", "--kubeconfig", cluster.kubeconfig]) == 1


def test_no_cluster_is_71_and_no_spec_64(cluster, capsys, tmp_path):
    assert main(["doctor", "--kubeconfig", cluster.kubeconfig, "--context", "none"]) == 71
    (tmp_path / "x.yaml").write_text("kind: Other\n")
    assert main(["doctor", str(tmp_path / "x.yaml"), "--kubeconfig", cluster.kubeconfig]) == 64
