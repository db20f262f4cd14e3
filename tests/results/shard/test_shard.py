import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from specbatch.errors import ResultsError
from specbatch.results.layout import SUCCESS
from specbatch.results.rows import OpenAIForm
from specbatch.results.shard.parts import PartPolicy
from specbatch.results.shard.shard import ShardResults
from specbatch.results.timeline import Timeline
from specbatch.results.wire import decode_result
from tests.results.builders import IDENTITY, finish_run, make_error, make_row, make_summary, read_lines

PART = "part-00000-of-00001.jsonl"
ERRORS = "errors-00000-of-00001.jsonl"
MANIFEST = "manifest-00000-of-00001.json"


def open_store(run_dir, **options):
    return ShardResults.open(run_dir, identity=IDENTITY, **options)


def test_rows_that_ended_either_way_are_finished_after_a_restart(run_dir):
    with open_store(run_dir) as store:
        assert not store.finished("row-0", make_row(0).fingerprint, 0)
        store.write(make_row(0))
        store.write(make_row(1, openai=OpenAIForm(model="m")))
        store.write_error(make_error(2))
        store.write_error(make_error(3, openai=OpenAIForm(model="m")))
        assert (store.found.rows, store.written.results, store.written.errors) == (0, 2, 2)
    with open_store(run_dir) as store:
        assert all(store.finished(f"row-{index}", f"{index:016x}", index) for index in range(4))
        assert not store.finished("row-4", f"{4:016x}", 4)
        with pytest.raises(
            ResultsError, match=r"hold another row 0 .*it has changed since\n  remedy: put the old dataset back"
        ):
            store.finished("row-0", "another content", 0)
        assert (store.found.results, store.found.errors, store.written.rows) == (2, 2, 0)


def test_totals_are_those_of_the_rows_across_restarts(run_dir):
    for start in (0, 5):
        with open_store(run_dir) as store:
            for index in range(start, start + 5):
                store.write(make_row(index, answer="x", correct=index % 2 == 0))
            store.write(make_row(100 + start, finish_reason="length"))
            store.write_error(make_error(200 + start))
    totals = store.totals
    assert (totals.rows, totals.results, totals.errors) == (14, 12, 2)
    assert (totals.scored, totals.correct, totals.share_correct) == (10, 5, 0.5)
    assert totals.finish_reasons == {"stop": 10, "length": 2}
    assert totals.errors_by_code == {"invalid_json": 2}
    rows = [decode_result(line) for line in (run_dir / PART).read_bytes().splitlines()]
    assert totals.completion_tokens == sum(row.usage.completion_tokens for row in rows)


def test_totals_without_rows_divide_nothing_by_nothing(run_dir):
    with open_store(run_dir) as store:
        assert store.totals.share_correct is None


def test_rows_finished_before_a_restart_keep_their_bytes(run_dir):
    with open_store(run_dir) as store:
        store.write(make_row(0))
    before = (run_dir / PART).read_bytes()
    with (run_dir / PART).open("ab") as file:
        file.write(b'{"id": "row-1", "ind')
    with open_store(run_dir) as store:
        store.write(make_row(1))
    after = (run_dir / PART).read_bytes()
    assert after.startswith(before)
    assert [row["id"] for row in read_lines(run_dir / PART)] == ["row-0", "row-1"]


def test_a_second_writer_of_a_shard_is_refused_and_another_shard_is_not(run_dir):
    with open_store(run_dir, shard=0, shards=2), open_store(run_dir, shard=1, shards=2):
        for fresh in (False, True):
            with pytest.raises(ResultsError, match=r"-00001-of-00002\.jsonl: another process"):
                open_store(run_dir, shard=1, shards=2, fresh=fresh)


def test_when_the_errors_file_has_another_writer_the_part_file_is_let_go(run_dir):
    with open_store(run_dir):
        pass
    with (run_dir / ERRORS).open("rb") as other:
        import fcntl

        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(ResultsError, match="errors-00000"):
            open_store(run_dir)
    open_store(run_dir).close()


