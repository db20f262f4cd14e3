"""A model's shape from wherever its description is: config.json, a GGUF header, or the built-in table."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from specbatch.eagle3 import is_eagle3
from specbatch.errors import ModelError
from specbatch.mtp import mtp_head, mtp_layers
from specbatch.plan.shapes.eagle3_shape import eagle3_shape
from specbatch.plan.shapes.families import llama_layer
from specbatch.plan.shapes.gguf_header import config_from_gguf
from specbatch.plan.shapes.hf_config import HfConfig, max_positions
from specbatch.plan.shapes.known_models import known_config, nearest_models
from specbatch.plan.shapes.model_dir import hub_cache, resolve_model_dir
from specbatch.plan.shapes.model_shape import Counter, ModelShape
from specbatch.plan.shapes.quantized_shape import quantized, stored
from specbatch.plan.shapes.weight_files import check_weight_files
from specbatch.stored_weights import left
from specbatch.unsupported import unsupported


def read_shape(
    model: str,
    revision: str | None = None,
    dtype: str = "auto",
    env: Mapping[str, str] | None = None,
    count: Counter | None = None,
    *,
    drafting: bool = False,
    quantization: str | None = None,
) -> ModelShape:
    """The shape of a model as a spec names it; `ModelShape.source` says where it was read.

    Args:
        model: `embedded:NAME`, a folder, a .gguf file, or a hub id.
        revision: of a hub id.
        dtype: "bfloat16", "float16", "float32", or "auto".
        env: as for `resolve_model_dir`.
        count: as for `shape_from_config`.
        drafting: it may be an EAGLE-3 head.
        quantization: of its weights at load, see `quantized`.

    Raises:
        ModelError: there is no description on this machine, or it is one that cannot be planned.
    """
    found = resolve_model_dir(model, revision, env)
    if found is not None:
        if found.parent.name != "snapshots" and any(found.glob("*.safetensors")):  # a hub's cache may be filled later
            check_weight_files(found, model)
        return shape_in(found, model, dtype, count, drafting=drafting, quantization=quantization)
    built_in = known_config(model)
    if built_in is not None:
        known, config = built_in
        like = "" if known.lower() == model.lower() else f", as {known}"
        source = f"built-in table{like}: no config.json on this machine"
        return shape_from_config(config, model, dtype, source=source, count=count, quantization=quantization)
    cache = hub_cache(env if env is not None else os.environ)
    raise ModelError(
        f"not on this machine: no folder {model!r}, no snapshot of {revision or 'main'} in {cache}, not a built-in shape",
        where=model,
        remedy=f"download its config.json (hf download {model} config.json) or name a local folder"
        + (f"; built-in shapes of nearly that name: {', '.join(near)}" if (near := nearest_models(model)) else ""),
    )


def shape_in(
    path: Path,
    name: str,
    dtype: str = "auto",
    count: Counter | None = None,
    *,
    drafting: bool = False,
    quantization: str | None = None,
) -> ModelShape:
    """The shape of the model in a folder with a config.json, or in a .gguf file; the arguments are as in `read_shape`.

    Raises:
        ModelError: the description cannot be read or planned.
    """
    if path.is_file():
        source = f"header of {path}"
        config = config_from_gguf(path)
        return shape_from_config(config, name, dtype, source=source, count=count, path=path, quantization=quantization)
    file = path / "config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(
            f"{file} cannot be read ({error})", where=name, remedy="download the model again, or restore the file"
        ) from error
    if not isinstance(config, dict):
        raise ModelError(f"{file} is not a JSON object", where=name, remedy="download the model again")
    if drafting and is_eagle3(config):
        return quantized(eagle3_shape(config, name, dtype, str(file), path), quantization)
    return shape_from_config(config, name, dtype, source=str(file), count=count, quantization=quantization)


def shape_from_config(
    config: Mapping[str, Any],
    name: str,
    dtype: str = "auto",
    *,
    source: str = "",
    count: Counter | None = None,
    path: Path | None = None,
    quantization: str | None = None,
) -> ModelShape:
    """The shape that a config.json describes: by formula for known families, else counted, else estimated.

    Args:
        config: the parsed config.json.
        name: how to call the model in messages and trees.
        dtype: "bfloat16", "float16", "float32", or "auto": what the config says, else bfloat16.
        source: where the config was read, for people.
        count: counts models of other families; None where nothing on this machine can.
        path: the .gguf file that the config was read of, for `count`.
        quantization: as in `read_shape`.

    Raises:
        ModelError: a field is missing or not a number, or the architecture is of a kind that cannot be planned.
    """
    hf = HfConfig(config, name)
    hf.refuse_unusable()
    dtype_bytes = hf.dtype_bytes(dtype)
    counted = count(config, path) if count is not None and not hf.fits_formula else None
    if counted is not None:
        source = f"{source}, counted in the model itself" if source else "counted in the model itself"
        named = replace(counted, name=name, architecture=hf.architecture, dtype_bytes=dtype_bytes, source=source)
        return _in_fewer_bits(named, hf, quantization)
    hidden, heads = hf.number("hidden_size"), hf.number("num_attention_heads")
    experts, experts_per_token, inner = hf.experts()
    vocab = hf.number("vocab_size")
    shape = ModelShape(
        name=name,
        architecture=hf.architecture or "unknown",
        dtype_bytes=dtype_bytes,
        layers=(),
        embedding=vocab * hidden,
        head=vocab * hidden,
        before=0,
        after=hidden,
        hidden_size=hidden,
        num_heads=heads,
        num_kv_heads=hf.number("num_key_value_heads", default=heads),
        head_dim=hf.number("head_dim", default=hf.family.head_dim_by_default or max(1, hidden // heads)),
        intermediate_size=inner,
        vocab_size=vocab,
        tied=bool(hf.fields.get("tie_word_embeddings", hf.family.tied_by_default)),
        num_experts=experts,
        experts_per_token=experts_per_token,
        max_positions=max_positions(hf.fields),
        sliding_window=hf.slides,
        known_layout=hf.fits_formula,
        source=source,
    )
    layer = llama_layer(shape, hf.family, hf.biases)
    shape = replace(shape, layers=tuple(replace(layer, window=window) for window in hf.windows))
    return _in_fewer_bits(shape, hf, quantization)


def _in_fewer_bits(shape: ModelShape, hf: HfConfig, quantization: str | None) -> ModelShape:
    """As it is stored, or as drafter.quantization makes it."""
    shape = replace(
        shape, mtp_layers=len(mtp_layers(hf.raw)), mtp=mtp_head(hf.raw, hf.name), foreign=unsupported(hf.fields)
    )
    if not hf.quantised_by or quantization is not None:
        return quantized(shape, quantization, hf.quantised_by)
    config = hf.raw["quantization_config"]
    kept, experts = stored(shape, config), bool(shape.num_experts)
    shape = replace(kept or shape, quantised_by=hf.quantised_by, left=left(config, experts=experts))
    names = {"fp8": "FP8", "int8": "8 bits", "int4": "4 bits"}
    most = f"counted at {shape.dtype_bytes} bytes a number, which is the most it takes"
    most += f"; left to transformers: {shape.left}" if shape.left else ""
    how = most if kept is None else f"linears in {names[kept.quantization]}"
    return replace(shape, source=f"{shape.source}; quantised ({hf.quantised_by}), {how}")
