"""Datasets of web servers and stores that fail: real servers on loopback, real drivers."""

import gzip
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from specbatch.backoff import Backoff
from specbatch.errors import DatasetError, OutOfReachError
from specbatch.runner.retry import Retrier
from tests import web
from tests.runner.tiny import dataset_at
from tests.s3 import credentials, free_port

LINES = [b'{"prompt": "row %d"}' % number for number in range(15_000)]
DATA = b"\n".join(LINES) + b"\n"
EXPIRED = b"<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>"
DENIED = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"


QUICK = Backoff(first=0.01, longest=0.05)


def read(uri, seconds=5.0, told=None, then=lambda: None):
    """The lines of a dataset, read as a run does; `then` is called once its first block is here."""
    dataset = dataset_at(uri, retrier=Retrier(seconds, say=(told if told is not None else []).append, backoff=QUICK))
    dataset.check_readable()
    rows = dataset.rows()
    first = next(rows)
    then()
    return [first.data, *(row.data for row in rows)]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr("specbatch.runner.dataset.remote._BLOCK_BYTES", 1 << 16)
    monkeypatch.setattr("specbatch.runner.dataset.remote._READ_BYTES", 1 << 14)


@pytest.fixture
def s3_at(monkeypatch):
    """Points this process' S3 driver to a server."""

    def point(url):
        for name, value in credentials(url).items():
            monkeypatch.setenv(name, value)

    return point


@pytest.mark.slow
@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no ranges"])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (["reset", 503], []),
        ([], [("cut", 20_000), ("cut", 7), 429, "reset", "reset", None, None, ("cut", 50_001)]),
        ([], [401, 403]),  # what was permitted and is not any more has expired
    ],
    ids=["at the start", "in the middle", "expired"],
)
def test_rows_of_a_web_server_that_fails_come_once_each_and_in_order(ranges, before, after):
    with web.serving(files={"/rows.jsonl": DATA}, ranges=ranges, troubles=before) as server:
        assert read(f"{server.url}/rows.jsonl?version=1", then=lambda: server.troubles.extend(after)) == LINES
        assert not server.troubles or not ranges


@pytest.mark.slow
def test_compressed_rows_go_on_in_the_middle_too():
    noise = b"".join(
        b'{"id": %d, "prompt": "%x"}\n' % (number, pow(3, number + 1000, 1 << 400)) for number in range(9000)
    )
    with web.serving(files={"/rows.jsonl.gz": gzip.compress(noise)}) as server:
        then = [("cut", 9001), "reset"]
        assert read(f"{server.url}/rows.jsonl.gz", then=lambda: server.troubles.extend(then)) == noise.splitlines()
        assert not server.troubles


@pytest.mark.slow
@pytest.mark.parametrize(
    ("always", "error", "says"),
    [
        ("reset", OutOfReachError, "reset"),
        (500, OutOfReachError, "500"),
        (503, OutOfReachError, "503"),
        (429, OutOfReachError, "429"),
        (408, OutOfReachError, "408"),
        (401, DatasetError, "401"),
        (403, DatasetError, "403"),
        (404, DatasetError, "no such object"),
        (410, DatasetError, "410"),
    ],
)
def test_what_a_web_server_answers_to_the_end_tells_whether_to_come_back(always, error, says):
    told = []
    with web.serving(files={"/rows.jsonl": DATA}, always=always) as server, pytest.raises(error, match=says):
        read(f"{server.url}/rows.jsonl", 0.3, told)
    assert len(told) == (1 if error is OutOfReachError else 0)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["http", "s3"])
def test_a_refused_connection_is_out_of_reach(scheme, s3_at):
    url = f"http://127.0.0.1:{free_port()}"
    s3_at(url)
    with pytest.raises(OutOfReachError, match="remedy"):
        read(f"{url}/rows.jsonl" if scheme == "http" else "s3://bucket/rows.jsonl", 0.2)


@pytest.mark.slow
def test_a_name_that_no_server_knows_is_out_of_reach():
    with pytest.raises(OutOfReachError, match="remedy"):
        read("http://no-such-host.invalid/rows.jsonl", 0.2)


