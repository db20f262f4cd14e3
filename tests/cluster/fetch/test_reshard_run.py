"""`specbatch reshard` of a run on the cluster: its volume in a pod, and what is published from here."""

import pytest

from specbatch.cli.main import main
from specbatch.cluster.client.kinds import PODS
from specbatch.cluster.fetch.reshard_run import reshard_run
from specbatch.results.collect.reshard import reshard
from specbatch.results.splits import decode_splits
from tests.cluster.job_objects import pod_of, spec, submitted
from tests.results.sharded_runs import run_all


@pytest.fixture
def run_dir(tmp_path):
    run_all(tmp_path / "volume" / "nightly", 2, 0.5)
    return tmp_path / "volume" / "nightly"


def split_of(run_dir):
    return decode_splits((run_dir / "splits.jsonl").read_bytes())[-1]


def test_the_volume_is_resharded_in_a_pod_that_may_write_there_and_is_gone_afterwards(api, node, run_dir, capsys):
    name = submitted(api)["metadata"]["name"]
    assert main(["reshard", "nightly", "--completions", "5"]) == 0
    assert split_of(run_dir) == 5
    said = capsys.readouterr().err
    assert f"resharding claim specbatch-results in pod {name}-reshard" in said
    assert " rows" in said
    mount = node.made[0]["spec"]["containers"][0]["volumeMounts"][0]
    assert not mount.get("readOnly")
    assert api.objects(PODS) == []


def test_nothing_is_done_while_a_pod_of_the_run_is_left(api, node, run_dir, capsys):
    job = submitted(api)
    api.put(PODS, pod_of(job, 0, state="running"))
    assert main(["reshard", "nightly", "--completions", "5"]) == 71
    said = capsys.readouterr().err
    assert "pods of the run are still there" in said
    assert "specbatch cancel nightly" in said
    assert split_of(run_dir) == 2
    assert node.made == []


def test_why_it_failed_in_the_pod_is_said(api, node, run_dir, capsys):
    submitted(api)
    part = run_dir / "part-00000-of-00002.jsonl"
    part.write_bytes(part.read_bytes()[:-40])
    assert main(["reshard", "nightly", "--completions", "5"]) == 71
    assert "its manifest says" in capsys.readouterr().err
    assert split_of(run_dir) == 2


@pytest.mark.parametrize("volumes", [{"results": {"claimName": "specbatch-results"}}, {}])
def test_a_published_run_is_resharded_at_every_place_that_holds_it(api, node, run_dir, tmp_path, volumes):
    bucket, said = tmp_path / "bucket" / "nightly", []
    run_all(bucket, 2, 0.5)
    made = spec(volumes=volumes)
    results = made.spec.results.model_copy(update={"publish": f"file://{bucket.parent}/"})
    made = made.model_copy(update={"spec": made.spec.model_copy(update={"results": results})})
    reshard_run(api.cluster(), made, None, 3, lambda uri: reshard(uri, 3), said.append)
    assert (split_of(run_dir), split_of(bucket)) == (3 if volumes else 2, 3)
    assert len(said) == (2 if volumes else 0)
