"""A load without weights: names and shapes of the stored tensors, held against the model by transformers itself."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def dry_load(folder: Path, config: PreTrainedConfig) -> dict[str, Any] | None:
    """What `output_loading_info` of a real load would say, found in a second whatever the weights weigh.

    Every stored tensor stands in as one of its shape on the meta device, so that transformers' own renaming, joining and ignoring
    apply.

    Args:
        folder: with *.safetensors.
        config: of the model.

    Returns:
        missing_keys, unexpected_keys, mismatched_keys; None where it cannot be found out this way: the real load has the last word.
    """
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RuntimeError, AttributeError, SafetensorError):
        stored = _stored(folder)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
        _, info = type(model).from_pretrained(
            None,
            config=model.config,
            state_dict=stored,
            device_map={"": "meta"},
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
        return dict(info)
    return None


def odd_shapes(model: PreTrainedModel) -> set[tuple[str, torch.Size, torch.Size]]:
    """(name, as loaded, as its config has it) of parameters of another shape: loading a GGUF file does not look at that."""
    with torch.device("meta"):
        twin = type(model)(model.config)
    wanted = {name: parameter.shape for name, parameter in twin.named_parameters()}
    return {
        (name, parameter.shape, wanted[name])
        for name, parameter in model.named_parameters()
        if name in wanted and parameter.shape != wanted[name]
    }


def _stored(folder: Path) -> dict[str, torch.Tensor]:
    stored = {}
    for file in _files(folder):
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118  # not a dict
                part = opened.get_slice(name)
                stored[name] = torch.empty(part.get_shape(), dtype=_DTYPES[part.get_dtype()], device="meta")
    return stored


def _files(folder: Path) -> list[Path]:
    """The files that transformers reads: the whole model in one, else what the index lists."""
    whole = folder / "model.safetensors"
    if whole.is_file():
        return [whole]
    index = json.loads((folder / "model.safetensors.index.json").read_text(encoding="utf-8"))
    return [folder / name for name in sorted(set(index["weight_map"].values()))]
