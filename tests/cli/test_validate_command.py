"""`specbatch validate`: the spec, and what it names on this machine and for a cluster."""

from __future__ import annotations

import io
import json
import re
import shutil
import sys
from importlib.resources import files

import pytest

from specbatch import stored_weights
from specbatch.cli.main import main
from specbatch.cluster.client.kinds import JOBS
from tests.api.specs import MINIMUM
from tests.cluster.submitting import put_claim, put_node

EMBEDDED = files("specbatch") / "embedded" / "target"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current directory, with a.yaml and its prompts."""
    (tmp_path / "a.yaml").write_text(MINIMUM)
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "x"}\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    return tmp_path


@pytest.fixture
def validate(folder, capsys):
    """validate(word, ...) -> (exit code, what was said)."""

    def call(*words):
        code = main(["validate", *words])
        return code, "".join(capsys.readouterr())

    return call


def changed(*changes):
    return ["a.yaml", *(word for change in changes for word in ("--set", change))]


def test_ok_says_name_hash_and_what_was_looked_at(validate, folder):
    code, said = validate("a.yaml")
    assert code == 0
    assert re.match(r"a.yaml: ok \(nightly, hash [0-9a-f]{12}\)\n", said)
    assert "target   Qwen/Qwen3-8B, of the hub: not checked, since its files are not on this machine" in said
    assert "dataset  prompts.jsonl, JSON Lines, prompts from prompt; none of the first 1 row would be refused" in said
    assert f"results  {folder}/results/nightly\n" in said


@pytest.mark.parametrize(
    ("data", "code", "said"),
    [
        (b'{"prompt": "x"}\n', 0, ": ok (nightly"),
        (b'{"prompt": "x"}\n{}\n', 0, "1 of the first 2 rows would be refused: "),
        (b'{"instruction": "x", "input": "y"}\n', 0, "(Alpaca)"),
        (b'{"text_of_mine": "x"}\n{}\n', 65, "no prompt is found in the first "),
        (b'[{"prompt": "x"}]', 0, ": ok (nightly"),
        (b"PAR1\x15\x04", 65, "prompts.jsonl: the Parquet file is damaged"),
        (b"", 65, "the dataset holds no rows"),
    ],
)
def test_the_dataset_and_its_first_rows_are_read(validate, folder, data, code, said):
    (folder / "prompts.jsonl").write_bytes(data)
    for place in ("prompts.jsonl", f"file://{folder}/prompts.jsonl", f"{folder}/*.jsonl"):
        got, text = validate(*changed(f"dataset.uri={place}"))
        assert got == code
        assert said in text


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        ("dataset.uri=none.jsonl", 65, "relative paths begin in the current directory, "),
        ("dataset.uri=/none/rows.jsonl", 65, "/none/rows.jsonl: no such file"),
        ("dataset.uri=s3://bucket/rows.jsonl", 0, "s3://bucket/rows.jsonl, in a store: not checked"),
        ("target.model=./none", 66, "there is no such folder"),
        ("target.model=embedded:target", 0, "embedded:target, in the package"),
        ("dataset.chatTemplate=./none.jinja", 64, "none.jinja cannot be read: No such file or directory"),
        ("results.dir=a.yaml", 64, "a.yaml is a file"),
        ("drafter={method: ngram}", 0, "ok (nightly"),
    ],
)
def test_what_a_spec_names_is_looked_for(validate, change, code, said):
    got, text = validate(*changed(change))
    assert got == code
    assert said in text


def test_a_dataset_on_a_volume_of_the_pods_cannot_be_checked_here(validate):
    code, said = validate(*changed("dataset.uri=/data/x.jsonl", "job.volumes.data={claimName: d}"))
    assert code == 0
    assert "/data/x.jsonl, on a volume of the pods: not checked from here" in said


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("", "models/mine, complete on this machine"),
        ("tokenizer*", "holds no tokenizer"),
        ("*.safetensors", "holds no weights"),
        ("config.json", "holds neither a config.json"),
    ],
)
def test_a_folder_of_a_model_must_be_complete(validate, folder, missing, said):
    model = shutil.copytree(EMBEDDED, folder / "models" / "mine")
    for file in model.glob(missing) if missing else ():
        file.unlink()
    code, text = validate(*changed("target.model=models/mine"))
    assert code == (66 if missing else 0)
    assert said in text


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"model_type": "bloom"}, "alibi"),
        ({"quantization_config": {"quant_method": "awq", "version": "gemv"}}, "packed for the kernel gemv"),
        ({"quantization_config": {"quant_method": "modelopt"}}, "quantised by modelopt that transformers does not"),
    ],
)
def test_what_the_native_engine_cannot_run_is_said_and_refused_where_the_spec_asks_for_it(
    validate, folder, monkeypatch, config, words
):
    monkeypatch.setitem(stored_weights._PACKAGES, "awq", ("no-such-package",))
    file = shutil.copytree(EMBEDDED, folder / "models" / "mine") / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | config))
    code, text = validate(*changed("target.model=models/mine"))
    assert code == 0
    assert words in text
    assert "so that vLLM alone runs it" in text
    code, text = validate(*changed("target.model=models/mine", "engine.name=native"))
    assert code == 66
    assert words in text


MIMO = {"model_type": "mimo", "num_nextn_predict_layers": 1, "attention_bias": True}


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({}, "method mtp: its config.json counts no layers for drafting"),
        ({"num_nextn_predict_layers": 1}, "method mtp: those of model type 'qwen3' do not run here (MiMo's do)"),
        (MIMO, "drafter  the MTP layer of models/mine\n"),
    ],
)
def test_mtp_is_refused_as_plan_does_where_the_target_brings_no_layer_that_drafts_here(validate, folder, config, said):
    file = shutil.copytree(EMBEDDED, folder / "models" / "mine") / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | config))
    mtp = changed("target.model=models/mine", "drafter={method: mtp}")
    code, text = validate(*mtp)
    assert said in text
    assert code == (0 if config is MIMO else 66) == main(["plan", *mtp])


@pytest.mark.parametrize("target", ["embedded:target", "Qwen/Qwen3-8B"])
def test_mtp_is_refused_for_a_target_whose_config_comes_with_the_package(validate, target):
    code, said = validate(*changed(f"target.model={target}", "drafter={method: mtp}"))
    assert (code, "counts no layers for drafting" in said) == (66, True)


def test_mtp_is_not_checked_of_a_target_that_is_not_here_or_the_pods(validate):
    spec = changed("target.model=acme/unknown", "drafter={method: mtp}", "job.volumes.results={claimName: r}")
    code, said = validate(*spec)
    assert (code, "drafter  the MTP layer of acme/unknown: not checked\n" in said) == (0, True)
    assert "the MTP layer of acme/unknown: not checked from here\n" in validate(*spec, "--for", "cluster")[1]


def test_a_folder_that_is_not_there_is_taken_for_an_id_of_the_hub_and_that_is_said(validate, folder):
    (folder / "models").mkdir()
    assert (
        f"models/mine, not in {folder}/models, so an id of the hub: not checked"
        in validate(*changed("target.model=models/mine"))[1]
    )


def test_everything_wrong_is_said_at_once(validate, folder):
    code, said = validate(*changed("dataset.uri=none.jsonl", "target.model=./none", "dataset.chatTemplate=./none"))
    assert code == 64
    assert said.count("error: ") == 3


def test_all_files_are_gone_through(validate, folder):
    (folder / "b.yaml").write_text(MINIMUM + "  decoding: {seed: -1, topK: 3}\n")
    code, said = validate("b.yaml", "a.yaml", "none.yaml")
    assert code == 64
    assert said.count(": ok (") == 1
    for part in ("error: b.yaml: 2 problems", "spec.decoding.seed", "spec.decoding.topK", "none.yaml: 1 problem"):
        assert part in said


def test_standard_input_is_read(validate, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"[]")))
    code, said = validate("-")
    assert (code, "error: standard input: 1 problem" in said) == (64, True)


def test_set_is_taken(validate):
    code, said = validate(*changed("placement.gpus=8", "placement.replicas=3"))
    assert (code, "choose one of 1, 2, 4, 8" in said) == (64, True)


@pytest.mark.parametrize("command", ["run", "plan", "peek", "validate", "submit", "render"])
def test_paths_that_are_only_beside_the_spec_are_refused_with_the_way_there(folder, monkeypatch, capsys, command):
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    shutil.copytree(EMBEDDED, folder / "models" / "mine")
    assert main([command, "../a.yaml", "--set", "target.model=models/mine"]) == 64
    said = capsys.readouterr().err
    assert (
        f"spec.dataset.uri: prompts.jsonl is not in the current directory {elsewhere}, where relative paths begin"
        in said
    )
    assert "remedy: cd .., or --set dataset.uri=../prompts.jsonl" in said
    assert "remedy: cd .., or --set target.model=../models/mine" in said


def test_for_a_cluster_it_says_all_that_submit_would(validate):
    code, said = validate(*changed("target.model=/models/x", "dataset.uri=/data/x.jsonl"), "--for", "cluster")
    assert code == 64
    assert "spec.job.volumes.results: is not given" in said
    ready = changed("job.volumes.results={claimName: r}", "target.model=/models/x")
    code, said = validate(*ready, "--for", "cluster")
    assert code == 0
    assert "/models/x, a path of the pods: not checked from here" in said
    assert "no cluster was reached, so claims, Secrets, queues and nodes are not checked" in said


def test_for_a_cluster_a_folder_of_this_machine_is_refused(validate, folder):
    shutil.copytree(EMBEDDED, folder / "models" / "mine")
    ready = ["job.volumes.results={claimName: r}", "target.model=models/mine"]
    code, said = validate(*changed(*ready), "--for", "cluster")
    assert (code, "spec.target.model: models/mine is a folder of this machine" in said) == (64, True)
    code, said = validate(
        *changed(*ready, "job.volumes.modelCache={claimName: m, mountPath: /models}"), "--for", "cluster"
    )
    assert code == 0


def test_a_cluster_that_is_reached_is_asked_and_nothing_is_written(validate, api):
    words = [
        *changed("job.volumes.results={claimName: specbatch-results}"),
        "--for",
        "cluster",
        "--kubeconfig",
        api.kubeconfig,
    ]
    code, said = validate(*words)
    assert (code, "specbatch-results" in said) == (71, True)
    put_claim(api)
    put_node(api, "node-a")
    code, said = validate(*words, "--set", "placement.gpus=0", "--set", "target.dtype=float32")
    assert code == 0, said
    assert "the cluster accepts Job nightly-" in said
    assert not api.objects(JOBS)


def test_a_cluster_that_is_named_must_answer(validate, folder):
    assert validate(*changed("job.volumes.results={claimName: r}"), "--for", "cluster", "--kubeconfig", "none")[0] == 71


def test_the_starter_of_init_is_ready_for_both(validate, folder):
    assert main(["init", "new.yaml"]) == 0
    assert validate("new.yaml", "--for", "here")[0] == 0
    assert json.loads((folder / "prompts.jsonl").read_text()) == {"prompt": "x"}
