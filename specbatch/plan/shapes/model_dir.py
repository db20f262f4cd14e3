"""Where a model's files are on this machine: the package, a folder, a GGUF file, or the hub's cache. No network."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

import specbatch
from specbatch.errors import ModelError
from specbatch.plan.shapes.weight_files import refuse_adapter

_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
EMBEDDED = "embedded:"  # how the names of the models in the package begin


def resolve_model_dir(model: str, revision: str | None = None, env: Mapping[str, str] | None = None) -> Path | None:
    """The folder of a model, or its .gguf file where that is what holds it; None: must be downloaded from the hub.

    Either can be given to `engine.load_causal_lm` as it is.

    Args:
        model: `embedded:NAME`, a folder, a .gguf file, or a hub id such as Qwen/Qwen3-8B.
        revision: a branch, tag or commit of the hub; None is "main". Of no meaning for files.
        env: where HF_HUB_CACHE, HF_HOME and XDG_CACHE_HOME are looked up; the process's own when None.

    Raises:
        ModelError: it can only be local, and is not there or holds no model.
    """
    if model.startswith(EMBEDDED):
        return _embedded(model)
    path = Path(model).expanduser()
    if path.is_dir():
        found = _model_in(path)
        if found is None:
            refuse_adapter(path, model)
            raise ModelError(
                f"the folder {path.absolute()} holds neither a config.json nor a .gguf file",
                where=model,
                remedy="name the folder that from_pretrained would load",
            )
        return found
    if path.suffix == ".gguf" and path.is_file():
        return path
    if not is_hub_id(model):
        raise ModelError(
            f"there is no such folder or .gguf file (looked for {path.absolute()})",
            where=model,
            remedy="check the path and, in a pod, the volume that should hold it",
        )
    return _cached_snapshot(model, revision, os.environ if env is None else env)


def is_hub_id(model: str) -> bool:
    """Whether a model is the hub's by its name: neither the package's, nor a file, nor a path that begins as one."""
    if model.startswith((EMBEDDED, "/", "./", "../", "~")) or model.endswith(".gguf"):
        return False
    return _HUB_ID.fullmatch(model) is not None


def _model_in(folder: Path) -> Path | None:
    """The folder itself, its only .gguf file where there are no safetensors, or None where there is no model."""
    files = sorted(folder.glob("*.gguf"))
    if not files or any(folder.glob("*.safetensors")):
        return folder if (folder / "config.json").is_file() else None
    if len(files) > 1:
        raise ModelError(
            f"the folder holds {len(files)} GGUF files: {', '.join(file.name for file in files)}",
            where=str(folder),
            remedy=f"name one of them as the model, for example {files[0]}",
        )
    return files[0]


def hub_cache(env: Mapping[str, str]) -> Path:
    """The hub's cache folder, by the rules of huggingface_hub."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if env.get(variable):
            return Path(env[variable]).expanduser()
    if env.get("HF_HOME"):
        return Path(env["HF_HOME"]).expanduser() / "hub"
    cache = env.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "huggingface" / "hub"


def _embedded(model: str) -> Path:
    shelf = Path(specbatch.__file__).parent / "embedded"
    name = model.removeprefix(EMBEDDED)
    folder = shelf / name
    if not re.fullmatch(r"[\w-]+", name) or not (folder / "config.json").is_file():
        there = sorted(path.parent.name for path in shelf.glob("*/config.json"))
        names = ", ".join(f"{EMBEDDED}{name}" for name in there) or "none: this package was built without them"
        raise ModelError("specbatch holds no embedded model of that name", where=model, remedy=f"there are: {names}")
    return folder


def _cached_snapshot(model: str, revision: str | None, env: Mapping[str, str]) -> Path | None:
    repository = hub_cache(env) / f"models--{model.replace('/', '--')}"
    wanted = revision or "main"
    reference = repository / "refs" / wanted
    commit = reference.read_text(encoding="utf-8").strip() if reference.is_file() else wanted
    snapshot = repository / "snapshots" / commit
    return _model_in(snapshot)