@pytest.mark.parametrize("when", ["from the start", "in the middle"])
@pytest.mark.slow
def test_a_server_that_never_answers_is_noticed(when, monkeypatch):
    monkeypatch.setattr("specbatch.runner.dataset.remote._CALL_SECONDS", 0.3)
    told = []
    with web.serving(files={"/rows.jsonl": DATA}) as server:

        def hang():
            server.always = "hang"

        if when == "from the start":
            hang()
        with pytest.raises(OutOfReachError, match=r"(?i)timeout"):
            read(f"{server.url}/rows.jsonl", 0.3, told, hang)
    assert len(told) == 1


@pytest.mark.slow
def test_a_socket_that_accepts_and_says_nothing_is_noticed(monkeypatch):
    monkeypatch.setattr("specbatch.runner.dataset.remote._CALL_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(OutOfReachError):
        read(f"http://127.0.0.1:{silent.getsockname()[1]}/rows.jsonl", 0.1)


@pytest.mark.slow
def test_a_file_that_changes_while_it_is_read_does_not_become_one_of_two_halves():
    with web.serving(files={"/rows.jsonl": DATA}, headers={"ETag": '"one"'}) as server:

        def change():
            server.headers["ETag"] = '"two"'
            server.troubles.append(("cut", 1000))

        with pytest.raises(DatasetError, match="changed while it was read"):
            read(f"{server.url}/rows.jsonl", then=change)


@pytest.mark.slow
@pytest.mark.parametrize("for_ever", [False, True])
def test_a_token_that_expires_in_the_middle_is_waited_for(for_ever, s3_at):
    headers = {"ETag": '"one"', "Last-Modified": "Sat, 28 Nov 2026 10:00:00 GMT"}
    with web.serving(files={"/bucket/rows.jsonl": DATA}, error_body=EXPIRED, headers=headers) as server:
        s3_at(server.url)
        told = []

        def expire():
            server.troubles += [400] * 3
            server.always = 400 if for_ever else None

        if for_ever:
            with pytest.raises(OutOfReachError, match="expired"):
                read("s3://bucket/rows.jsonl", 0.3, told, expire)
        else:
            assert read("s3://bucket/rows.jsonl", 5, told, expire) == LINES
        assert "expired" in told[0]


@pytest.mark.slow
def test_an_expired_token_is_told_though_s3_answers_a_head_without_a_body(s3_at):
    with web.serving(always=400, error_body=EXPIRED) as server:
        s3_at(server.url)
        with pytest.raises(OutOfReachError, match="expired"):
            read("s3://bucket/rows.jsonl", 0.2)


@pytest.mark.slow
def test_a_credential_that_never_was_good_and_a_wrong_bucket_are_told_at_once(s3_at):
    with web.serving(always=403, error_body=DENIED) as server:
        s3_at(server.url)
        with pytest.raises(DatasetError, match=r"403|Denied|Forbidden"):
            read("s3://bucket/rows.jsonl", 60)
        with pytest.raises(DatasetError, match=r"(?i)bucket"):
            read("s3://Not_A_Bucket!/rows.jsonl", 60)
    with web.serving() as server:
        s3_at(server.url)
        with pytest.raises(DatasetError, match="no such object"):
            read("s3://bucket/rows.jsonl", 60)


def test_waiting_is_told_while_it_lasts_and_ends_when_nobody_needs_the_rows():
    retrier = Retrier(600)
    with web.serving(files={"/rows.jsonl": DATA}) as server:
        rows = dataset_at(f"{server.url}/rows.jsonl", retrier=retrier).rows()
        next(rows)
        server.always = 503
        with ThreadPoolExecutor(1) as pool:
            rest = pool.submit(list, rows)
            while retrier.waiting is None:
                time.sleep(0.01)
            assert "503" in str(retrier.waiting)
            retrier.cancel()
            with pytest.raises(OutOfReachError):
                rest.result(timeout=10)
    assert retrier.waiting is None