def test_opening_a_finished_run_leaves_success_and_the_first_new_row_withdraws_it(run_dir):
    finish_run(run_dir, [make_row(0)])
    with open_store(run_dir) as store:
        assert (run_dir / SUCCESS).exists()
        assert (run_dir / MANIFEST).exists()
        store.write_error(make_error(1))
        assert not (run_dir / SUCCESS).exists()
        assert not (run_dir / MANIFEST).exists()


def test_a_manifest_that_cannot_be_withdrawn_stops_the_row(run_dir):
    with open_store(run_dir) as store:
        (run_dir / SUCCESS).mkdir()
        with pytest.raises(ResultsError, match="withdraw the old manifest"):
            store.write(make_row(0))
        assert (run_dir / PART).read_bytes() == b""


def test_what_a_kill_left_of_an_atomic_write_is_removed_and_nothing_of_another_shard(run_dir):
    open_store(run_dir, shard=0, shards=2).close()
    for shard in (0, 1):
        (run_dir / f".manifest-0000{shard}-of-00002.json.123.tmp").touch()
    open_store(run_dir, shard=0, shards=2).close()
    assert [path.name for path in run_dir.glob(".*")] == [".manifest-00001-of-00002.json.123.tmp"]


def test_fresh_starts_over(run_dir):
    finish_run(run_dir, [make_row(0)], [make_error(1)])
    (run_dir / "report.html").touch()
    (run_dir / "figures").mkdir()
    (run_dir / "figures" / "throughput.png").touch()
    with open_store(run_dir, fresh=True) as store:
        assert not store.finished("row-0", make_row(0).fingerprint, 0)
        assert store.attempts == ()
        assert not any((run_dir / name).exists() for name in (SUCCESS, "report.html", "figures/throughput.png"))
        assert (run_dir / PART).read_bytes() == (run_dir / ERRORS).read_bytes() == b""


def test_attempts_are_remembered_and_one_that_ended_without_a_word_was_killed(run_dir):
    for outcome in ("stopped", "running", "done"):
        with open_store(run_dir) as store:
            store.write(make_row(len(store.attempts)))
            store.save_progress(make_summary(store), Timeline(), outcome)
    assert [attempt.outcome for attempt in store.attempts] == ["stopped", "killed", "done"]
    assert [attempt.number for attempt in store.attempts] == [1, 2, 3]
    assert [attempt.summary.totals.results for attempt in store.attempts] == [1, 2, 3]


def test_due_rows_of_both_files_are_synced(run_dir, monkeypatch):
    with open_store(run_dir, policy=PartPolicy(fsync_seconds=0.0, fsync_rows=1000)) as store:
        synced, real = [], os.fsync

        def record(descriptor):
            synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())
            real(descriptor)

        store.write(make_row(0))
        monkeypatch.setattr(os, "fsync", record)
        store.write(make_row(1))
        store.write_error(make_error(2))
        store.maybe_sync()
        store.sync()
        assert [path.name for path in synced] == [PART, ERRORS]


KILLED = """
import sys
sys.path.insert(0, sys.argv[2])
from tests.results.builders import IDENTITY, make_error, make_row
from specbatch.results.shard.parts import PartPolicy
from specbatch.results.shard.shard import ShardResults
store = ShardResults.open(sys.argv[1], identity=IDENTITY, policy=PartPolicy(fsync_rows=7, fsync_seconds=1e9, max_bytes=20_000))
print("open", flush=True)
for index in range(100_000):
    if store.finished(f"row-{index}", f"{index:016x}", index):
        continue
    if index % 5:
        store.write(make_row(index, text="x" * (index % 4000)))
    else:
        store.write_error(make_error(index))
    if index % 10 == 0:
        store.sync()
        print(index, flush=True)
"""


@pytest.mark.slow
def test_after_kill_9_nothing_synced_is_lost_and_nothing_is_twice(run_dir):
    root = Path(__file__).parents[3]
    promised = -1
    for life in range(5):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(run_dir), str(root)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout.readline() == "open\n"
        for _ in range(3 + 7 * life):
            promised = max(promised, int(process.stdout.readline()))
        time.sleep(0.003 * life)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        if life % 2:  # and the power cut's tear on top
            with (run_dir / PART).open("ab") as file:
                file.write(make_row(1).text.encode())
    with open_store(run_dir) as store:
        assert all(store.finished(f"row-{index}", f"{index:016x}", index) for index in range(promised + 1))
    ids = [row["id"] for entry in store.files for row in read_lines(run_dir / entry.name)]
    assert len(ids) == len(set(ids)) == store.found.rows


