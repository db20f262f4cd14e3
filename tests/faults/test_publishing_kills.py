"""kill -9 of a run that publishes, and of the S3 server that it publishes to, and volumes that are lost in between."""

from __future__ import annotations

import hashlib
import json
import math
import random
import shutil
import signal

import pytest

from tests.faults.cases import answers, mixed_rows
from tests.faults.proof import check_collected, row_files

KILLS = 5  # a run
RUNS = 40
_LONGEST = 60  # starts a run


@pytest.mark.parametrize(
    "seed", [pytest.param(seed, marks=pytest.mark.slow if seed < 1 else pytest.mark.faults) for seed in range(RUNS)]
)
def test_a_published_run_is_whole_whatever_was_killed_or_lost(make_case, reference_of, s3, seed):
    chosen = random.Random(seed)
    case = make_case(mixed_rows(40), results__fsyncRows=chosen.choice([1, 100]))
    reference = reference_of(case)
    there = s3.root / "bucket" / "runs" / case.run_dir.name
    published: dict[str, bytes] = {}
    killed, lost = 0, 0
    for _ in range(_LONGEST):
        last = killed >= KILLS
        if last or chosen.random() < 0.7:
            s3.start() if not s3.running else None
        attempt = case.start(
            {"env": dict(s3.env)},
            results__publish="s3://bucket/runs/",
            results__partSize=chosen.choice(["4Ki", "6Ki"]),
            results__publishSeconds=chosen.choice([0.05, 600.0]),
            results__publishRetrySeconds=20.0 if last else 0.2,
        )
        if last:
            code = attempt.wait(120)
        else:
            if s3.running and chosen.random() < 0.3:
                attempt.ended(chosen.uniform(0.3, 1.5))
                s3.kill()
            code = attempt.kill_after(math.exp(chosen.uniform(math.log(0.1), math.log(4.0))))
        # What was published stays, whatever happens.
        for path in row_files(there):
            assert path.read_bytes().startswith(published.get(path.name, b"")), path.name
            published[path.name] = path.read_bytes()
        assert published.keys() <= {path.name for path in row_files(there)}
        if code == -signal.SIGKILL:
            killed += 1
        else:
            assert code == 0 or (code == 74 and not last), attempt.output
        if last:
            break
        if chosen.random() < 0.3:
            shutil.rmtree(case.run_dir, ignore_errors=True)
            lost += 1
    check_published(there, reference)
    check_collected("s3://bucket/runs/tiny", reference)
    print(f"killed {killed}, volumes lost {lost}, files there {len(published)}")  # shown where the test fails later


def check_published(folder, reference):
    """Every row is there, as in the undisturbed run; more than once only if it says the same; the manifest lists every file."""
    found = answers(folder)
    assert sorted(found) == sorted(reference)
    for index, values in found.items():
        assert all(value == reference[index][0] for value in values), f"row {index}"
    manifest = json.loads((folder / "manifest-00000-of-00001.json").read_bytes())
    assert manifest["complete"]
    assert {entry["name"] for entry in manifest["files"]} == {path.name for path in row_files(folder)}
    for entry in manifest["files"]:
        data = (folder / entry["name"]).read_bytes()
        assert (entry["rows"], entry["bytes"]) == (data.count(b"\n"), len(data)), entry["name"]
        assert entry["sha256"] == hashlib.sha256(data).hexdigest(), entry["name"]
    success = json.loads((folder / "_SUCCESS").read_bytes())
    assert success["results"] + success["errors"] == len(reference)
