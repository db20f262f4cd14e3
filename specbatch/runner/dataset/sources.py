"""Resolves a dataset URI to files: on this machine, in any fsspec store, or of a dataset on a hub."""

from __future__ import annotations

import glob
import os
from functools import partial
from typing import Any

from specbatch.api.dataset import DatasetSpec
from specbatch.errors import DatasetError, SpecbatchError
from specbatch.redact import was_redacted, without_secrets
from specbatch.runner.dataset.folders import Chosen, choose, refuse_twins
from specbatch.runner.dataset.hub import HUB, hub_sources
from specbatch.runner.dataset.local import local_path, local_sources
from specbatch.runner.dataset.remote import RemoteStore, signs_of
from specbatch.runner.dataset.source import Found, Source, unreadable
from specbatch.runner.retry import Retrier
from specbatch.runner.transient_errors import answer_of, cause_of

_NOT_FOUND = 404
_GLOB_CHARACTERS = frozenset("*?[")


def find_sources(spec: DatasetSpec, retrier: Retrier) -> Found:
    """The files that spec.dataset names, in a fixed order (sorted by name); there may be none in a folder.

    Args:
        spec: its uri is a local path, a glob, an fsspec URI or a dataset of a hub.
        retrier: for a store that is out of reach.

    Raises:
        DatasetError: nothing there, not permitted, or the store's driver is not installed.
        OutOfReachError: the store could not be reached.
    """
    uri = spec.uri
    if was_redacted(uri):
        raise DatasetError(
            "its signature is not kept with the run", where=uri, remedy="give the URI anew: --set dataset.uri=..."
        )
    if uri.startswith(HUB):
        return hub_sources(spec, retrier)
    if spec.revision is not None or (is_remote(uri) and (spec.config or spec.split)):
        raise DatasetError(
            "dataset.config, dataset.split and dataset.revision are for datasets of a hub",
            where=uri,
            remedy=f"leave them out, or name the dataset: {HUB}datasets/ORG/NAME",
        )
    if is_remote(uri):
        return _remote_sources(uri, retrier)
    root = local_path(uri)
    try:
        return local_sources(root, config=spec.config, split=spec.split)
    except OSError as error:
        raise unreadable(str(root), error) from error


def is_remote(uri: str) -> bool:
    """Whether a store or server is meant, not a file of this machine."""
    return "://" in uri and not uri.startswith("file://")


def is_here(uri: str) -> bool:
    """Whether a URI means files of this machine, and there are any."""
    if is_remote(uri) or was_redacted(uri):
        return False
    path = local_path(uri)
    return os.path.lexists(path) or next(glob.iglob(str(path), recursive=True), None) is not None  # noqa: PTH207 - as `_local_sources`


def _remote_sources(uri: str, retrier: Retrier) -> Found:
    protocol = uri.partition("://")[0]
    try:
        store = RemoteStore(uri, retrier)
        chosen: Chosen = store.ask(lambda driver: _remote_paths(driver, store.root, protocol))
        infos = {path: store.info(path) for path in chosen.taken}
    except SpecbatchError:
        raise
    except Exception as error:
        if isinstance(error, FileNotFoundError) and answer_of(cause_of(error))[0] in {None, _NOT_FOUND}:
            raise DatasetError(
                "no such object, prefix or glob match", where=uri, remedy="check spec.dataset.uri"
            ) from error
        raise unreadable(uri, error) from error
    files = [path for path, why in chosen.left_out.items() if why != "a folder"]
    return Found(
        [_remote_source(store, path, _public_name(protocol, path), info) for path, info in infos.items()],
        [_remote_source(store, path, path, {}) for path in files],
        chosen.sentence,
    )


def _remote_source(store: RemoteStore, path: str, name: str, info: dict[str, Any]) -> Source:
    opened = partial(store.open, path, name, info)
    return Source(name, info.get("size"), opened, partial(opened, anywhere=True), signs_of(info))


def _public_name(protocol: str, name: str) -> str:
    """Signed anew, a file has the same name."""
    return without_secrets(name if "://" in name else f"{protocol}://{name}")


def _remote_paths(store: Any, path: str, protocol: str) -> Chosen:
    if protocol.rpartition("::")[2] in {"http", "https"}:  # a ? begins a query there, and nothing can be listed
        return Chosen([path], {})
    if _GLOB_CHARACTERS & set(path):
        found = sorted(name for name in store.glob(path) if not store.isdir(name))
        if not found:
            raise FileNotFoundError(path)
        refuse_twins(found)
        return Chosen(found, {})
    if not store.isdir(path):
        store.info(path)
        return Chosen([path], {})
    entries = store.ls(path, detail=True)
    files = [
        entry["name"] for entry in entries if entry.get("type") != "directory" and entry["name"].rstrip("/") != path
    ]
    return choose(files, {entry["name"]: "a folder" for entry in entries if entry.get("type") == "directory"})
