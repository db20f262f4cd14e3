"""Which environment variables look like secrets."""

import pytest

from specbatch.api.secret_env import looks_secret


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X", "-----BEGIN OPENSSH PRIVATE KEY-----\nabc"),
        ("X", "-----BEGIN RSA PRIVATE KEY-----"),
        ("X", '{"private_key": "-----BEGIN PRIVATE KEY-----"}'),
        ("X", "Bearer abcdef"),
        ("HEADER", "Authorization: Bearer abcdef"),
        ("DATABASE_URL", "postgres://me:pw@db/x"),
        ("REDIS", "redis://:pw@h:6379"),
        ("C", "Server=db;User Id=a;Password=hunter2;"),
        ("C", "DefaultEndpointsProtocol=https;AccountName=x;AccountKey=abc=="),
        ("MY_KEY", "abc"),
        ("MYSQL_PWD", "abc"),
        ("PGPASSWORD", "abc"),
        ("HF_TOKEN", "abc"),
        ("SECRET_THING", "abc"),
        ("CLIENT_SECRET", "x"),
        ("openai_api_key", "abc"),
        ("OPENAI_APIKEY", "abc"),
        ("AWS_ACCESS_KEY_ID", "abc"),
        ("AZURE_STORAGE_ACCOUNT_KEY", "x/y"),
        ("X", "xoxb-1234567890-abc"),
        ("X", "AKIAIOSFODNN7EXAMPLE"),
        ("X", "--token ghp_" + "a" * 36),
        ("X", "hf_" + "a1" * 12),
        ("X", "sk-proj-abcdefghijklmnop1234"),
        ("X", "https://h/a?sig=abcdef"),
    ],
)
def test_a_secret_is_seen(name, value):
    assert looks_secret(name, value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TOKENIZERS_PARALLELISM", "false"),
        ("HF_TOKEN_PATH", "/x/y"),
        ("TLS_KEY_FILE", "/k"),
        ("SSH_PUBLIC_KEY", "ssh-ed25519 AAAA"),
        ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1"),
        ("GOOGLE_APPLICATION_CREDENTIALS", "/var/secrets/g.json"),
        ("AWS_SHARED_CREDENTIALS_FILE", "/x"),
        ("PAD_TOKEN", "<pad>"),
        ("DB", "postgres://me:$(PW)@db/x"),
        ("HF_TOKEN", "$(OTHER)"),
        ("HF_TOKEN", ""),
        ("MAX_NEW_TOKENS", "5"),
        ("SORT_KEY", "id"),
        ("MONKEY", "abc"),
        ("COMPASS", "n"),
        ("PWD", "/work"),
        ("MODE", "basic"),
        ("NOTE", "basic authentication is used here"),
        ("X", "-----BEGIN CERTIFICATE-----"),
        ("URL", "https://host:8080/a@b"),
    ],
)
def test_what_is_no_secret_is_let_through(name, value):
    assert not looks_secret(name, value)
