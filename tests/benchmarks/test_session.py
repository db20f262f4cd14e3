"""Many measurements in one session: each on GPUs of its own, within its time, with its output kept."""

import contextlib
import time
from pathlib import Path

import pytest

from benchmarks import session
from benchmarks.session import PARTS, Part, read_parts, run
from tests.command_checks import problem
from tests.documents import parsed


def python(code, **fields):
    return Part(fields.pop("name", "part"), f"python -c '{code}'", **{"seconds": 20, **fields})


@pytest.mark.slow
@pytest.mark.parametrize("part", read_parts(PARTS), ids=lambda part: part.name)
def test_every_part_is_a_command_that_exists(part):
    (command,) = parsed(part.command, whole=True)
    assert problem(command) is None


@pytest.mark.slow
def test_parts_that_run_at_once_see_no_gpu_of_each_other(tmp_path):
    def meeting(me, other):
        """A part that ends only if the other one runs beside it."""
        return f"""import os, pathlib, time
print(os.environ["CUDA_VISIBLE_DEVICES"], time.monotonic())
pathlib.Path("{tmp_path}/{me}").touch()
while not pathlib.Path("{tmp_path}/{other}").exists(): time.sleep(.01)
print(time.monotonic())"""

    beside = [(0, 1), (1, 0), (2, 2), (3, 3)]
    parts = [python(meeting(*pair), name=f"{pair[0]}", gpus=1 + (pair[0] == 2)) for pair in beside]
    assert [how for _, how, _ in run(parts, ["4", "7"], 60, tmp_path)] == ["exit code 0"] * 4
    spans = []
    for part in parts:
        gpus, began, ended = (tmp_path / f"{part.name}.log").read_text().split()
        assert len(gpus.split(",")) == part.gpus
        spans.append((set(gpus.split(",")), float(began), float(ended)))
    for at, (gpus, began, ended) in enumerate(spans):
        for others, other_began, other_ended in spans[:at]:
            assert not gpus & others or began > other_ended or other_began > ended


@pytest.mark.slow
def test_a_part_that_takes_too_long_is_ended_with_its_processes_and_its_output_stays(tmp_path):
    code = """import subprocess, time
child = subprocess.Popen(["sleep", "600"])
print(child.pid)
time.sleep(600)"""
    ((_, how, _),) = run([python(code, seconds=3)], ["0"], 30, tmp_path)
    assert how == "ended by the clock"
    state = Path("/proc", (tmp_path / "part.log").read_text().strip(), "stat")
    with contextlib.suppress(FileNotFoundError):
        while state.read_text().rpartition(") ")[2][0] != "Z":
            time.sleep(0.01)


def test_a_part_is_not_begun_where_time_or_gpus_are_short(tmp_path):
    parts = [python("1", name="long", seconds=9), python("1", name="wide", gpus=2, seconds=1)]
    told = {part.name: how for part, how, _ in run(parts, ["0"], 5, tmp_path)}
    assert told == {
        "long": "not begun, of 1 GPUs and 9 s: 5 s are left",
        "wide": "not begun, of 2 GPUs and 1 s: 1 are here",
    }
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_command_shows_how_each_part_ended_and_fails_where_one_did(monkeypatch, tmp_path, capsys):
    file = tmp_path / "parts.toml"
    file.write_text(
        '[good]\ncommand = "python -c \'print(6 * 7)\'"\nseconds = 9\nbar = "42"\n[bad]\ncommand = "python -c 1/0"\nseconds = 9\n'
    )
    monkeypatch.setattr(session, "PARTS", file)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert session.main(["--out", str(tmp_path / "out"), "good"]) == 0
    assert session.main(["--out", str(tmp_path / "out")]) == 1
    out = capsys.readouterr().out
    assert "good: exit code 0, 0 s; bar: 42\n42\n" in out
    assert "bad: exit code 1, 0 s; bar: none\n" in out
    assert "ZeroDivisionError" in out
