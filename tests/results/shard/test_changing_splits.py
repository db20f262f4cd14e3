"""A run whose number of shards changes between attempts is one run: each row once, in files that one shard answers for."""

import json
import random
from contextlib import ExitStack

import pytest

from specbatch.errors import ResultsError
from specbatch.results import splits
from specbatch.results.collect.collect import collect
from specbatch.results.layout import SUCCESS
from specbatch.results.manifest import Manifest, read_manifests, write_manifest, write_success
from specbatch.results.report.facts import gather
from specbatch.results.report.report import write_report
from specbatch.results.shard.shard import ShardResults
from specbatch.results.status.status import read_status
from specbatch.results.status.status_text import render_status
from specbatch.results.storage.folder import Folder
from specbatch.results.timeline import Timeline
from specbatch.results.verification import Verification, write_verification
from specbatch.runner.verify.sample import sample_rows
from tests.results.builders import IDENTITY, make_error, make_row, make_summary

ROWS = 61
BAD = {4, 5, 60}


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(splits, "PATIENCE_SECONDS", 0.2)


def open_shard(run_dir, shard, shards, **options):
    return ShardResults.open(run_dir, shard=shard, shards=shards, identity=IDENTITY, **options)


def run_shard(run_dir, shard, shards, chance=1.0, chosen=random, **options):
    """An attempt that decodes each of its rows with a chance; gives the rows that it decoded."""
    decoded = []
    with open_shard(run_dir, shard, shards, **options) as store:
        left = [
            index for index in range(shard, ROWS, shards) if not store.finished(f"row-{index}", f"{index:016x}", index)
        ]
        for index in chosen.sample(left, len(left)):
            if chosen.random() < chance:
                store.write_error(make_error(index)) if index in BAD else store.write(make_row(index))
                decoded.append(index)
        store.save_progress(make_summary(store), Timeline(), "done", {"total_rows": len(range(shard, ROWS, shards))})
    manifest = Manifest(
        name=run_dir.name,
        shard=shard,
        shards=shards,
        complete=len(decoded) == len(left),
        identity=IDENTITY,
        files=store.files,
        totals=store.totals,
        attempts=store.attempts,
        generation=store.generation,
        moved=store.moved,
        dataset_rows=ROWS,
    )
    write_manifest(run_dir, manifest)
    write_success(run_dir)
    return decoded


def run_all(run_dir, shards, chance=1.0, chosen=random):
    return [index for shard in range(shards) for index in run_shard(run_dir, shard, shards, chance, chosen)]


def rows_in(run_dir):
    return sorted(
        json.loads(line)["index"] for path in run_dir.glob("*-of-*.jsonl") for line in path.read_bytes().splitlines()
    )


def collected(run_dir, folder):
    folder.mkdir(exist_ok=True)
    found = collect(run_dir, folder / "rows.jsonl", errors=folder / "errors.jsonl")
    assert found.complete, found.unfinished
    assert found.duplicates == 0
    return (folder / "rows.jsonl").read_bytes(), (folder / "errors.jsonl").read_bytes()


@pytest.mark.parametrize("seed", [*range(4), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(4, 12))])
def test_every_row_ends_once_whatever_splits_the_run_has_had(run_dir, tmp_path, seed):
    chosen = random.Random(seed)
    history = [chosen.choice([1, 2, 3, 4, 5, 9]) for _ in range(6)]
    decoded = []
    for shards in history:
        for shard in chosen.sample(range(shards), chosen.randint(1, shards)):
            decoded += run_shard(run_dir, shard, shards, chosen.choice([0.0, 0.2, 0.6]), chosen)
        if chosen.random() < 0.5:
            part = chosen.choice(sorted(run_dir.glob("part-*")))
            part.write_bytes(part.read_bytes() + chosen.choice([b'{"id": "row-', b"\0\0", make_torn(7)]))
    decoded += run_all(run_dir, shards := chosen.choice([1, 2, 4, 7]), 1.0, chosen)
    assert sorted(decoded) == list(range(ROWS)) == rows_in(run_dir)
    assert json.loads((run_dir / SUCCESS).read_bytes()) == {"shards": shards, "results": ROWS - 3, "errors": 3}
    run_all(tmp_path / "unsplit", 1)
    assert collected(run_dir, tmp_path / "a") == collected(tmp_path / "unsplit", tmp_path / "b")


