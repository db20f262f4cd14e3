"""Files bundled in the ConfigMap of a Job: a dataset or a chat template that the spec names by a relative path.

Relative paths of a spec are relative to the current directory here, and to / in the pod, where the file is mounted at the same
path. So the dataset has the same name and content with `run`, `submit` and Helm.
"""

from __future__ import annotations

import base64
import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from specbatch.api.job import SpecBatchJob
from specbatch.errors import Problem, SpecError

MAX_BYTES = 900_000  # of files; a ConfigMap holds 1 MiB in all
MAX_CONFIG_BYTES = 1 << 20  # Kubernetes refuses more: the sum of all values, binary ones decoded
_NOT_IN_KEYS = re.compile(r"[^-._a-zA-Z0-9]")
_MAX_KEY_CHARS = 200  # of the 253 that a key may have
COMPRESSED = (".gz", ".zst")
# Characters that YAML cannot hold unescaped: Helm loses strings with them.
NOT_IN_YAML = re.compile("[\x7f-\x9f\ufeff\ufffe\uffff]")
TOO_LARGE = (
    "shorten the texts of the spec, and put files onto a volume of job.volumes (give their paths there) or upload them"
)
_ELSEWHERE = "upload it and give its URI (s3://...), or put it on a volume of job.volumes and give its path there"


@dataclass(frozen=True, slots=True)
class BundledFile:
    """A file in the ConfigMap.

    Attributes:
        path: of the spec, normalised, relative.
        field: of the spec that names it.
        role: of the file.
    """

    path: str
    field: str
    role: Literal["dataset", "template"]

    @property
    def key(self) -> str:
        """The key in the ConfigMap: never spec.json, and never that of another file."""
        return f"{self.role}-{_NOT_IN_KEYS.sub('_', posixpath.basename(self.path))[-_MAX_KEY_CHARS:]}"

    @property
    def compressed(self) -> bool:
        """Whether it is binary."""
        return self.path.endswith(COMPRESSED)


def bundled_files(job: SpecBatchJob) -> list[BundledFile]:
    """The files that a spec names by relative paths."""
    dataset = job.spec.dataset
    named = [BundledFile(dataset.uri, "spec.dataset.uri", "dataset")]
    if dataset.chat_template_file is not None:
        named.append(BundledFile(dataset.chat_template_file, "spec.dataset.chatTemplate", "template"))
    return [
        replace(file, path=posixpath.normpath(file.path))
        for file in named
        if "://" not in file.path and not file.path.startswith(("/", "~"))
    ]


def read_files(job: SpecBatchJob, folder: Path) -> dict[str, bytes]:
    """The content of every bundled file by its path; relative paths are relative to `folder`.

    Raises:
        SpecError: a file is missing, not a single file, too large, or not text.
    """
    read = {file.path: _read(file, folder) for file in bundled_files(job)}
    contents = {path: content for path, content in read.items() if isinstance(content, bytes)}
    problems = [problem for problem in read.values() if isinstance(problem, Problem)]
    total = sum(len(content) for content in contents.values())
    if not problems and total > MAX_BYTES:
        problems.append(Problem("spec.dataset.uri", f"{total:,} bytes do not fit into a ConfigMap", _ELSEWHERE))
    if problems:
        raise SpecError(problems, source=job.metadata.name)
    return contents


def config_data(job: SpecBatchJob, contents: Mapping[str, bytes]) -> dict[str, dict[str, str]]:
    """The files as fields of a ConfigMap: {"data": {...}, "binaryData": {...}}; in data only what YAML can hold."""
    data: dict[str, str] = {}
    binary: dict[str, str] = {}
    for file in bundled_files(job):
        if file.compressed or NOT_IN_YAML.search(contents[file.path].decode()):
            binary[file.key] = base64.b64encode(contents[file.path]).decode()
        else:
            data[file.key] = contents[file.path].decode()
    return {"data": data, **({"binaryData": binary} if binary else {})}