@pytest.fixture
def small_volume():
    with tempfile.TemporaryDirectory() as folder:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True, check=False
        )
        if mounted.returncode:
            pytest.skip("mounting a tmpfs is not permitted here")
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", folder], check=True)


def write_many(store):
    for index in range(1000):
        store.write(make_row(index, text="x" * 500))


def test_a_full_volume_is_an_error_with_a_remedy_and_keeps_every_row_before_it(small_volume):
    run_dir = small_volume / "run"
    store = open_store(run_dir)
    with pytest.raises(ResultsError, match=r"part-00000.*cannot append a row: No space left[\s\S]*remedy: free space"):
        write_many(store)
    written = store.written.results
    assert 10 < written < 1000
    with pytest.raises(ResultsError, match="No space left"):
        store.save_progress(make_summary(store, k_changes=tuple((n, n) for n in range(2000))), Timeline())
    with contextlib.suppress(ResultsError):
        store.close()
    subprocess.run(["mount", "-o", "remount,size=1m", small_volume], check=True)
    with open_store(run_dir) as store:
        assert store.found.results == written
        assert store.finished(f"row-{written - 1}", f"{written - 1:016x}", written - 1)
        store.write(make_row(written))


def test_a_read_only_volume_is_an_error_with_a_remedy(small_volume):
    finish_run(small_volume / "run", [make_row(0)])
    subprocess.run(["mount", "-o", "remount,ro", small_volume], check=True)
    with pytest.raises(ResultsError, match=r"Read-only file system[\s\S]*remedy: make the directory writable"):
        open_store(small_volume / "run")
    with pytest.raises(ResultsError, match=r"make the results directory: Read-only"):
        open_store(small_volume / "other")
    with pytest.raises(ResultsError, match="Read-only"):
        open_store(small_volume / "run", fresh=True)


@pytest.fixture
def ordinary_user():
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_directory_of_somebody_else_is_an_error_with_a_remedy(tmp_path, ordinary_user):
    locked = tmp_path / "locked"
    if os.getuid():
        locked.mkdir(mode=0o500)
    with pytest.raises(ResultsError, match=r"Permission denied[\s\S]*remedy: make the directory writable"):
        open_store(locked / "run")


MILLION = """
import sys, time
from pathlib import Path
def peak():  # in MiB, of this program alone: ru_maxrss would count the forked parent's
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) // 1024
sys.path.insert(0, sys.argv[2])
from tests.results.builders import IDENTITY
from specbatch.results.shard.shard import ShardResults
before = peak()
start = time.process_time()  # not wall time: others share the cores
store = ShardResults.open(sys.argv[1], identity=IDENTITY)
seconds = time.process_time() - start
assert store.found.results == 1_000_000
assert all(store.finished(f"row-{index}", f"{index:016x}", index) for index in range(0, 1_000_000, 1000))
assert not any(store.finished(f"row-{index}", f"{index:016x}", index) for index in range(1_000_000, 1_010_000))
print(seconds, peak(), before)
"""


@pytest.mark.slow
def test_a_million_finished_rows_are_found_in_20_seconds_and_200_mb(run_dir, run_python):
    open_store(run_dir).close()
    template = (
        '{"id": "row-%d", "index": %d, "text": "%s", "finish_reason": "stop", '
        '"usage": {"prompt_tokens": 30, "completion_tokens": 60}, '
        '"speculation": {"rounds": 15, "drafted": 60, "accepted": 45}, "fingerprint": "%016x"}\n'
    )
    text = "The quick brown fox jumps over the lazy dog. " * 4
    with (run_dir / PART).open("w") as file:
        for index in range(1_000_000):
            file.write(template % (index, index, text, index))
    seconds, megabytes, before = map(float, run_python(MILLION, run_dir, Path(__file__).parents[3]).stdout.split())
    assert seconds < 20
    assert megabytes < 200, before
