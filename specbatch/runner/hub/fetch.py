"""A model of the hub, brought to this machine: the files that a run needs, checked, and complete when this returns."""

from __future__ import annotations

import glob
import json
import os
import shutil
import threading
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from specbatch.errors import ModelError, ResultsError
from specbatch.formatting import format_bytes
from specbatch.plan.shapes.hub_model import HubModel
from specbatch.plan.shapes.model_dir import resolve_model_dir
from specbatch.plan.shapes.weight_files import check_weight_files, is_complete
from specbatch.runner.hub.blob import Blob, provide
from specbatch.runner.hub.errors import bound_silence, hub_errors
from specbatch.runner.hub.progress import Progress
from specbatch.runner.hub.selection import needed_files
from specbatch.runner.retry import Retrier

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoFile

_AT_ONCE = 4
_SPARE_BYTES = 64 << 20  # of the disk, for what else is written


@dataclass(frozen=True, slots=True)
class Fetched:
    """A model that is here.

    Args:
        model: as asked.
        path: its folder: a snapshot in the hub's cache, or the one that was named.
        commit: of the repository.
        files: their number.
        size: bytes of them.
    """

    model: HubModel
    path: Path
    commit: str
    files: int
    size: int


def fetch_model(
    model: HubModel, *, progress: Progress, to: Path | None = None, where: str = "", seconds: float
) -> Fetched:
    """Downloads what is missing of a model, and checks sizes and sha256 of everything that a run reads of it.

    Args:
        model: of the hub (HF_ENDPOINT, HF_TOKEN).
        progress: shows how far it is.
        to: the folder to fill; None for the hub's cache (HF_HUB_CACHE, HF_HOME).
        where: the model, for people.
        seconds: how long the hub may be out of reach.

    Raises:
        ModelError: it is not there, not permitted, or holds nothing that can be loaded.
        OutOfReachError: the hub did not answer for `seconds`.
        ResultsError: no room, or not writable.
    """
    from huggingface_hub import constants  # noqa: PLC0415 - only where something must be downloaded

    where = where or model.name
    place = to or Path(constants.HF_HUB_CACHE)
    if constants.is_offline_mode():
        return _here(model, to, place, where)
    with hub_errors(where, place):
        retrier = Retrier(seconds, say=progress.say)
        commit, files = retrier.call(partial(_listing, model), where=where)
        names = needed_files(
            files, partial(_indexed, model.name, commit), model=where, code=model.code, include=model.include
        )
        missing = [name for name in names if name not in files]
        if missing:
            message = f"its index lists {missing[0]}, which the repository does not hold"
            raise ModelError(
                message, where=where, remedy="take another revision: this one was not published completely"
            )
        wanted = {name: files[name] for name in names}
        size = sum(file.size for file in wanted.values())
        blobs = _blobs(model.name, commit, wanted, to)
        there = sum(blob.here for blob in blobs)
        _check_room(place, size - there)
        progress.begin(model.name, sum(blob.size for blob in blobs), there)
        _provide_all(blobs, progress, seconds)
        path = retrier.call(partial(_snapshot, model, names, to), where=where)
        _check_sizes(path, wanted, where)
        if not model.include:
            check_weight_files(path, where)
    return Fetched(model, path, commit, len(names), size)


def _here(model: HubModel, to: Path | None, cache: Path, where: str) -> Fetched:
    """With HF_HUB_OFFLINE=1: a model that is complete, by its index and the headers of its files; the hub is not asked."""
    path = to if to is not None else resolve_model_dir(model.name, model.revision, {"HF_HUB_CACHE": str(cache)})
    if path is None or not is_complete(path):
        raise ModelError(
            f"is not here, or not complete, and HF_HUB_OFFLINE=1 forbids to download it (looked in {path or cache})",
            where=where,
            remedy="unset HF_HUB_OFFLINE where there is a network; on a cluster: specbatch fetch SPEC -n NAMESPACE first",
        )
    check_weight_files(path, where)
    sizes = [file.stat().st_size for file in path.rglob("*") if file.is_file()]
    return Fetched(model, path, path.name if to is None else "", len(sizes), sum(sizes))