def check_config_size(job: SpecBatchJob, data: Mapping[str, Mapping[str, str]]) -> None:
    """Checks that Kubernetes takes a ConfigMap of this size.

    Raises:
        SpecError: it is too large.
    """
    sizes = {key: len(text.encode()) for key, text in data["data"].items()}
    sizes |= {key: len(base64.b64decode(text)) for key, text in data.get("binaryData", {}).items()}
    total = sum(sizes.values())
    if total > MAX_CONFIG_BYTES:
        largest = max(sizes, key=lambda key: sizes[key])
        problem = Problem(
            "spec",
            f"its ConfigMap would hold {total} bytes, and Kubernetes takes {MAX_CONFIG_BYTES} ({largest} has {sizes[largest]})",
            TOO_LARGE,
        )
        raise SpecError([problem], source=job.metadata.name)


def _read(file: BundledFile, folder: Path) -> bytes | Problem:  # noqa: PLR0911 - one return for each problem
    def problem(message: str, remedy: str = _ELSEWHERE) -> Problem:
        return Problem(file.field, message, remedy)

    path = folder / file.path
    if file.path.startswith("../"):
        return problem(f"{file.path} is outside of the current directory", f"start from above it, or {_ELSEWHERE}")
    if any(character in file.path for character in "*?[") and not path.exists():
        return problem(f"{file.path} is a glob, and pods do not see this machine's files")
    if path.is_dir():
        return problem(f"{file.path} is a folder, and only single files are bundled with a Job")
    try:
        size = path.stat().st_size
        content = path.read_bytes() if size <= MAX_BYTES else b""
    except FileNotFoundError:
        remedy = f"check the path; a file of the pod needs an absolute one; or {_ELSEWHERE}"
        return problem(f"{file.path} is not here, in {folder.absolute()}", remedy)
    except OSError as error:
        return problem(f"{file.path} cannot be read: {error.strerror or error}", "")
    if size > MAX_BYTES:
        limit = f"(up to {MAX_BYTES:,} are bundled with the Job)"
        return problem(f"{file.path} has {size:,} bytes, and pods do not see this machine's files {limit}")
    if not file.compressed:
        try:
            content.decode()
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            message = f"{file.path} is not UTF-8 text (line {line}), and a ConfigMap takes no other"
            return problem(message, f"gzip it, or {_ELSEWHERE}")
    return content


def local_path_problems(job: SpecBatchJob) -> Iterator[Problem]:
    """Paths that exist here, are on no volume of the pod, and are not bundled."""
    spec, dataset = job.spec, job.spec.dataset
    for field, path in (("spec.dataset.uri", dataset.uri), ("spec.dataset.chatTemplate", dataset.chat_template)):
        local = path.removeprefix("file://")
        if local.startswith("~") or (local.startswith("/") and not _on_volume(job, local) and Path(local).exists()):
            yield Problem(
                field,
                f"{path} is a file of this machine, which pods do not see",
                f"give it relative to the current directory (it is then bundled with the Job, up to {MAX_BYTES:,} bytes); {_ELSEWHERE}",
            )
    models = {
        "spec.target.model": spec.target.model,
        "spec.target.adapter": spec.target.adapter,
        "spec.drafter.model": spec.drafter and spec.drafter.model,
    }
    for field, model in models.items():
        if model and (model.startswith("~") or (Path(model).exists() and not _on_volume(job, model))):
            yield Problem(
                field,
                f"{model} is a folder of this machine, which pods do not see",
                "put it on a volume of job.volumes and give its path there, or name the hub's id of it",
            )


def _on_volume(job: SpecBatchJob, path: str) -> bool:
    """Whether a path of the pod, where relative ones begin at /, lies on a volume."""
    mounts = [posixpath.normpath(volume.mount_path) for volume in job.spec.job.volumes.all().values()]
    return any(posixpath.commonpath([posixpath.join("/", path), mount]) == mount for mount in mounts)
