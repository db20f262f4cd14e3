"""Finds the files of a dataset on a hub: hf://datasets/ORG/NAME, or a file, folder or glob in it. They are those of one commit, read by ranges.

HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE count as everywhere. Offline the dataset is that of the hub's cache (`hf download`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from specbatch.api.dataset import DatasetSpec
from specbatch.errors import DatasetError, SpecbatchError
from specbatch.results.storage.stores import Store
from specbatch.runner.dataset.folders import Chosen, choose
from specbatch.runner.dataset.globs import matches
from specbatch.runner.dataset.local import local_sources
from specbatch.runner.dataset.remote import RemoteStore
from specbatch.runner.dataset.repositories import Repository
from specbatch.runner.dataset.source import Found, Source, unreadable
from specbatch.runner.hub.errors import bound_silence
from specbatch.runner.retry import Retrier

HUB = "hf://"
_URI = re.compile(r"hf://datasets/(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[^/]+|refs/[^/]+/[^/]+))?(/(?P<path>.*))?")


class _File(NamedTuple):
    size: int
    content: str  # the hub's hash of it


def hub_sources(spec: DatasetSpec, retrier: Retrier) -> Found:
    """The files of a dataset on a hub.

    Raises:
        DatasetError: not there, gated, no such revision, configuration, split or file.
        OutOfReachError: the hub could not be reached.
    """
    found = _URI.fullmatch(spec.uri)
    if found is None:
        raise DatasetError(
            "not the name of a dataset on the hub",
            where=spec.uri,
            remedy="hf://datasets/ORG/NAME, with dataset.config, dataset.split and dataset.revision beside it; or hf://datasets/ORG/NAME/PATH",
        )
    if spec.revision and found["revision"] not in {None, spec.revision}:
        remedy = "give it once"
        raise DatasetError(
            f"its revision is {found['revision']}, and dataset.revision {spec.revision}", where=spec.uri, remedy=remedy
        )
    repo, revision = found["repo"], found["revision"] or spec.revision
    path = (found["path"] or "").strip("/")
    if path and (spec.config or spec.split):
        remedy = "leave dataset.config and dataset.split out, or the path"
        raise DatasetError("a path in the dataset names its files already", where=spec.uri, remedy=remedy)
    from huggingface_hub.constants import HF_HUB_OFFLINE  # noqa: PLC0415 - only for datasets of a hub

    if HF_HUB_OFFLINE:
        folder = _cached(repo, revision, spec.uri)
        return local_sources(folder / path, config=spec.config, split=spec.split)
    commit, files = _listed(repo, revision, spec.uri, retrier)
    store = _HubStore(f"{HUB}datasets/{repo}@{commit}", retrier)
    if path:
        chosen = _named(list(files), path, spec.uri)
    else:
        chosen = Repository(spec.uri, sorted(files), lambda name: _read(store, name, files[name])).choose(
            spec.config, spec.split
        )
    sources = [_source(store, f"{HUB}datasets/{repo}", name, files[name]) for name in chosen.taken]
    return Found(sources, (), chosen.sentence, pinned=True)


def _listed(repo: str, revision: str | None, uri: str, retrier: Retrier) -> tuple[str, dict[str, _File]]:
    """The commit that a revision is now, and its files."""
    from huggingface_hub import HfApi  # noqa: PLC0415 - only for datasets of a hub
    from huggingface_hub.hf_api import RepoFile  # noqa: PLC0415 - as above

    def ask() -> tuple[str, dict[str, _File]]:
        bound_silence()
        api = HfApi()
        commit = str(api.dataset_info(repo, revision=revision).sha)
        tree = api.list_repo_tree(repo, recursive=True, revision=commit, repo_type="dataset")
        files = [entry for entry in tree if isinstance(entry, RepoFile)]
        return commit, {file.path: _File(file.size, file.lfs.sha256 if file.lfs else file.blob_id) for file in files}

    try:
        return retrier.call(ask, where=uri)
    except SpecbatchError:
        raise
    except Exception as error:
        raise unreadable(uri, error) from error


def _cached(repo: str, revision: str | None, uri: str) -> Path:
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - only for datasets of a hub

    try:
        return Path(snapshot_download(repo, repo_type="dataset", revision=revision, local_files_only=True))
    except Exception as error:
        again = f" --revision {revision}" if revision else ""
        raise DatasetError(
            "HF_HUB_OFFLINE is set, and the dataset is not in the hub's cache",
            where=uri,
            remedy=f"hf download --repo-type dataset {repo}{again} (HF_HOME says where to), or name a local folder",
        ) from error


class _HubStore(RemoteStore):
    """A commit of a dataset. Each further connection would ask the hub about the repository again, and each unknown size about a folder."""

    pinned = True
    _kept: Store | None = None

    def connect(self) -> Store:
        """The one connection; it reads its token anew for each request."""
        self._store = self._kept = self._kept or super().connect()
        return self._kept

    def open_options(self, info: Mapping[str, Any]) -> dict[str, Any]:
        """The size, which is known."""
        return {"size": info["size"]}


def _read(store: RemoteStore, name: str, file: _File) -> bytes:
    try:
        with store.open(f"{store.root}/{name}", f"{store.uri}/{name}", {"size": file.size}) as stored:
            return stored.read()
    except SpecbatchError:
        raise
    except Exception as error:
        raise unreadable(f"{store.uri}/{name}", error) from error


def _named(names: Sequence[str], path: str, uri: str) -> Chosen:
    """The files that a path in the dataset names: one, those of a folder, or those that match."""
    if path in names:
        return Chosen([path], {})
    found = sorted(name for name in names if matches(name, path))
    if found:
        return Chosen(found, {})
    within = [name for name in names if name.startswith(f"{path}/")]
    if not within:
        raise DatasetError(
            "no such file, folder or glob match in the dataset", where=uri, remedy="check spec.dataset.uri"
        )
    direct = [name for name in within if "/" not in name[len(path) + 1 :]]
    return choose(direct, {name: "in a folder" for name in within if name not in direct})


def _source(store: RemoteStore, public: str, name: str, file: _File) -> Source:
    info = {"size": file.size}
    opened = partial(store.open, f"{store.root}/{name}", f"{public}/{name}", info)
    return Source(
        f"{public}/{name}", file.size, opened, partial(opened, anywhere=True), {**info, "content": file.content}
    )
