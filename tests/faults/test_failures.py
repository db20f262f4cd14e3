"""Calls that fail instead of killing: a full disk, a quota, a broken disk. Exit 74, one clear message, and the next start ends the run."""

from __future__ import annotations

import itertools

import pytest

from tests.faults.disk import real_tree
from tests.faults.proof import Kept, check_whole
from tests.faults.scenes import FOR_PEOPLE, FSYNC_ROWS, Scene, slices
from tests.faults.test_boundaries import rows_not_safe

# A directory whose parents are made first; what an earlier kill left lying about.
HARMLESS = ("mkdir results/tiny", "unlink results/tiny/.")
_KINDS = [(error, lasting) for error in ("ENOSPC", "EIO", "EDQUOT") for lasting in (False, True)]
_KINDS.append(("EROFS", True))


def check_message(output: str, error: str) -> None:
    """One error, with a place and a remedy, and no traceback."""
    errors = output[output.index("error: ") :]
    assert output.count("error: ") == 1, output
    assert "remedy: " in errors, output
    assert "Traceback" not in output, output
    reason = {"ENOSPC": "No space left", "EIO": "Input/output error", "EDQUOT": "quota exceeded", "EROFS": "Read-only"}[
        error
    ]
    assert reason.lower() in errors.lower(), output


@pytest.mark.parametrize(("name", "chosen"), slices(37, 6, "from the start", "goes on", "publishing"))
def test_a_call_that_fails_ends_the_run_with_74_and_a_remedy_and_nothing_is_lost(
    make_scene, reference_of, name, chosen
):
    scene: Scene = make_scene(name)
    reference = reference_of(scene.case)
    kinds = itertools.islice(itertools.cycle(_KINDS), chosen.start, None)
    for at in scene.numbers()[chosen]:
        for torn in (False, True) if scene.calls[at - 1].startswith("write") else (False,):
            error, lasting = next(kinds)
            lasting &= name != "publishing" or at % 10 == 0  # which takes ten seconds: uploads are tried again
            print(f"{error} {'from' if lasting else 'at'} call {at}: {scene.calls[at - 1]}{', torn' if torn else ''}")
            code, report = scene.attempt(at=at, how="error", error=error, lasting=lasting, torn=torn)
            output = scene.last.output
            print(output)
            assert max(rows_not_safe(report).values()) <= FSYNC_ROWS
            kept = Kept()
            kept.remember_folder(scene.case.run_dir)
            if len(report.calls) < at:  # with a publishing thread one attempt has a call more than another
                assert code == 0, output
            elif code == 0:  # an upload is tried again
                hit = report.calls[at - 1]  # not always the call planned for
                last_look = name == "publishing" and "progress-" in hit  # for people, once every row is there
                # What this volume remembers of an upload belongs to the upload.
                uploads = "bucket" in hit or ".published-" in hit or (name == "publishing" and hit == "fsync .")
                assert hit.startswith(HARMLESS) or uploads or last_look, output
            else:
                assert code == 74, output
                check_message(output, error)
            scene.check_that_it_ends(real_tree(scene.case.disk), kept, reference)


@pytest.mark.slow
def test_a_report_that_cannot_be_written_is_only_said(make_scene, reference_of):
    scene: Scene = make_scene("with a report")
    for at, call in enumerate(scene.calls, start=1):
        if call.startswith("write") and call.endswith(FOR_PEOPLE):
            code, _ = scene.attempt(at=at, how="error", error="ENOSPC")
            assert code == 0, scene.last.output
            assert "no report: cannot write the file: No space left" in scene.last.output
            check_whole(scene.case.run_dir, reference_of(scene.case))
