"""A run at some stage of its life, put back to it before every disturbance."""

from __future__ import annotations

from typing import Any

import pytest

from tests.faults.cases import BULKY, NAME, Case, answers
from tests.faults.disk import Tree, real_tree, write_tree
from tests.faults.layer import Report
from tests.faults.proof import Kept, check_collected, check_manifest, check_tidy, check_whole

FOR_PEOPLE = ("figures", "figures/.lengths.png.tmp", "figures/lengths.png", "report.html", "report.html.tmp")
FSYNC_ROWS = 3
SETTINGS = {**BULKY, "results__fsyncRows": FSYNC_ROWS, "batching__maxSequences": 4}


class Scene:
    """A run at some stage, put back to it as often as needed.

    Attributes:
        case: the run.
        fresh: whether attempts delete what is there.
        calls: what an attempt calls from this stage on, undisturbed.
    """

    def __init__(self, case: Case, *, fresh: bool = False) -> None:
        self.case = case
        self.fresh = fresh
        self.dump = case.folder / "dump"
        self._begin = real_tree(case.disk)
        self._old = answers(case.run_dir) if fresh else None
        self._specs = case.spec(), case.spec(batching__maxSequences=3)
        self.calls = self.attempt()[1].calls

    def numbers(self) -> list[int]:
        """Of its calls those to disturb: with a report those for people, as all else is as without, and figures are like each other."""
        return [
            number
            for number, call in enumerate(self.calls, start=1)
            if not self.case.changes.get("results__report") or call.endswith(FOR_PEOPLE)
        ]

    def attempt(self, **plan) -> tuple[int, Report]:
        """An attempt from the stage on, disturbed by a plan: exit code and what it leaves."""
        write_tree(self.case.disk, self._begin)
        return self.go_on(**plan)

    def go_on(self, **plan) -> tuple[int, Report]:
        """An attempt from what the last one has left."""
        faults = {"root": str(self.case.disk), "dump": str(self.dump), **plan}
        self.last = self.case.zygote.run(self._specs[0], {"faults": faults, "fresh": self.fresh})
        return self.last.wait(), Report.read(self.dump)

    def check_that_it_ends(self, tree: Tree, kept: Kept, reference) -> None:
        """From this state a start without disturbance ends the run."""
        write_tree(self.case.disk, tree)
        ended = self.case.zygote.run(self._specs[1])
        if self.fresh and ended.wait() == 64:  # it is the old run's still
            assert "--fresh" in ended.output, ended.output
            ended = self.case.zygote.run(self._specs[1], {"fresh": True})
        assert ended.wait() == 0, ended.output
        if not self.fresh:
            kept.check(self.case.run_dir)
        self.check(reference)
        check_tidy(self.case.run_dir)

    def check(self, reference) -> None:
        """The run has ended as it should, and is where it was to be published."""
        check_whole(self.case.run_dir, reference)
        if "results__publish" in self.case.changes:
            self.check_published(reference)

    def check_word(self, tree: Tree, reference) -> None:
        """_SUCCESS is written last, and removed first: where it is, everything else is."""
        if f"results/{NAME}/_SUCCESS" in tree:
            write_tree(self.case.disk, tree)
            check_whole(self.case.run_dir, self._old if self._old == answers(self.case.run_dir) else reference)

    def check_published(self, reference) -> None:
        """What is published is a whole run of its own."""
        check_manifest(self.case.bucket)
        assert (self.case.bucket / "_SUCCESS").exists()
        check_collected(self.case.bucket, reference)


def stop_in_the_middle(case: Case) -> None:
    """Leaves what a failed attempt and then a killed one leave: a manifest, a torn line, a temporary file."""
    dump = case.folder / "dump"
    ended = case.run({"faults": {"root": str(case.disk), "dump": str(dump)}})
    assert ended.wait() == 0, ended.output
    calls = Report.read(dump).calls
    writes = [at for at, call in enumerate(calls, start=1) if call.startswith("write") and "part-" in call]
    write_tree(case.disk, {})
    faults = {"root": str(case.disk), "dump": str(dump), "at": writes[5], "how": "error", "error": "ENOSPC"}
    assert case.run({"faults": faults}).wait() == 74
    (case.run_dir / ".manifest-00000-of-00001.json.9999999.tmp").write_bytes(b"{")
    newest = max(case.run_dir.glob("part-*"))
    newest.write_bytes(newest.read_bytes() + b'{"id": "r3", "index": 3, "text"')


def slices(few: int, many: int, *names: str) -> list[Any]:
    """Parameters (scene, numbers[part::parts]): a thin slice of each for make test, all for make faults."""
    thin = [pytest.param(name, slice(3, None, few), marks=pytest.mark.slow, id=f"{name}, some") for name in names]
    return thin + [
        pytest.param(name, slice(part, None, many), marks=pytest.mark.faults, id=f"{name}, {part} of {many}")
        for name in names
        for part in range(many)
    ]