def make_torn(index):
    """A whole row, but for its newline: no writer had said that it was finished."""
    from specbatch.results.wire import encode_result

    return encode_result(make_row(index))[:-1]


@pytest.mark.parametrize("history", [(3, 5), (5, 2), (4, 1), (1, 4), (3, 5, 3), (2, 3, 2, 3)])
def test_each_old_file_is_listed_by_one_shard_and_counted_once(run_dir, history):
    chosen = random.Random(1)
    for shards in history[:-1]:
        run_all(run_dir, shards, 0.4, chosen)
    old = {path.name: path.read_bytes() for path in run_dir.glob("*-of-*.jsonl") if path.stat().st_size}
    run_all(run_dir, history[-1], 1.0, chosen)
    manifests = read_manifests(run_dir)
    assert len(manifests) == history[-1]
    listed = [entry.name for manifest in manifests for entry in manifest.files]
    assert len(set(listed)) == len(listed)
    assert {path.name for path in run_dir.glob("*-of-*.jsonl") if path.stat().st_size} <= set(listed)
    assert sum(manifest.totals.rows for manifest in manifests) == ROWS
    assert all(len(range(one.shard, ROWS, one.shards)) + one.moved == one.totals.rows for one in manifests)
    for name, data in old.items():
        if f"of-{history[-1]:05d}" not in name:
            assert (run_dir / name).read_bytes() == data, "a file of an old split has changed"


def test_a_complete_run_stays_complete_when_split_anew_and_says_so_again(run_dir, tmp_path):
    run_all(run_dir, 3)
    before = collected(run_dir, tmp_path / "a")
    assert run_shard(run_dir, 0, 2) == []
    assert not (run_dir / SUCCESS).exists(), "shard 1 has not listed its files yet"
    assert run_shard(run_dir, 1, 2) == []
    assert (run_dir / SUCCESS).exists()
    assert collected(run_dir, tmp_path / "b") == before


def test_what_an_old_split_said_of_being_complete_does_not_count_after_the_way_back(run_dir):
    run_shard(run_dir, 0, 2)
    run_all(run_dir, 3, 0.5)
    run_shard(run_dir, 1, 2)
    assert [one.shard for one in read_manifests(run_dir)] == [1]
    assert not (run_dir / SUCCESS).exists()
    run_shard(run_dir, 0, 2)
    assert (run_dir / SUCCESS).exists()


def test_a_file_that_went_after_others_had_read_it_is_no_success(run_dir, tmp_path):
    run_all(run_dir, 2)
    run_shard(run_dir, 1, 3)
    run_shard(run_dir, 2, 3)
    for path in run_dir.glob(
        "*-00000-of-00002.jsonl"
    ):  # shard 0 of 3 answers for it, and decodes rows of its own share only
        path.unlink()
    run_shard(run_dir, 0, 3)
    assert not (run_dir / SUCCESS).exists()
    found = collect(run_dir, tmp_path / "rows.jsonl")
    assert "its manifests say complete, with" in found.unfinished[0]


def test_a_shard_of_the_old_split_that_still_writes_keeps_the_new_one_out(run_dir):
    with open_shard(run_dir, 1, 3) as old:
        old.write(make_row(1))
        with pytest.raises(ResultsError, match="writing shard 1 of the run as it is split into 3") as refused:
            open_shard(run_dir, 0, 5)
        assert refused.value.exit_code == 74
        with open_shard(run_dir, 0, 3):
            old.write(make_row(4))
    assert run_shard(run_dir, 0, 5, 0.0) == []
    assert [path.name for path in run_dir.glob("identity-*-of-00005.json")] == ["identity-00000-of-00005.json"]


def test_a_shard_of_the_old_split_that_comes_late_is_kept_out_while_the_new_one_is_at_work(run_dir):
    run_all(run_dir, 3, 0.3)
    with open_shard(run_dir, 0, 5), pytest.raises(ResultsError, match="as it is split into 5"):
        open_shard(run_dir, 2, 3)


def test_readers_of_a_file_see_neither_the_torn_line_nor_the_cutting_of_it(run_dir):
    with open_shard(run_dir, 0, 2) as old:
        for index in range(0, 30, 2):
            old.write(make_row(index))
    part = run_dir / "part-00000-of-00002.jsonl"
    whole = part.read_bytes()
    part.write_bytes(whole + make_torn(30))
    with ExitStack() as open_:
        shards = [open_.enter_context(open_shard(run_dir, shard, 3)) for shard in (2, 1)]  # those that only read
        assert part.read_bytes() != whole
        open_.enter_context(open_shard(run_dir, 0, 3))
        assert part.read_bytes() == whole
        for store in shards:
            mine = range(store.shard, 31, 3)
            assert [index for index in mine if store.finished(f"row-{index}", f"{index:016x}", index)] == [
                index for index in mine if index % 2 == 0 and index < 30
            ]


