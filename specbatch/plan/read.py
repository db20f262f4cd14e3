"""A model's shape from wherever its description is: config.json, a GGUF header, or the built-in table."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from specbatch.errors import ModelError
from specbatch.plan.config import shape_from_config
from specbatch.plan.gguf_header import config_from_gguf
from specbatch.plan.known_models import known_config
from specbatch.plan.parts import Counter
from specbatch.plan.shape import ModelShape
from specbatch.plan.source import hub_cache, resolve_model_dir
from specbatch.plan.weight_files import check_weight_files


def read_shape(
    model: str,
    revision: str | None = None,
    dtype: str = "auto",
    env: Mapping[str, str] | None = None,
    count: Counter | None = None,
) -> ModelShape:
    """The shape of a model as a spec names it; `ModelShape.source` says where it was read.

    Args:
        model: `embedded:NAME`, a folder, a .gguf file, or a hub id.
        revision: of a hub id.
        dtype: "bfloat16", "float16", "float32", or "auto".
        env: as for `resolve_model_dir`.
        count: as for `shape_from_config`.

    Raises:
        ModelError: there is no description on this machine, or it is one that cannot be planned.
    """
    found = resolve_model_dir(model, revision, env)
    if found is not None:
        if found.parent.name != "snapshots" and any(found.glob("*.safetensors")):  # a hub's cache may be filled later
            check_weight_files(found, model)
        return shape_in(found, model, dtype, count)
    built_in = known_config(model)
    if built_in is not None:
        return shape_from_config(built_in, model, dtype, source="built-in table: no config.json on this machine")
    cache = hub_cache(env if env is not None else os.environ)
    raise ModelError(
        f"not on this machine: no folder {model!r}, no snapshot of {revision or 'main'} in {cache}, not a built-in shape",
        where=model,
        remedy=f"download its config.json (hf download {model} config.json) or name a local folder",
    )


def shape_in(path: Path, name: str, dtype: str = "auto", count: Counter | None = None) -> ModelShape:
    """The shape of the model in a folder with a config.json, or in a .gguf file.

    Raises:
        ModelError: the description cannot be read or planned.
    """
    if path.is_file():
        source = f"header of {path}"
        return shape_from_config(config_from_gguf(path), name, dtype, source=source, count=count, path=path)
    file = path / "config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(
            f"{file} cannot be read ({error})", where=name, remedy="download the model again, or restore the file"
        ) from error
    if not isinstance(config, dict):
        raise ModelError(f"{file} is not a JSON object", where=name, remedy="download the model again")
    return shape_from_config(config, name, dtype, source=str(file), count=count)
