"""Whatever stands in a run's state files: status, report, collect and a restart answer, or refuse in a sentence. 16,000 inputs in make fuzz."""

from __future__ import annotations

import functools
import io
import json
import random
import shutil
from collections import Counter
from pathlib import Path

import pytest

from specbatch.errors import SpecbatchError
from specbatch.results.collect.collect import collect as collect_run
from specbatch.results.manifest import read_manifests
from specbatch.results.report.charts import Charts, make_charts
from specbatch.results.report.facts import gather
from specbatch.results.report.page import render_page
from specbatch.results.report.sample import find_sample
from specbatch.results.shard.shard import ShardResults
from specbatch.results.status.status import read_status
from specbatch.results.status.status_text import render_status, status_json
from specbatch.results.storage.folder import Folder
from specbatch.terminal import for_people
from tests.fuzz.checks import bounded, check_sentence
from tests.fuzz.mutate import changed, damaged
from tests.results.builders import IDENTITY, finish_run, make_error, make_row, make_summary, make_timeline

INPUTS = 1000  # a test
DAMAGES = ("progress-00000-of-00001.json", "identity-00000-of-00001.json", "manifest-00000-of-00001.json", "splits.jsonl", "_SUCCESS")  # fmt: skip
EXTREMES = [
    b"[" * 200_000,
    b'{"attempts":' * 100_000 + b"1" + b"}" * 100_000,
    b'{"shards": 1000000000}\n',
    b'{"shards": 1}\n' * 1000,
    b"9" * 5000,
    b"null",
    b"[]",
    b"",
    b"\0" * 4096,
]


def names_in(value) -> set[str]:
    if isinstance(value, dict):
        return set(value).union(*map(names_in, value.values()))
    return set().union(*map(names_in, value)) if isinstance(value, list) else set()


@functools.cache
def whole(folder: Path) -> dict[str, bytes]:
    """The files of a run that has ended."""
    finish_run(folder, [make_row(index) for index in range(6)], [make_error(9)], spec={"a": 1}, versions={"torch": "2"})
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def make(files: dict[str, bytes], number: int) -> dict[str, bytes]:
    """An input: the run's files, one or two of the small ones damaged."""
    chosen = random.Random(number)
    made = dict(files)
    for name in chosen.sample(DAMAGES, chosen.choice([1, 1, 2])):
        kind = chosen.random()
        if kind < 0.05:
            made[name] = chosen.choice(EXTREMES)
        elif kind < 0.45 or name == "splits.jsonl":
            made[name] = damaged(files[name], list(files.values()), chosen)
        else:
            value = json.loads(files[name])
            data = json.dumps(changed(value, sorted(names_in(value)), chosen))
            made[name] = data.encode("utf-8", "surrogatepass") + b"\n"
    return made


def restart(folder: Path) -> None:
    with ShardResults.open(folder, identity=IDENTITY) as store:
        store.write(make_row(100))
        store.save_progress(make_summary(store), make_timeline(), "done")


def status(folder: Path) -> None:
    run = read_status(Folder(folder), 1.7e9)
    for_people(render_status(run)).encode()
    json.dumps(status_json(run)).encode()


def report(folder: Path) -> None:
    facts = gather(Folder(folder))
    make_charts(facts)
    render_page(facts, Charts(), {}, find_sample(facts, None)).encode("utf-8", "replace")  # as write_report does


COMMANDS = {
    "status": status,
    "report": report,
    "manifests": read_manifests,
    "collect": lambda folder: collect_run(folder, io.BytesIO()),
    "restart": restart,  # last: it changes the files
}


def check(folder: Path, seen: Counter[str]) -> None:
    for name, command in COMMANDS.items():
        with bounded():
            try:
                command(folder)
            except SpecbatchError as error:
                check_sentence(error.message, 3000)
                assert error.where  # noqa: PT017 - one of two good ends
                seen[f"{name} refused"] += 1
            except BaseException as error:
                raise AssertionError(f"{name}: {type(error).__name__}: {error}") from error
            else:
                seen[name] += 1


@pytest.mark.parametrize(
    "part", [pytest.param(part, marks=pytest.mark.slow if part == 0 else pytest.mark.faults) for part in range(16)]
)
def test_a_damaged_state_file_is_answered_or_refused_in_a_sentence(tmp_path, part):
    files, seen = whole(tmp_path / "whole"), Counter()
    for number in range(part * INPUTS, part * INPUTS + (INPUTS if part else 120)):
        folder = tmp_path / "run"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        made = make(files, number)
        for name, data in made.items():
            (folder / name).write_bytes(data)
        try:
            check(folder, seen)
        except AssertionError as error:
            different = {name: data[:2000] for name, data in made.items() if data != files[name]}
            raise AssertionError(f"input {number}: {different!r}") from error
    assert set(seen) >= {*COMMANDS, "manifests refused", "collect refused", "restart refused"}, seen


@pytest.mark.parametrize("name", DAMAGES)
@pytest.mark.parametrize("make_odd", ["loop", "folder", "huge", "deep"])
def test_an_odd_file_in_its_place_is_no_traceback(tmp_path, name, make_odd, monkeypatch):
    whole(tmp_path / "run")
    path = tmp_path / "run" / name
    path.unlink()
    match make_odd:
        case "loop":
            path.symlink_to(path)
        case "folder":
            path.mkdir()
        case "huge":
            with path.open("wb") as file:
                file.truncate(2 << 30)  # of which nothing is on the disk
        case "deep":
            path.write_bytes(b"[" * 1_000_000)
    check(tmp_path / "run", Counter())