def test_a_damaged_line_in_the_middle_of_an_old_file_is_an_error_for_every_shard(run_dir):
    run_all(run_dir, 1)
    part = run_dir / "part-00000-of-00001.jsonl"
    lines = part.read_bytes().splitlines(keepends=True)
    part.write_bytes(b"".join([lines[0], b"{broken\n", *lines[1:]]))
    for shard in (0, 1):
        with pytest.raises(ResultsError, match="line 2 is damaged, and good lines follow it"):
            open_shard(run_dir, shard, 2)


def test_another_run_is_refused_whatever_its_split(run_dir):
    run_all(run_dir, 3, 0.3)
    other = type(IDENTITY)(spec_hash="b" * 64, dataset="x", models={"target": "t@1"})
    with pytest.raises(ResultsError, match="belong to another run"):
        ShardResults.open(run_dir, shard=0, shards=2, identity=other)
    (run_dir / "identity-00000-of-00003.json").unlink()
    (run_dir / "identity-00001-of-00003.json").unlink()
    (run_dir / "identity-00002-of-00003.json").unlink()
    with pytest.raises(ResultsError, match="what run it belongs to cannot be told"):
        open_shard(run_dir, 1, 2)


def test_fresh_deletes_the_files_of_every_split(run_dir):
    run_all(run_dir, 3, 0.3)
    run_all(run_dir, 2, 0.3)
    assert sorted(run_shard(run_dir, 0, 1, fresh=True)) == list(range(ROWS))
    assert {path.name.partition("-of-")[2][:5] for path in run_dir.glob("*-of-*")} == {"00001"}
    assert (run_dir / SUCCESS).exists()


def test_rows_of_a_changed_dataset_are_found_in_old_splits_too(run_dir):
    run_all(run_dir, 3)
    with open_shard(run_dir, 1, 2) as store, pytest.raises(ResultsError, match="the results hold another row 1 "):
        store.finished("row-1", "another content", 1)


def test_status_shows_the_last_split_and_how_much_of_the_whole_run_is_done(run_dir):
    chosen = random.Random(2)
    run_all(run_dir, 3, 0.5, chosen)
    run_all(run_dir, 5, 0.5, chosen)
    status = read_status(Folder(run_dir), 0.0)
    assert (len(status.shards), status.before) == (5, [3])
    assert sum(one.totals.rows for one in status.shards) == len(rows_in(run_dir))
    assert sum(one.total_rows for one in status.shards) == ROWS
    assert "5 shards (3 before)" in render_status(status)
    run_all(run_dir, 5)
    status = read_status(Folder(run_dir), 0.0)
    assert status.complete
    assert status.success
    assert f"{ROWS}/{ROWS} (100%)" in render_status(status)


@pytest.mark.slow
def test_report_and_sample_see_the_rows_of_every_split_once(run_dir):
    run_all(run_dir, 3, 0.5)
    run_all(run_dir, 2)
    facts = gather(Folder(run_dir))
    assert facts.totals.rows == ROWS
    assert facts.repeated == 0
    assert facts.summary.seconds == 2 * 12.5, "the splits were one after the other, their shards at once"
    assert "2 shards (3 before)" in write_report(run_dir).read_text()
    assert sample_rows(run_dir, 1000, 0).finished == ROWS - 3


def test_the_certificate_goes_into_the_manifests_of_the_last_split(run_dir):
    run_all(run_dir, 3)
    run_all(run_dir, 2)
    names = write_verification(run_dir, Verification(finished=1, sampled=1, seed=0, exact=1))
    assert names == ["manifest-00000-of-00002.json", "manifest-00001-of-00002.json"]


def test_a_run_that_is_about_to_be_split_anew_is_collected_in_part(run_dir, tmp_path):
    run_all(run_dir, 3)
    run_shard(run_dir, 1, 2)
    out = tmp_path / "rows.jsonl"
    assert any("shard 00000-of-00002: no manifest" in said for said in collect(run_dir, out).unfinished)
    found = collect(run_dir, out, partial=True)
    assert (found.rows, found.missing) == (ROWS, 0)
