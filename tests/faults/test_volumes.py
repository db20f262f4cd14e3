"""Volumes that are really full, limited or read-only."""

from __future__ import annotations

import subprocess

import pytest

from tests.faults.cases import BULKY, bulky_rows
from tests.faults.proof import Kept, check_whole
from tests.faults.test_failures import check_message

pytestmark = pytest.mark.slow


def mount(*arguments) -> None:
    done = subprocess.run(["mount", *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"mounting is not permitted here: {done.stderr.strip()}")


@pytest.fixture
def make_volume():
    """make_volume(folder, options) -> the folder is a tmpfs."""
    mounted = []

    def make(folder, options):
        mount("-t", "tmpfs", "-o", options, "tmpfs", folder)
        mounted.append(folder)

    yield make
    for folder in mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("part_size", ["4Ki", "256Mi"])
def test_a_full_disk_ends_the_run_and_with_room_it_goes_on(make_case, reference_of, make_volume, part_size):
    case = make_case(bulky_rows(40), **{**BULKY, "results__partSize": part_size, "batching__maxSequences": 8})
    reference = reference_of(case)
    size = 16
    make_volume(case.disk, f"size={size}k")
    kept, lengths = Kept(), []
    while (attempt := case.run()).wait() != 0:
        assert attempt.wait() == 74, attempt.output
        check_message(attempt.output, "ENOSPC")
        assert "free space on that volume" in attempt.output
        kept.remember_folder(case.run_dir)
        lengths.append(sum(path.stat().st_size for path in case.run_dir.glob("part-*")))
        size += 12
        mount("-o", f"remount,size={size}k", case.disk)
    assert len(set(lengths)) >= 3
    assert lengths == sorted(lengths)
    kept.check(case.run_dir)
    check_whole(case.run_dir, reference)


def test_a_full_disk_stays_full_and_is_said_to_be(make_case, make_volume):
    case = make_case(bulky_rows(60), **BULKY)
    make_volume(case.disk, "size=24k")
    for _ in range(3):
        attempt = case.run()
        assert attempt.wait() == 74, attempt.output
        check_message(attempt.output, "ENOSPC")


def test_a_limit_on_the_length_of_files_is_met_by_smaller_parts(make_case, reference_of):
    case = make_case(bulky_rows(60), **BULKY)
    attempt = case.run({"file_bytes": 28_000}, results__partSize="256Mi")
    assert attempt.wait() == 74, attempt.output
    assert "File too large" in attempt.output
    kept = Kept()
    kept.remember_folder(case.run_dir)
    attempt = case.run({"file_bytes": 28_000}, results__partSize="8Ki")
    assert attempt.wait() == 0, attempt.output
    kept.check(case.run_dir)
    check_whole(case.run_dir, reference_of(case))


def test_a_read_only_volume_is_refused_before_a_model_is_loaded(make_case, reference_of, make_volume):
    case = make_case(bulky_rows(8), **BULKY)
    reference = reference_of(case)
    make_volume(case.disk, "size=1m")
    for stage in ("empty", "in the middle"):
        if stage == "in the middle":
            attempt = case.start(dataset__limit=5)  # another run, whose rows stay
            assert attempt.wait() == 0
        mount("-o", "remount,ro", case.disk)
        attempt = case.run(**({"dataset__limit": 5} if stage == "in the middle" else {}))
        assert attempt.wait() == 74, attempt.output
        check_message(attempt.output, "EROFS")
        assert "make the directory writable for this user" in attempt.output
        assert "loading" not in attempt.output
        mount("-o", "remount,rw", case.disk)
    attempt = case.run({"fresh": True})
    assert attempt.wait() == 0, attempt.output
    check_whole(case.run_dir, reference)


def test_a_file_in_the_place_of_the_directory_is_named(make_case):
    case = make_case(bulky_rows(4), **BULKY)
    (case.disk / "results").write_text("no directory")
    attempt = case.run()
    assert attempt.wait() == 74, attempt.output
    assert str(case.run_dir) in attempt.output
    assert "Traceback" not in attempt.output
