"""`specbatch verify` of a bfloat16 run on a GPU: python -m pytest -m gpu tests/runner/verify/test_gpu.py"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
MODEL = ROOT / "models/smollm2/target"
ROWS = 24


def command(gpus, tmp_path, rows, *sampling):
    """A bfloat16 run of the embedded pair, or of SmolLM2 with n-gram drafts where `make smollm2` has made it."""
    sets = [
        *(f"placement.gpus={gpus}", f"results.dir={tmp_path}", "results.report=false", "target.dtype=bfloat16"),
        *(f"dataset.limit={rows}", "decoding.maxNewTokens=64", "placement.cpuThreads=4"),
    ]
    sets += (
        [f"target.model={MODEL}", "drafter={method: ngram}", "dataset.answerField=null"]
        if MODEL.is_dir()
        else ["drafter.dtype=bfloat16"]
    )
    words = [word for override in (*sets, *sampling) for word in ("--set", override)]
    return ["run", "job/quickstart.yaml", "--quiet", *words]


def start(words, *, gpus, code=0):
    env = os.environ | {"PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"}
    if gpus:
        env["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    command = [sys.executable, "-m", "specbatch", *words]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == code, done.stderr + done.stdout
    return done.stdout


def verify(start, tmp_path, rows, *, gpus, code=0):
    words = ["verify", str(tmp_path / "quickstart"), "--sample", str(rows), "--output", "json", "--quiet"]
    # one row at a time: batches of another size round apart, so that there is something to judge
    apart = ["--set", "batching.maxSequences=1"]
    return json.loads(start([*words, *apart], gpus=gpus, code=code))


def check(tmp_path, gpus, sampling, count=ROWS, start=start):
    start(command(gpus, tmp_path, count, *sampling), gpus=gpus)
    found = verify(start, tmp_path, count, gpus=gpus)
    assert (found["unexplained"], found["exact"] + found["ties"]) == (0, count), found["divergences"]
    assert found["dtype"] == "bfloat16"
    assert found["scores"] in {"", "float32"}
    assert found["device"] == ("cuda:0" if gpus else "cpu")
    part = tmp_path / "quickstart/part-00000-of-00001.jsonl"
    rows = [json.loads(line) for line in part.read_text().splitlines()]
    rows[0]["text"] = "~" + rows[0]["text"]
    part.write_text("".join(json.dumps(row) + "\n" for row in rows))
    tampered = verify(start, tmp_path, count, gpus=gpus, code=1)
    assert tampered["unexplained"] == 1
    assert [one["id"] for one in tampered["divergences"] if one["kind"] == "unexplained"] == [rows[0]["id"]]
    assert tampered["scores"] == "float32"


SAMPLING = {"greedy": (), "sampled": ("decoding.temperature=0.8", "decoding.topP=0.95")}


@pytest.mark.gpu
@pytest.mark.parametrize("name", SAMPLING)
def test_a_bfloat16_run_on_a_gpu_has_nothing_unexplained_and_tampering_shows(name, tmp_path):
    check(tmp_path, 1, SAMPLING[name])


@pytest.mark.slow
def test_the_same_on_the_cpu(tmp_path, zygote, monkeypatch):
    def start(words, *, gpus, code=0):
        ended = zygote.process("specbatch", *words, cwd=ROOT)
        assert ended.wait(300) == code, ended.errors + ended.output
        return ended.output

    monkeypatch.setattr("tests.runner.verify.test_gpu.MODEL", Path("/none"))  # the embedded pair: seconds, not minutes
    check(tmp_path, 0, (*SAMPLING["sampled"], "decoding.maxNewTokens=16"), 4, start)
