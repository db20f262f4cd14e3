"""A run's files as one stream, and files again: over connections cut at every byte, and while the run goes on."""

import errno
import io
import json
import os
import subprocess
import sys

import pytest

from specbatch.backoff import Backoff
from specbatch.cluster.fetch import receive
from specbatch.cluster.fetch.receive import Receiver, fetch
from specbatch.errors import ClusterError, ResultsError
from specbatch.results.collect import send as send_module
from specbatch.results.collect.collect import collect
from specbatch.results.collect.send import send
from tests.results.collect_runs import write_run


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(receive, "_BACKOFF", Backoff(first=0.0, longest=0.0))


@pytest.fixture
def run_dir(tmp_path):
    run_dir = tmp_path / "nightly"
    write_run(run_dir, 7, shards=2, errors={1})
    return run_dir


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "here"
    folder.mkdir()
    return folder


def sent(run_dir, after=None):
    out = io.BytesIO()
    send(run_dir, out, after)
    return out.getvalue()


def whole(run_dir):
    """Connections over which all arrives."""

    def chunks(after):
        yield sent(run_dir, after)

    return chunks


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


class LostError(ClusterError):
    def __init__(self, reason="", status=None):
        super().__init__("lost", reason=reason, status=status)


def test_every_file_arrives_but_the_report_and_what_is_temporary(run_dir, folder):
    files = content(run_dir)
    (run_dir / "report.html").write_text("x")
    (run_dir / ".part.tmp").write_text("x")
    (run_dir / "figures").mkdir()
    (run_dir / "empty.json").touch()
    done = fetch(folder, whole(run_dir), alive=lambda: True)
    assert content(folder) == {**files, "empty.json": b""}
    assert done.received == sum(map(len, files.values()))


