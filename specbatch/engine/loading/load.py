"""Loading a causal LM from a folder, a GGUF file or the hub, onto the devices of a plan."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING
from transformers.utils import logging as transformers_logging

from specbatch.engine.fp8.w8a8 import FP8
from specbatch.engine.general.model import CausalLM
from specbatch.engine.general.support import unsupported, why_not
from specbatch.engine.loading import mimo as _mimo  # noqa: F401  # which transformers is to know
from specbatch.engine.loading import quantizer
from specbatch.engine.loading.checkpoint import check_fit
from specbatch.engine.loading.dry_load import dry_load, odd_shapes
from specbatch.engine.quantization.linears import quantize_linears
from specbatch.engine.quantization.weight import Quantization
from specbatch.errors import ModelError
from specbatch.mtp import mtp_layers
from specbatch.stored_weights import has_experts, is_known, left, needed, why_left

_LARGE = 1 << 30  # bytes; what is smaller loads in a second
# In errors of transformers that are a checkpoint's, not the device's: tensors cannot be joined as the model needs them, or a CPU cannot read them.
_OF_THE_MODEL = ("conversion of the weights", "GPU is required", "No GPU", "only supported on GPU", "for mps")
_FP8 = (8, 9)  # compute capability: Ada
_AGAIN = "download the model again"
_SUMMED = (torch.float32, torch.bfloat16, torch.float16)

_OTHERWISE = "set spec.engine.name to vllm, or use the unquantised model"


def load_causal_lm(
    path: str,
    *,
    device_map: Mapping[str, str],
    dtype: str = "auto",
    revision: str | None = None,
    trust_remote_code: bool = False,
    name: str | None = None,
    quantization: Quantization | None = None,
) -> CausalLM:
    """Loads the weights and checks that the model runs on the slot cache.

    Args:
        path: a folder with safetensors, a .gguf file, or a hub id. Pickle weights are never read.
        device_map: module -> device, for every module; {"": device} for one device.
        dtype: "bfloat16", "float16", "float32", or "auto" (as stored).
        revision: of a hub id.
        trust_remote_code: run Python code that comes with the model.
        name: as shown to people; the path by default.
        quantization: of the weights of linears, once they are loaded.

    Raises:
        ModelError: missing, not permitted, without safetensors, or not a causal LM that can run here.
        RuntimeError: of torch, where memory runs out or a GPU fails (specbatch/engine/memory.py).
    """
    devices = set(device_map.values())
    arguments: dict[str, Any] = {
        "dtype": dtype if dtype == "auto" else getattr(torch, dtype),
        "revision": revision,
        "trust_remote_code": trust_remote_code,
        "use_safetensors": True,
    }
    shown = name or path
    source = path
    if path.endswith(".gguf"):
        source, arguments["gguf_file"] = str(Path(path).parent), Path(path).name
        del arguments["use_safetensors"]
    if len(devices) > 1 or devices != {"cpu"}:
        arguments["device_map"] = dict(device_map)
    try:
        with _quiet():
            arguments |= _as_stored(Path(path), shown, trust_remote_code=trust_remote_code)
            if "gguf_file" not in arguments and not trust_remote_code:
                _refuse_unsupported(path, revision, shown)
            _check_before(Path(path), shown, trust_remote_code=trust_remote_code)
            model, info = AutoModelForCausalLM.from_pretrained(
                source, output_loading_info=True, ignore_mismatched_sizes=True, **arguments
            )
    except (OSError, ValueError, TypeError, KeyError, ImportError, SafetensorError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not any(words in str(error) for words in _OF_THE_MODEL):
            raise  # of the device
        raise ModelError(f"cannot load: {_first_line(error)}", where=shown, remedy=_remedy(Path(path))) from error
    if "gguf_file" in arguments:
        info["mismatched_keys"] = info["mismatched_keys"] | odd_shapes(model)
    info["mismatched_keys"] = info["mismatched_keys"] | quantizer.odd_shapes(model)
    with _said_what_is_left(Path(path), shown):
        _check_fit(info, Path(path), shown)
    _check_finite(model, shown)
    if quantization is not None:
        _check_capability(quantization, devices, shown)
        quantize_linears(model, quantization, shown)
    with _said_what_is_left(Path(path), shown):
        return CausalLM(model, shown)


@contextlib.contextmanager
def _said_what_is_left(path: Path, name: str) -> Iterator[None]:
    """Within, what is wrong with a quantised checkpoint that transformers read in its own way is said with why it had to."""
    try:
        yield
    except ModelError as error:
        config = _plain_config(path)
        what = left(config["quantization_config"], experts=has_experts(config)) if _quantised_by(path) else ""
        if not what:
            raise
        found = error.message.partition("; this seems")[0]  # to lack its quantization_config, which it has
        raise ModelError(f"transformers cannot load {what}: {found}", where=name, remedy=_OTHERWISE) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No bars, and no table of what a load found: that is judged here, and said in a sentence."""
    transformers_logging.disable_progress_bar()
    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(before)


