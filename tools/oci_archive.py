"""Folders as an image archive, without an engine: what `ctr images import`, `kind load image-archive`, `docker load` and skopeo take.

The archive is an OCI layout with a Docker manifest beside it, as `docker save` writes it.

Source: https://github.com/opencontainers/image-spec/blob/main/image-layout.md
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_INDEX = "application/vnd.oci.image.index.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_SETUID_SETGID = 0o6000


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer, as a tar file.

    Attributes:
        path: the tar file.
        sha256: of its content.
        size: in bytes.
        made_by: what it is, for the image's history.
    """

    path: Path
    sha256: str
    size: int
    made_by: str


def layer_of(folder: Path, at: str, tar: Path, *, made_by: str, keep: Callable[[str], bool] = lambda _: True) -> Layer:
    """A folder as a layer that puts it at the path `at`; all of it belongs to root, nothing is setuid.

    Args:
        folder: what goes in.
        at: where it lies in the image, relative to the root; empty for the root itself.
        tar: the file to write.
        made_by: for the history.
        keep: whether a path (as in the image) goes in; a folder that does not, goes without what is in it.
    """
    with tarfile.open(tar, "w", format=tarfile.PAX_FORMAT) as archive:
        parents = Path(at).parts
        for depth in range(1, len(parents)):
            archive.addfile(_folder("/".join(parents[:depth])))
        for path in _walk(folder, at, keep):
            name = str(Path(at) / path.relative_to(folder))
            info = archive.gettarinfo(str(path), arcname=name)
            if info is None or not (info.isreg() or info.isdir() or info.issym() or info.islnk()):
                continue  # a socket, a device: the runtime makes its own
            info.uid = info.gid = 0
            info.uname = info.gname = "root"
            info.mode &= ~_SETUID_SETGID
            if info.isreg():
                with path.open("rb") as content:
                    archive.addfile(info, content)
            else:
                archive.addfile(info)
    return Layer(tar, _sha256_of(tar), tar.stat().st_size, made_by)


def write_archive(
    output: Path, layers: Sequence[Layer], *, tag: str, run: dict[str, Any], created: str, machine: str
) -> str:
    """Writes the archive; returns the image's digest.

    Args:
        output: the file to write.
        layers: from the root upwards.
        tag: the image's name, such as ghcr.io/specbatch/runner:0.1.0.
        run: how it runs (User, Env, Entrypoint, Labels, ...).
        created: when, as RFC 3339 has it.
        machine: amd64 or arm64.
    """
    config = _json(
        {
            "created": created,
            "architecture": machine,
            "os": "linux",
            "config": run,
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer.sha256}" for layer in layers]},
            "history": [{"created": created, "created_by": layer.made_by} for layer in layers],
        }
    )
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": _descriptor(_CONFIG, config),
            "layers": [{"mediaType": _LAYER, "digest": f"sha256:{one.sha256}", "size": one.size} for one in layers],
        }
    )
    names = {"io.containerd.image.name": tag, "org.opencontainers.image.ref.name": tag.rpartition(":")[2]}
    index = _json(
        {
            "schemaVersion": 2,
            "mediaType": _INDEX,
            "manifests": [{**_descriptor(_MANIFEST, manifest), "annotations": names}],
        }
    )
    for_docker = _json(
        [{"Config": _blob(config), "RepoTags": [tag], "Layers": [f"blobs/sha256/{layer.sha256}" for layer in layers]}]
    )
    with tarfile.open(output, "w", format=tarfile.PAX_FORMAT) as archive:
        _add(archive, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
        for blob in (config, manifest):
            _add(archive, _blob(blob), blob)
        for layer in {one.sha256: one for one in layers}.values():
            archive.add(layer.path, f"blobs/sha256/{layer.sha256}", filter=_plain)
        _add(archive, "index.json", index)
        _add(archive, "manifest.json", for_docker)
    return f"sha256:{hashlib.sha256(manifest).hexdigest()}"


def _walk(folder: Path, at: str, keep: Callable[[str], bool]) -> list[Path]:
    """Everything in a folder, parents first, in a fixed order; links are not followed."""
    found = [folder] if at else []
    for current, names, files in os.walk(folder):
        names[:] = sorted(name for name in names if keep(_inside(folder, at, current, name)))
        found += [Path(current, name) for name in [*names, *sorted(files)] if keep(_inside(folder, at, current, name))]
    return found


def _inside(folder: Path, at: str, current: str, name: str) -> str:
    return str(Path(at) / Path(current, name).relative_to(folder))


def _folder(name: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mode = tarfile.DIRTYPE, 0o755
    return info


def _plain(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = info.mtime = 0
    info.uname = info.gname = ""
    info.mode = 0o644
    return info


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    info = _plain(tarfile.TarInfo(name))
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))


def _descriptor(kind: str, content: bytes) -> dict[str, Any]:
    return {"mediaType": kind, "digest": f"sha256:{hashlib.sha256(content).hexdigest()}", "size": len(content)}


def _blob(content: bytes) -> str:
    return f"blobs/sha256/{hashlib.sha256(content).hexdigest()}"


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
