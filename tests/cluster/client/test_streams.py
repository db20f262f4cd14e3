"""Logs line by line, and commands in containers over a websocket."""

import subprocess
import time

import pytest
from websocket import WebSocketTimeoutException

from specbatch.cluster.client import exec as client_exec
from specbatch.cluster.client.kinds import PODS
from specbatch.errors import ClusterError

POD = {"metadata": {"name": "pod"}, "spec": {"containers": [{"name": "runner"}]}, "status": {"phase": "Running"}}


@pytest.fixture
def cluster(api):
    """With a running pod."""
    api.put(PODS, POD)
    return api.cluster()


def ended(api):
    api.put(PODS, POD | {"status": {"phase": "Succeeded"}})


def test_a_log_is_read_line_by_line(api, cluster):
    api.logs["pod"] = "one\n\ntwo \u00e9\u2028still two\nthree\r\nno end"
    assert list(cluster.log("pod")) == ["one", "", "two \u00e9\u2028still two", "three\r", "no end"]
    assert api.requests[-1][2] == {"container": "runner"}


def test_a_log_is_cut_as_asked(api, cluster):
    api.logs["pod"] = "one\ntwo\nthree\n"
    assert list(cluster.log("pod", tail=2)) == ["two", "three"]
    assert list(cluster.log("pod", since="2026-01-01T00:00:01Z")) == ["two", "three"]
    assert list(cluster.log("pod", timestamps=True))[1] == "2026-01-01T00:00:01.000000000Z two"
    assert list(cluster.log("pod", limit_bytes=5)) == ["one", "t"]
    assert list(cluster.log("pod", limit_bytes=5, whole_lines=True)) == ["one"]


def test_bytes_that_are_no_text_do_not_end_a_log(api, cluster):
    api.fail("GET", "/log", status=200, body=b"a\xff\nb\n")
    assert list(cluster.log("pod")) == ["a\ufffd", "b"]


def test_a_followed_log_goes_on_until_the_pod_ends(api, cluster):
    api.logs["pod"] = "one\n"
    log = cluster.log("pod", follow=True)
    assert next(log) == "one"
    api.logs["pod"] += "two\nthr"
    assert next(log) == "two"
    api.logs["pod"] += "ee\n"
    assert next(log) == "three"
    ended(api)
    assert list(log) == []


def test_a_followed_log_ends_with_its_connection_and_never_with_half_a_line(api, cluster):
    api.logs["pod"] = "one\ntwo\n"
    api.fail("GET", "/log", drop="middle")
    assert list(cluster.log("pod", follow=True)) == ["one"]


def test_a_log_that_is_not_followed_never_ends_short_without_a_word(api, cluster):
    api.logs["pod"] = "one\ntwo\n"
    api.fail("GET", "/log", drop="middle")
    log = cluster.log("pod")
    assert next(log) == "one"
    with pytest.raises(ClusterError, match="was lost"):
        next(log)


def test_a_followed_log_that_is_silent_for_long_ends(api, cluster):
    api.logs["pod"] = "one\n"
    assert list(cluster.log("pod", follow=True, idle_seconds=0.1)) == ["one"]


def test_a_log_of_a_pod_that_is_not_there_is_told_at_once(api, cluster):
    with pytest.raises(ClusterError, match="no Pod other in namespace default"):
        cluster.log("other")


def test_the_output_of_a_command_is_its_bytes(api, cluster):
    data = bytes(range(256)) * 4096
    api.commands = lambda pod, container, command: (data, b"", 0)
    chunks = list(cluster.exec("pod", ["cat", "a file", "--x=y&z"], container="runner"))
    assert b"".join(chunks) == data
    assert len(chunks) > 1


def test_a_command_is_run_with_its_words_as_they_are(api, cluster):
    api.commands = lambda pod, container, command: (repr((pod, container, command)).encode(), b"", 0)
    words = ["sh", "-c", "echo 'a b' \u00e9 & \n; #?=%"]
    assert b"".join(cluster.exec("pod", words, container="runner")).decode() == repr(("pod", "runner", words))


