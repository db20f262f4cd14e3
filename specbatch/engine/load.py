"""Loading a causal LM from a folder, a GGUF file or the hub, onto the devices of a plan."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM
from transformers.utils import logging as transformers_logging

from specbatch.engine.model import CausalLM
from specbatch.errors import ModelError, OutOfMemoryError


def load_causal_lm(
    path: str,
    *,
    device_map: Mapping[str, str],
    dtype: str = "auto",
    revision: str | None = None,
    trust_remote_code: bool = False,
    name: str | None = None,
) -> CausalLM:
    """Loads the weights and checks that the model runs on the slot cache.

    Args:
        path: a folder with safetensors, a .gguf file, or a hub id. Pickle weights are never read.
        device_map: module -> device, for every module; {"": device} for one device.
        dtype: "bfloat16", "float16", "float32", or "auto" (as stored).
        revision: of a hub id.
        trust_remote_code: run Python code that comes with the model.
        name: as shown to people; the path by default.

    Raises:
        ModelError: missing, not permitted, without safetensors, or not a causal LM that can run here.
        OutOfMemoryError: the weights alone do not fit.
    """
    devices = set(device_map.values())
    arguments: dict[str, Any] = {
        "dtype": dtype if dtype == "auto" else getattr(torch, dtype),
        "revision": revision,
        "trust_remote_code": trust_remote_code,
        "use_safetensors": True,
    }
    source = path
    if path.endswith(".gguf"):
        source, arguments["gguf_file"] = str(Path(path).parent), Path(path).name
        del arguments["use_safetensors"]
    if len(devices) > 1 or devices != {"cpu"}:
        arguments["device_map"] = dict(device_map)
    transformers_logging.disable_progress_bar()
    try:
        model = AutoModelForCausalLM.from_pretrained(source, **arguments)
    except torch.OutOfMemoryError as error:
        raise OutOfMemoryError(
            f"the weights of {name or path} do not fit on {', '.join(sorted(devices))}",
            remedy="spread the model over more GPUs, or choose a smaller one; `specbatch plan` shows what fits",
        ) from error
    except (OSError, ValueError, KeyError, ImportError, SafetensorError) as error:
        raise ModelError(
            f"cannot load: {_first_line(error)}",
            where=name or path,
            remedy="check the name, the revision, network access and HF_TOKEN; weights must be safetensors or GGUF",
        ) from error
    return CausalLM(model, name or path)


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
