"""Secrets in texts and URIs."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specbatch.errors import DatasetError, Problem, SpecError
from specbatch.redact import (
    holds_password,
    holds_secret,
    redact,
    redact_uri,
    redact_values,
    was_redacted,
    without_secrets,
)

SECRET = "s3cr3tV4lue0123456789"
SIGNED = [
    f"https://b.s3.amazonaws.com/r.jsonl?X-Amz-Algorithm=A&X-Amz-Credential=K%2F{SECRET}&X-Amz-Date=1&X-Amz-Signature={SECRET}",
    f"https://b.s3.amazonaws.com/r.jsonl?AWSAccessKeyId=K&Signature={SECRET}%3D&Expires=1",
    f"https://storage.googleapis.com/b/r.jsonl?X-Goog-Credential=me&X-Goog-Expires=9&X-Goog-Signature={SECRET}",
    f"https://a.blob.core.windows.net/c/r.jsonl?sv=2024-11-04&se=2026-01-01T00%3A00Z&sr=b&sp=r&sig={SECRET}%2B",
    f"https://h/r.jsonl?token={SECRET}",
    f"https://h/r.jsonl?access_token={SECRET}",
    f"https://h/r.jsonl?api-key={SECRET}",
    f"https://h/r.jsonl?api_key={SECRET}",
    f"https://h/r.jsonl?APIKEY={SECRET}",
    f"https://h/r.jsonl?X%2DAmz%2DSignature={SECRET}",
    f"https://h/r.jsonl#access_token={SECRET}",
    f"https://h/r.jsonl?a=1;password={SECRET}",
    f"simplecache::https://h/r.jsonl?token={SECRET}",
    f"zip://r.jsonl::https://h/r.zip?client_secret={SECRET}",
]
PASSWORDS = [
    f"https://user:{SECRET}@h/r.jsonl",
    f"https://{SECRET}@h/r.jsonl",
    f"simplecache::https://user:{SECRET}@h/r.jsonl",
    f"zip://r.jsonl::filecache::https://user:{SECRET}@h/r.zip",
    f"s3://AKIA:{SECRET}@bucket/r.jsonl",
    f"s3://AKIA:ab/{SECRET}@bucket/r.jsonl",
    f"ftp://user:p@{SECRET}@h/r.jsonl",
    f"s3://user:p@{SECRET}@h/r.jsonl",
    f"https://:{SECRET}@h/r.jsonl",
]
PLAIN = [
    "https://h/r.jsonl",
    "https://h:8080/a@b/r.jsonl?versionId=3&page=2",
    "http://[::1]:8000/a@b",
    "s3://bucket/a@b/r.jsonl",
    "abfs://container@account.dfs.core.windows.net/r.jsonl",
    "hf://datasets/me/rows@main/r.jsonl",
    "https://h/r.jsonl?max_tokens=3&keyword=a&tokenizer=b&monkey=1&next_page_token=3&se=north&key=",
    "/data/r?.jsonl",
    "data/part-[0-9].jsonl",
    "file:///data/a=b#c.jsonl",
]


@pytest.mark.parametrize("uri", [*SIGNED, *PASSWORDS])
def test_no_secret_of_a_uri_is_left_in_any_text(uri):
    texts = [uri, f"cannot read {uri}: 403", f"url=URL('{uri}')", f'{{"uri": "{uri}"}}', f"({uri}).", f"{uri}\n{uri}"]
    for text in texts:
        said = redact(text)
        assert SECRET not in said
        assert "REDACTED" in said
        assert redact(said) == said
    for shown in (without_secrets(uri), redact_uri(uri)):
        assert SECRET not in shown
        assert "r." in shown  # what it is of is still to be seen


@pytest.mark.parametrize("uri", [*SIGNED, *PASSWORDS])
def test_signed_anew_it_is_the_same_object(uri):
    again = uri.replace(SECRET, "another0Secret").replace("Expires=9", "Expires=10").replace("2026-01", "2027-02")
    assert without_secrets(uri) == without_secrets(again)
    assert without_secrets(redact_uri(uri)) == without_secrets(uri)
    assert was_redacted(redact_uri(uri))
    assert not was_redacted(uri)


@pytest.mark.parametrize("uri", PLAIN)
def test_what_is_no_secret_stays(uri):
    assert redact(uri) == without_secrets(uri) == redact_uri(uri) == uri
    assert not holds_secret(uri)
    assert not was_redacted(uri)


def test_what_names_the_object_stays_beside_what_signs_it():
    signed = "https://b.s3.amazonaws.com/r.jsonl?versionId=3&X-Amz-Signature=abc&list-type=2#frag"
    assert without_secrets(signed) == "https://b.s3.amazonaws.com/r.jsonl?versionId=3&list-type=2#frag"


def test_a_password_is_told_from_a_signature():
    assert [uri for uri in SIGNED if holds_password(uri)] == []
    assert [uri for uri in PASSWORDS if not holds_password(uri)] == []


@pytest.mark.parametrize(
    "token",
    [
        f"hf_{'a1' * 12}",
        f"sk-{'a1' * 12}",
        f"ghp_{'a1' * 18}",
        "AKIAIOSFODNN7EXAMPLE",
        f"xoxb-{'1' * 12}-abc",
        "eyJhbGciOi1.eyJzdWIiOi1.x_y",
    ],
)
def test_tokens_that_are_known_by_how_they_begin_are_no_part_of_a_text(token):
    assert token not in redact(f"401 for token {token}, sorry")
    assert redact(f"Authorization: Bearer {token}") == "Authorization: Bearer REDACTED"


@pytest.mark.parametrize(
    "text", ["Basic understanding of things", "sk-learn", "task_hf_tokens are counted", "a bearer of news"]
)
def test_words_are_no_tokens(text):
    assert redact(text) == text


def test_an_error_and_a_problem_never_hold_a_secret():
    error = DatasetError(f"403: {SIGNED[0]}", where=SIGNED[3], remedy="sign it anew")
    assert SECRET not in f"{error} {error.message} {error.where} {error.args}"
    found = SpecError([Problem("spec.dataset.uri", f'found "{PASSWORDS[2]}"')])
    assert SECRET not in f"{found} {found.problems}"


def test_values_for_json_are_redacted_deep_inside():
    assert redact_values({"a": [{"b": SIGNED[4]}, 1, None]}) == {"a": [{"b": "https://h/r.jsonl?REDACTED"}, 1, None]}


@given(st.text(alphabet="?&#;=@:/.-aAhtps tokensig\"'"))
def test_redacted_again_a_text_stays_the_same(text):
    assert redact(redact(text)) == redact(text)


@pytest.mark.parametrize(
    "text",
    ["?" * 200_000 + "=", "a://" * 50_000, "https://" + "a:" * 100_000, "?" + "a-" * 100_000 + "=1", "eyJ" * 60_000],
)
def test_a_long_text_takes_no_long_time(text):
    began = time.monotonic()
    redact(text)
    assert time.monotonic() - began < 2