def why_unsupported(path: str, revision: str | None = None, name: str | None = None) -> str | None:
    """What keeps a model from running, as far as config and class show it; CausalLM's check finds the rest when the weights are there."""
    try:
        config = AutoConfig.from_pretrained(path, revision=revision)
    except (StrictDataclassError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"cannot load config.json: {_first_line(error)}", where=name or path, remedy=_AGAIN) from error
    return why_not(config.get_text_config(), MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None))


def _refuse_unsupported(path: str, revision: str | None, name: str) -> None:
    if (what := why_unsupported(path, revision, name)) is not None:
        config = AutoConfig.from_pretrained(path, revision=revision)
        architecture = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
        raise unsupported(name, architecture.__name__ if architecture else config.model_type, what)


def _check_before(path: Path, name: str, *, trust_remote_code: bool) -> None:
    """What a load would find wrong, found before gigabytes are read; small models are quicker loaded."""
    sizes = sum(file.stat().st_size for file in path.glob("*.safetensors"))
    if sizes < _LARGE or trust_remote_code or _quantised_by(path):
        return
    info = dry_load(path, AutoConfig.from_pretrained(path))
    if info is not None:
        _check_fit(info, path, name)


def _check_fit(info: Mapping[str, Any], path: Path, name: str) -> None:
    """Of a model of text and more the text part is loaded; layers for drafting are left out."""
    config = _plain_config(path)
    check_fit(info, name, text_only="text_config" in config, mtp_layers=mtp_layers(config))


def _check_finite(model: PreTrainedModel, name: str) -> None:
    """A weight that is NaN or infinite makes nonsense of every row. Costs what one step reads."""
    for key, weight in (*model.named_parameters(), *model.named_buffers()):
        count = _not_finite(weight)
        if count:
            raise ModelError(
                f"{count} of the {weight.numel()} numbers of {key} are not finite in {str(weight.dtype)[6:]}",
                where=name,
                remedy="set dtype to bfloat16 or float32 if the weights were made for it; else train or download them again",
            )


def _not_finite(weight: torch.Tensor) -> int:
    """How many numbers of a weight are not; 0 where their dtype is not looked at."""
    if weight.dtype == FP8:  # which has two NaNs and no infinity
        return int((weight.view(torch.uint8) & 0x7F == 0x7F).sum())
    if weight.dtype not in _SUMMED or math.isfinite(weight.sum(dtype=torch.float32).item()):
        return 0
    return int((~weight.isfinite()).sum())  # 0: finite, but their sum is not


def _check_capability(quantization: Quantization, devices: Collection[str], name: str) -> None:
    old = [one for one in devices if one.startswith("cuda") and torch.cuda.get_device_capability(one) < _FP8]
    if quantization == "fp8" and old:
        raise ModelError(
            f"drafter.quantization fp8 needs a GPU of compute capability 8.9 or newer, and {old[0]} has {'.'.join(map(str, torch.cuda.get_device_capability(old[0])))}",
            where=name,
            remedy="set drafter.quantization to int8",
        )


def _as_stored(path: Path, name: str, *, trust_remote_code: bool) -> dict[str, Any]:
    """The argument by which transformers loads a quantised checkpoint with our linears, where these can have it."""
    method, stored = _quantised_by(path), _plain_config(path).get("quantization_config")
    if stored and not isinstance(stored, dict):
        raise ModelError(
            "quantization_config in config.json is no object",
            where=name,
            remedy="restore it, or download the model again",
        )
    if not method:
        return {}
    config = AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code)
    if quantizer.as_stored(config, path, name):
        return {"config": config}
    if not is_known(method) or (method not in AUTO_QUANTIZATION_CONFIG_MAPPING and method != "bitsandbytes"):
        raise ModelError(
            f"the model is quantised by {method}, which neither the native engine nor transformers reads",
            where=name,
            remedy=_OTHERWISE,
        )
    return {}


def _quantised_by(path: Path) -> str | None:
    stored = _plain_config(path).get("quantization_config")
    method = stored.get("quant_method") if isinstance(stored, dict) else None
    return str(method) if method else None


def _plain_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}


def _remedy(path: Path) -> str:
    method = _quantised_by(path)
    if method is not None:
        config = _plain_config(path)
        why = why_left(config["quantization_config"], experts=has_experts(config))
        since = f" and not read by the native engine itself, since {why}" if why else ""
        return f"the model is quantised ({method}){since}: {needed(method)}; or {_OTHERWISE}"
    return "check the name, the revision, network access and HF_TOKEN; weights must be safetensors or GGUF"


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