@pytest.mark.slow
def test_a_connection_cut_at_any_byte_is_gone_on_with(tmp_path, folder):
    run_dir = tmp_path / "small"
    run_dir.mkdir()
    for name in (
        "_SUCCESS",
        "manifest-00000-of-00001.json",
        "errors-00000-of-00001.jsonl",
        "part-00000-of-00001.jsonl",
    ):
        (run_dir / name).write_text(f"{name}: a few\nlines\n" if name[0] != "e" else "")
    for cut in range(len(sent(run_dir))):
        asked = []

        def cutting(after, cut=cut, asked=asked):
            asked.append(after)
            data = sent(run_dir, after)
            if len(asked) == 1:
                yield data[: cut // 2]
                yield data[cut // 2 : cut]
                raise LostError
            yield data

        fetch(folder, cutting, alive=lambda: True)
        assert content(folder) == content(run_dir), cut
        for path in folder.iterdir():
            path.unlink()


def test_large_files_are_not_sent_again(tmp_path, folder):
    run_dir = tmp_path / "nightly"
    run_dir.mkdir()
    (run_dir / "part-00000-of-00001.jsonl").write_bytes(b"x" * 100_000)
    tries = []

    def cutting(after):
        tries.append(after)
        data = sent(run_dir, after)
        for at in range(0, 20_000, 1000):
            yield data[at : at + 1000]
        if len(tries) < 10 and len(data) > 20_000:
            raise LostError

    done = fetch(folder, cutting, alive=lambda: True)
    assert content(folder) == content(run_dir)
    assert done.received == 100_000
    assert [name for name, _ in tries[1:]] == ["part-00000-of-00001.jsonl"] * 5


def test_manifests_come_before_rows_and_success_first_so_that_a_run_that_goes_on_fits_together(run_dir):
    names = [line.split(b'"')[3].decode() for line in sent(run_dir).splitlines() if line.startswith(b'{"name"')]
    assert names[0] == "_SUCCESS"
    assert [name.split("-")[0] for name in names[1:]] == ["manifest"] * 2 + ["errors"] * 2 + ["part"] * 2


def test_a_file_that_grows_or_is_replaced_between_two_connections_is_whole(tmp_path, folder):
    run_dir = tmp_path / "nightly"
    run_dir.mkdir()
    part, manifest = run_dir / "part-00000-of-00001.jsonl", run_dir / "manifest-00000-of-00001.json"
    manifest.write_bytes(b"old manifest")
    part.write_bytes(b"first line\n")
    receiver = Receiver(folder)
    data = sent(run_dir)
    receiver.feed(data[: data.index(b"old man") + 5])
    receiver.lost()
    manifest.write_bytes(b"a new one")
    data = sent(run_dir, receiver.position)
    receiver.feed(data[: data.index(b"first") + 3])
    receiver.lost()
    part.write_bytes(b"first line\nsecond line\n")
    receiver.feed(sent(run_dir, receiver.position))
    assert receiver.done
    assert content(folder) == content(run_dir)
    part.write_bytes(b"cut\n")
    receiver.done = False
    receiver.feed(sent(run_dir, receiver.position))
    assert content(folder) == content(run_dir)


def test_no_folder_is_told_with_those_that_there_are(tmp_path, run_dir, folder):
    done = fetch(folder, whole(tmp_path / "other"), alive=lambda: True)
    assert done.error == f"there is no folder {tmp_path / 'other'}"
    assert list(done.beside) == ["here", "nightly"]
    assert fetch(folder, whole(tmp_path / "a" / "b"), alive=lambda: True).beside == []


def test_what_fails_for_good_or_too_often_is_an_error(folder):
    def failing(**error):
        tries = []

        def attempt(_):
            tries.append(1)
            raise LostError(**error)
            yield

        with pytest.raises(ClusterError):
            fetch(folder, attempt, alive=lambda: True)
        return len(tries)

    assert failing() == 6
    assert failing(reason="CommandFailed") == 1
    assert failing(status=403) == 1
    assert failing(status=503) == 6


@pytest.mark.parametrize(
    "data",
    [
        b"bash: python: not found\n",
        b"x" * 100_000,
        b'{"name": "../x", "offset": 0, "size": 1}\nx',
        b'{"name": "x", "offset": 5, "size": 9}\n',
        b"[]\n",
        b"{}\n",
    ],
)
def test_what_is_no_file_of_a_run_is_refused(folder, data):
    with pytest.raises(ResultsError, match="no file of a run"):
        Receiver(folder).feed(data)
    assert content(folder) == {}


def test_a_full_disk_here_is_told(run_dir, folder, monkeypatch):
    folder.rmdir()
    with pytest.raises(ResultsError, match="No such file"):
        Receiver(folder).feed(sent(run_dir))


def test_the_command_needs_nothing_but_python_and_its_files_can_be_collected(run_dir, folder, tmp_path):
    words = [sys.executable, "-S", "-m", "specbatch.results.collect.send", str(run_dir)]
    done = subprocess.run(words, capture_output=True, check=True)
    receiver = Receiver(folder)
    receiver.feed(done.stdout)
    assert receiver.done
    assert collect(folder, tmp_path / "out.jsonl").complete
    assert subprocess.run([*words, "part-00001-of-00002.jsonl", "5"], capture_output=True, check=True).stdout == sent(
        run_dir, ("part-00001-of-00002.jsonl", 5)
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("closed", ["folder", "file"])
def test_what_may_not_be_read_is_one_sentence_with_the_user(run_dir, tmp_path, closed):
    path = run_dir if closed == "folder" else run_dir / "part-00000-of-00001.jsonl"
    path.chmod(0)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "specbatch.results.collect.send", str(run_dir)], capture_output=True, check=False
        )
    finally:
        path.chmod(0o755)
    said = json.loads(done.stdout.splitlines()[-1])
    assert (done.returncode, done.stderr, said["denied"]) == (0, b"", True)
    assert f"Permission denied: the pod is user {os.geteuid()} in groups" in said["error"]


def test_a_refusal_is_told_as_one_whoever_asks(tmp_path, monkeypatch, capfd):
    def refused(*_):
        raise PermissionError(errno.EACCES, "Permission denied", "/results/nightly")

    monkeypatch.setattr(send_module, "send", refused)
    send_module.main([str(tmp_path)])
    said = json.loads(capfd.readouterr().out)
    assert said["error"].startswith("/results/nightly: Permission denied: the pod is user")
    assert said["denied"] is True
