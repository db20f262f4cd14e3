"""A model hub on loopback: repositories of models and datasets over tests.web, with its API as huggingface_hub calls it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tests import web

COMMIT = "0123456789012345678901234567890123456789"
_LARGE = (".safetensors", ".gguf", ".bin", ".parquet")  # in Git LFS, as on the hub


def weights(size=200_000, name="w"):
    """A safetensors file with one tensor of so many bytes."""
    header = json.dumps({name: {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(size)


def model(**files):
    """The files of a small model that a run needs; `files` more of them, or None in place of one."""
    given = {"config.json": b"{}", "model.safetensors": weights(), **files}
    return {name: content for name, content in given.items() if content is not None}


@contextmanager
def serving_hub(
    models: Mapping[str, Mapping[str, bytes]] | None = None,
    datasets: Mapping[str, Mapping[str, bytes]] | None = None,
    **settings: object,
) -> Iterator[web.Web]:
    """A running hub; set HF_ENDPOINT of a process to its `url`, or `point_at` it in this one.

    Args:
        models: repository -> file -> content; its branch main is at COMMIT.
        datasets: likewise.
        settings: web.Web's.
    """
    with web.serving(**settings) as server:
        for kind, repositories in (("models", models or {}), ("datasets", datasets or {})):
            for name, files in repositories.items():
                add_repository(server, kind, name, files)
        yield server


def add_repository(server, kind, name, files):
    """Puts a repository onto a hub, or another content into it."""
    info = {"id": name, "sha": COMMIT, "siblings": [{"rfilename": path} for path in files]}
    tree = [entry for path, content in files.items() for entry in _entries(path, content)]
    page = "" if kind == "models" else f"/{kind}"
    for revision in ("main", COMMIT):
        server.files[f"/api/{kind}/{name}/revision/{revision}"] = json.dumps(info).encode()
        server.files[f"/api/{kind}/{name}/tree/{revision}"] = json.dumps(tree).encode()
        for path, content in files.items():
            server.files[f"{page}/{name}/resolve/{revision}/{path}"] = content
            server.headers_of[f"{page}/{name}/resolve/{revision}/{path}"] = {"ETag": f'"{_etag(path, content)}"'}
    server.files[f"/api/{kind}/{name}"] = json.dumps(info).encode()
    server.headers |= {"X-Repo-Commit": COMMIT, "Content-Type": "application/json"}


def point_at(url, monkeypatch, cache=None):
    """Makes this process ask another hub, and use another cache."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", url)
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", f"{url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    )
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    if cache is not None:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))


def _entries(path, content):
    entry = {"type": "file", "path": path, "size": len(content), "oid": _git_oid(content)}
    if path.endswith(_LARGE):
        entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
    yield entry


def _etag(path, content):
    return hashlib.sha256(content).hexdigest() if path.endswith(_LARGE) else _git_oid(content)


def _git_oid(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
