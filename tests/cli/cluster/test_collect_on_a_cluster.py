"""`specbatch collect NAME`: which of folder, URI and cluster is meant, and what people see."""

import json
from pathlib import Path

import pytest

from specbatch.cli.main import main
from specbatch.cluster.client.kinds import CONFIG_MAPS, JOBS, PODS
from tests.cluster.job_objects import submitted
from tests.results.collect_runs import indices, write_run


@pytest.fixture
def run_dir(tmp_path):
    write_run(tmp_path / "volume" / "nightly", 12, shards=2, errors={3})
    return tmp_path / "volume" / "nightly"


def test_a_run_on_the_cluster_is_collected_by_its_name(api, node, tmp_path, capsys):
    name = submitted(api)["metadata"]["name"]
    out = tmp_path / "out.jsonl"
    assert main(["collect", "nightly", "-o", str(out), "--format", "openai"]) == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines()[:4] == [
        f"Job {name}, namespace default",
        f"reading claim specbatch-results through pod {name}-reader",
        said.err.splitlines()[2],
        "nightly: 11 results and 1 error of 12 rows",
    ]
    assert "custom_id" in json.loads(out.read_text().splitlines()[0])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.errors.jsonl", "out.jsonl", "volume"]
    assert api.objects(PODS) == []


@pytest.mark.parametrize("words", [[], ["job/nightly"], ["nightly", "-n", "default"], ["nightly", "--context", "test"]])
def test_the_newest_run_a_job_and_options_of_the_cluster_mean_the_cluster(api, node, tmp_path, monkeypatch, words):
    submitted(api)
    (tmp_path / "work" / "nightly").mkdir(parents=True)
    monkeypatch.chdir(tmp_path if len(words) < 2 else tmp_path / "work")
    assert main(["collect", *words, "-o", "out.jsonl"]) == 0
    assert len(node.made) == 1


def test_a_folder_that_is_there_is_meant_before_the_cluster(api, node, run_dir, tmp_path, monkeypatch):
    submitted(api)
    monkeypatch.chdir(run_dir.parent)
    assert main(["collect", "nightly", "-o", str(tmp_path / "out.jsonl")]) == 0
    assert node.made == []
    assert main(["collect", "results/nightly"]) == 74


@pytest.mark.slow
def test_an_unfinished_run_is_1_until_partial(api, node, run_dir, tmp_path, capsys):
    submitted(api)
    (run_dir / "_SUCCESS").unlink()
    out = tmp_path / "out.jsonl"
    assert main(["collect", "nightly", "-o", str(out)]) == 1
    assert not out.exists()
    assert main(["collect", "nightly", "-o", str(out), "--partial", "--missing", str(tmp_path / "missing.jsonl")]) == 0
    assert len(indices(out)) == 11


def test_where_the_job_is_gone_the_specs_file_says_where_the_results_are(api, node, tmp_path, capsys):
    job = submitted(api)
    spec = tmp_path / "spec.yaml"
    spec.write_text(api.objects(CONFIG_MAPS)[0]["data"]["spec.json"])
    api.remove(JOBS, job["metadata"]["name"])
    api.remove(CONFIG_MAPS, job["metadata"]["name"])
    assert main(["collect", str(spec), "-o", str(tmp_path / "out.jsonl")]) == 0
    assert capsys.readouterr().err.startswith("run nightly, whose Job is gone, namespace default\n")
    assert len(indices(tmp_path / "out.jsonl")) == 11


def test_neither_folder_nor_cluster_names_both(api, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KUBECONFIG", api.kubeconfig)
    assert main(["collect", "weekly"]) == 71
    said = capsys.readouterr().err
    assert said.startswith(
        f"error: namespace default: there is no folder {Path.cwd() / 'weekly'}, and there is no run and no Job named weekly"
    )
    assert "remedy: name the run's folder, or a run on a cluster: " in said
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    assert main(["collect", "weekly"]) == 71
    assert f"there is no folder {Path.cwd() / 'weekly'}, and no cluster to talk to" in capsys.readouterr().err
    assert main(["collect"]) == 71
    assert "no folder was named, and no cluster to talk to" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "place"),
    [([], "tmp"), (["-o", "/dev/null"], "tmp"), (["-o", "out/rows.jsonl"], "out"), (["--tmp", "other"], "other")],
)
def test_files_are_fetched_to_where_there_is_room_for_the_output(api, node, tmp_path, monkeypatch, words, place):
    submitted(api)
    for name in ("tmp", "out", "other"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    seen = []
    node.before = lambda command: seen.extend(path.parent.name for path in tmp_path.glob("*/.specbatch-collect-*"))
    assert main(["collect", "nightly", *words]) == 0
    assert seen == [place]


def test_damage_on_the_volume_is_74(api, node, run_dir, tmp_path, capsys):
    submitted(api)
    part = run_dir / "part-00000-of-00002.jsonl"
    part.write_bytes(part.read_bytes().replace(b"The", b"She", 1))
    assert main(["collect", "nightly", "-o", str(tmp_path / "out.jsonl")]) == 74
    assert "not what its manifest says" in capsys.readouterr().err
    assert not (tmp_path / "out.jsonl").exists()
    assert api.objects(PODS) == []
