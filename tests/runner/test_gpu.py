"""`specbatch run` on real GPUs: python -m pytest -m gpu tests/runner/test_gpu.py (needs no wheel but the base install's)."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.gpu

ROOT = Path(__file__).resolve().parents[2]


def gpu_uuids():
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True).stdout
    return [line.split("UUID: ")[1].rstrip(")\n") for line in listed.splitlines()]


def command(tmp_path, *overrides):
    sets = [f"results.dir={tmp_path}", "results.report=false", "placement.cpuThreads=4", *overrides]
    return [
        *(sys.executable, "-m", "specbatch", "run", "job/quickstart.yaml", "--log-format=json"),
        *(word for override in sets for word in ("--set", override)),
    ]


def run(tmp_path, *overrides, visible, **env):
    return subprocess.run(
        command(tmp_path, *overrides),
        cwd=ROOT,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ",".join(visible), "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"} | env,
        capture_output=True,
        text=True,
        timeout=300,  # a cold machine reads torch from disk for minutes
        check=False,
    )  # fmt: skip


def manifest(tmp_path):
    return json.loads((tmp_path / "quickstart/manifest-00000-of-00001.json").read_text())


def devices(manifest, role):
    return set(manifest["placement"][role].values())


def texts(tmp_path):
    rows = (tmp_path / "quickstart/part-00000-of-00001.jsonl").read_text().splitlines()
    return {row["id"]: row["text"] for row in map(json.loads, rows)}


CASES = {
    "same": (1, ["placement.strategy=same"], {}, {"target": {"cuda:0"}, "drafter": {"cuda:0"}}),
    "two replicas": (
        2,
        ["placement.strategy=same"],
        {},
        {"target[0]": {"cuda:0"}, "drafter[0]": {"cuda:0"}, "target[1]": {"cuda:1"}, "drafter[1]": {"cuda:1"}},
    ),
    "separate": (2, ["placement.strategy=separate"], {}, {"target": {"cuda:0"}, "drafter": {"cuda:1"}}),
    "ratio": (
        2,
        ["placement.strategy=multi_gpu_ratio", "placement.ratio={target: 1, drafter: 1}"],
        {},
        {"target": {"cuda:0"}, "drafter": {"cuda:1"}},
    ),
    "a drafter on each GPU": (
        2,
        [],
        {"TARGET_GPU": "cuda:0", "DRAFTER_GPU": "cuda:0+cuda:1"},
        {"target": {"cuda:0"}, "drafter": {"cuda:0"}, "drafter 2": {"cuda:1"}},
    ),
    "placement variables split the target's layers": (
        2,
        [],
        {"TARGET_GPU": "cuda:0,cuda:1", "DRAFTER_GPU": "cuda:1", "GPU_STRATEGY": "multi_gpu_ratio"},
        {"target": {"cuda:0", "cuda:1"}, "drafter": {"cuda:1"}},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_every_placement_gives_the_right_answers_and_is_read_back(name, tmp_path):
    count, overrides, env, expected = CASES[name]
    uuids = gpu_uuids()
    if len(uuids) < count:
        pytest.skip(f"needs {count} GPUs")
    done = run(tmp_path, f"placement.gpus={count}", *overrides, visible=uuids[:count], **env)
    assert done.returncode == 0, done.stderr
    found = manifest(tmp_path)
    assert found["totals"]["correct"] == 200
    assert {role: devices(found, role) for role in expected} == expected


def test_another_count_of_visible_gpus_is_refused_before_any_load(tmp_path):
    done = run(tmp_path, "placement.gpus=3", visible=gpu_uuids()[:1])
    assert done.returncode == 69
    assert "spec.placement.gpus is 3" in done.stderr
    assert "loading" not in done.stdout


def test_sampled_text_on_two_replicas_is_that_of_one(tmp_path):
    """Rows land on another replica on every run; their streams are their own."""
    if len(gpu_uuids()) < 2:
        pytest.skip("needs 2 GPUs")
    sampled = ["decoding.temperature=0.7", "decoding.seed=3"]
    for count in (1, 2):
        done = run(tmp_path / str(count), f"placement.gpus={count}", *sampled, visible=gpu_uuids()[:count])
        assert done.returncode == 0, done.stderr
    one, two = texts(tmp_path / "1"), texts(tmp_path / "2")
    assert one.keys() == two.keys()
    # float32, yet batches of other sizes round apart: a near tie may fall the other way once in a while.
    assert sum(one[row] == two[row] for row in one) >= 198


def test_sigterm_during_decoding_on_the_gpu_saves_and_exits_75(tmp_path):
    uuids = gpu_uuids()[:2]
    slow = ["batching.maxSequences=1", "decoding.numSpeculativeTokens=0", f"placement.gpus={len(uuids)}"]
    process = subprocess.Popen(
        command(tmp_path, *slow),
        cwd=ROOT,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ",".join(uuids)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    part = tmp_path / "quickstart/part-00000-of-00001.jsonl"
    deadline = time.monotonic() + 90
    while not (part.exists() and part.read_text().count("\n") >= 3) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 75, errors
    assert 3 <= part.read_text().count("\n") < 200
