import errno
import socket
import ssl
from types import SimpleNamespace

import aiohttp
import botocore.exceptions
import httpx
import pytest
from huggingface_hub.errors import OfflineModeIsEnabled

from specbatch.runner.transient_errors import answer_of, is_transient


def of_s3(code, status=400):
    answer = {"Error": {"Code": code, "Message": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return botocore.exceptions.ClientError(answer, "GetObject")


def wrapped(error, outer):
    outer.__cause__ = error
    return outer


def with_status(name, **fields):
    return type(name, (Exception,), fields)("no")


REFUSED = httpx.ConnectError("refused")


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (ConnectionRefusedError(), True),
        (ConnectionResetError(), True),
        (TimeoutError(), True),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), True),
        (OSError(errno.EHOSTUNREACH, "No route to host"), True),
        (OSError(errno.ESTALE, "Stale file handle"), True),
        (OSError(errno.EIO, "Input/output error"), False),
        (OSError(errno.EACCES, "Permission denied"), False),
        (FileNotFoundError("x"), False),
        (EOFError("cut short"), False),
        (ImportError("no driver"), False),
        (ssl.SSLCertVerificationError("self-signed"), False),
        (aiohttp.ClientPayloadError("not enough data"), True),
        (aiohttp.ServerDisconnectedError(), True),
        (aiohttp.InvalidURL("x"), False),
        (wrapped(aiohttp.ServerTimeoutError(), FileNotFoundError("http://x")), True),
        (REFUSED, True),
        (httpx.RemoteProtocolError("peer closed"), True),
        (httpx.UnsupportedProtocol("ftp"), False),
        (wrapped(OfflineModeIsEnabled("offline"), FileNotFoundError("x")), False),
        (botocore.exceptions.EndpointConnectionError(endpoint_url="http://x"), True),
        (botocore.exceptions.ReadTimeoutError(endpoint_url="http://x"), True),
        (botocore.exceptions.NoCredentialsError(), False),
        (of_s3("ExpiredToken"), True),
        (of_s3("RequestExpired"), True),
        (of_s3("SlowDown", 503), True),
        (of_s3("AccessDenied", 403), False),
        (of_s3("InvalidAccessKeyId", 403), False),
        (of_s3("NoSuchBucket", 404), False),
        (wrapped(of_s3("ExpiredToken"), PermissionError("The provided token has expired.")), True),
        (wrapped(of_s3("AccessDenied", 403), PermissionError("Access Denied")), False),
        # gcsfs and azure.core are not installed here: the fields that their errors have
        (with_status("HttpError", code=503), True),
        (with_status("HttpError", code=403), False),
        (with_status("RefreshError", retryable=True), True),
        (with_status("HttpResponseError", status_code=500, error_code="InternalError"), True),
        (with_status("ClientAuthenticationError", status_code=401, error_code="ExpiredAuthenticationToken"), True),
        (with_status("ResourceNotFoundError", status_code=404, error_code="BlobNotFound"), False),
        (with_status("ServiceRequestError"), True),
    ],
)  # fmt: skip
def test_an_error_may_pass_or_asks_for_a_person(error, passes):
    assert is_transient(error) is passes


@pytest.mark.parametrize(
    ("status", "passes"), [(408, True), (425, True), (429, True), (500, True), (502, True), (504, True), (501, False), (400, False), (404, False), (410, False)]
)  # fmt: skip
def test_http_statuses(status, passes):
    assert is_transient(with_status("SomeError", response=SimpleNamespace(status_code=status))) is passes


@pytest.mark.parametrize("error", [of_s3("AccessDenied", 403), with_status("E", status=401)])
def test_a_refusal_after_reading_has_worked_is_an_expired_credential(error):
    assert not is_transient(error)
    assert is_transient(error, was_permitted=True)


def test_an_error_caught_on_the_way_counts_only_where_the_others_say_nothing():
    clear, unclear = of_s3("AccessDenied", 403), ValueError("no")
    clear.__context__ = unclear.__context__ = TimeoutError()
    assert not is_transient(clear)
    assert is_transient(unclear)


def test_the_stores_own_code_is_found_beside_the_status():
    assert answer_of(of_s3("SlowDown", 503)) == (503, "SlowDown")
    assert answer_of(with_status("E", status=404))[0] == 404
    assert answer_of(ValueError("x")) == (None, "")