def _listing(model: HubModel) -> tuple[str, Mapping[str, RepoFile]]:
    """The commit, and the repository's files by name."""
    from huggingface_hub import HfApi  # noqa: PLC0415 - only where something must be downloaded
    from huggingface_hub.hf_api import RepoFile  # noqa: PLC0415 - as above

    bound_silence()
    commit = HfApi().repo_info(model.name, revision=model.revision or "main").sha
    assert commit is not None, "the hub resolves every revision to a commit"
    tree = HfApi().list_repo_tree(model.name, revision=commit, recursive=True)
    return commit, {file.path: file for file in tree if isinstance(file, RepoFile)}


def _indexed(name: str, commit: str, index: str) -> Collection[str]:
    from huggingface_hub import hf_hub_download  # noqa: PLC0415 - only where something must be downloaded

    content = json.loads(Path(hf_hub_download(name, index, revision=commit)).read_text(encoding="utf-8"))
    placed = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(placed, dict) or not placed:
        raise ModelError(f"{index} lists no weights", where=name, remedy="take another revision of the model")
    return set(map(str, placed.values()))


def _blobs(name: str, commit: str, wanted: Mapping[str, RepoFile], to: Path | None) -> list[Blob]:
    """The large files, whose sha256 the hub gives: in its cache they lie under that name."""
    from huggingface_hub import constants, hf_hub_url  # noqa: PLC0415 - only where something must be downloaded
    from huggingface_hub.file_download import repo_folder_name  # noqa: PLC0415 - as above

    cache = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type="model") / "blobs"
    return [
        Blob(
            name=f"{name}/{file.path}",
            url=hf_hub_url(name, file.path, revision=commit),
            size=file.size,
            sha256=file.lfs.sha256,
            place=cache / file.lfs.sha256 if to is None else to / file.path,
        )
        for file in wanted.values()
        if file.lfs is not None
    ]


def _check_room(place: Path, needed: int) -> None:
    folder = next(path for path in (place.absolute(), *place.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(folder).free
    if needed > 0 and needed + _SPARE_BYTES > free:
        raise ResultsError(
            f"the disk is too full: {format_bytes(needed)} are missing of the model, and {format_bytes(free)} are free",
            where=str(place),
            remedy="make room there, or name another place: --to DIR, or HF_HOME; on a cluster make the claim larger",
        )


def _provide_all(blobs: Sequence[Blob], progress: Progress, seconds: float) -> None:
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # noqa: PLC0415 - only where something must be downloaded; public, and not in __all__

    cancelled = threading.Event()
    headers = build_hf_headers()
    retriers = [Retrier(seconds, say=progress.say) for _ in blobs]
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="fetch") as pool:
        running = [
            pool.submit(provide, blob, headers, retrier=retrier, advance=progress.advance, cancelled=cancelled)
            for blob, retrier in zip(blobs, retriers, strict=True)
        ]
        try:
            for one in running:
                one.result()
        except BaseException:
            cancelled.set()
            for retrier in retriers:
                retrier.cancel()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _snapshot(model: HubModel, names: Sequence[str], to: Path | None) -> Path:
    """The folder, after the small files have been brought, and links to the large ones been made."""
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - only where something must be downloaded

    patterns = [glob.escape(name) for name in names]
    return Path(snapshot_download(model.name, revision=model.revision, allow_patterns=patterns, local_dir=to))


def _check_sizes(path: Path, wanted: Mapping[str, RepoFile], where: str) -> None:
    """The large files were hashed; of the small ones the size is compared."""
    for name, file in wanted.items():
        size = os.stat(path / name).st_size  # noqa: PTH116 - follows the cache's links
        if size != file.size:
            message = f"{name} has {size:,} bytes, and the hub says {file.size:,}"
            raise ModelError(message, where=where, remedy=f"delete {path / name}, and fetch it again")