def test_a_command_that_fails_is_told_with_its_exit_code_and_the_end_of_its_stderr(api, cluster):
    def run(pod, container, command):
        done = subprocess.run(command, capture_output=True, check=False)
        return done.stdout, b"x" * 100_000 + done.stderr, done.returncode

    api.commands = run
    out = cluster.exec("pod", ["sh", "-c", "echo out; echo no such file >&2; exit 7"], container="runner")
    assert next(out) == b"out\n"
    with pytest.raises(ClusterError) as caught:
        next(out)
    assert "sh in pod pod ended with exit code 7: xxx" in str(caught.value)
    assert str(caught.value).endswith("no such file")
    assert len(str(caught.value)) < 5000
    assert caught.value.reason == "CommandFailed"


def test_a_command_whose_connection_is_lost_is_never_taken_for_done(api, cluster):
    api.commands = lambda pod, container, command: (b"0123456789", b"", 0)
    api.fail("GET", "/exec", drop="middle")
    out = cluster.exec("pod", ["cat", "x"], container="runner")
    assert next(out) == b"01234"
    with pytest.raises(ClusterError, match="connection to pod pod was lost while cat ran there"):
        next(out)


@pytest.mark.slow
def test_a_command_that_is_silent_for_long_is_waited_for(api, cluster, monkeypatch):
    monkeypatch.setattr("specbatch.cluster.client.library.IDLE_SECONDS", 0.05)

    def run(pod, container, command):
        time.sleep(0.6)  # twelve timeouts; the server answers a ping in between
        return b"at last", b"", 0

    api.commands = run
    assert b"".join(cluster.exec("pod", ["find"], container="runner")) == b"at last"


def test_a_server_that_is_busy_is_asked_again_for_a_command_but_a_lost_answer_is_not(api, cluster):
    runs = []
    api.commands = lambda pod, container, command: (str(runs.append(1)).encode(), b"", 0)
    api.fail("GET", "/exec", status=429, retry_after=3)
    assert b"".join(cluster.exec("pod", ["true"], container="runner")) == b"None"
    api.fail("GET", "/exec", drop="before")
    with pytest.raises(ClusterError, match="was lost"):
        cluster.exec("pod", ["true"], container="runner")
    assert runs == [1]
    assert api.time.waits == [3.0]


def test_a_command_in_a_pod_that_is_not_there_or_without_permission_is_told_at_once(api, cluster):
    with pytest.raises(ClusterError, match="no Pod other in namespace default"):
        cluster.exec("other", ["true"], container="runner")
    api.deny("create", "pods/exec")
    with pytest.raises(ClusterError, match="not permitted to create pods/exec in namespace default"):
        cluster.exec("pod", ["true"], container="runner")


def test_a_token_that_was_renewed_is_taken_for_commands_too(api, cluster):
    api.commands = lambda pod, container, command: (b"out", b"", 0)
    cluster.version()
    api.fail("GET", "/exec", status=401)
    api.token = "renewed"
    api.write_kubeconfig(token="renewed")
    assert b"".join(cluster.exec("pod", ["true"], container="runner")) == b"out"


def test_output_that_is_left_early_closes_the_connection(api, cluster):
    api.commands = lambda pod, container, command: (b"x" * 50_000_000, b"", 0)
    out = cluster.exec("pod", ["yes"], container="runner")
    next(out)
    out.close()
    assert list(out) == []


def test_a_connection_that_shows_no_sign_of_life_is_given_up():
    class Socket:
        pings = 0
        closed = False

        def recv_data_frame(self, control_frame):
            raise WebSocketTimeoutException

        def ping(self):
            self.pings += 1

        def shutdown(self):
            self.closed = True

    socket = Socket()
    with pytest.raises(ClusterError, match="was lost"):
        list(client_exec.output(socket, "p", ["cat"]))
    assert (socket.pings, socket.closed) == (5, True)


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (b'{"status": "Failure", "message": "container not found"}', "cat in pod p container not found"),
        (b"no json", "cat in pod p no json"),
        (b"", "connection to pod p was lost"),
    ],
)
def test_an_end_that_is_no_exit_code_is_told_as_it_is(status, sentence):
    class Frame:
        data = b"\x03" + status

    class Socket:
        frames = iter([(2, Frame()), (2, type("Closed", (), {"data": b"\xff\x01"})), (8, None)])

        def recv_data_frame(self, control_frame):
            return next(self.frames)

        def shutdown(self):
            pass

    with pytest.raises(ClusterError, match=sentence):
        list(client_exec.output(Socket(), "p", ["cat"]))
