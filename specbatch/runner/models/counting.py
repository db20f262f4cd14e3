"""A model's shape, counted in the model itself: built by transformers on the meta device, without weights and in a second."""

from __future__ import annotations

import contextlib
import importlib.util
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from specbatch.plan.shapes.hf_config import HfConfig
from specbatch.plan.shapes.model_shape import Counter, LayerShape, ModelShape, ModuleNames

if TYPE_CHECKING:
    from torch import nn

_TRACED_TOKENS = 2
_LATE = re.compile(r"norm|ln_f|ln_out|project_out")  # in a module's name: follows the layers, wherever it is registered
_EXPERTS = re.compile(r"(^|\.)experts(\.|$)")


def counter() -> Counter | None:
    """What counts models on this machine; None where torch or transformers are not installed."""
    with contextlib.suppress(ImportError):  # raised where what looks for modules refuses one
        if importlib.util.find_spec("torch") and importlib.util.find_spec("transformers"):
            return count_shape
    return None


def count_shape(config: Mapping[str, Any], path: Path | None = None) -> ModelShape | None:
    """Builds the model that a config describes on the meta device, and counts. Code of the model's own is never run.

    Args:
        config: the parsed config.json.
        path: the .gguf file that it was read of; transformers then reads its own config of it.

    Returns:
        Its shape in float32, without name, model type and source; None where transformers does not know the model, or cannot
        build it of this config.
    """
    import torch  # noqa: PLC0415  # takes seconds, and only models of unknown families need it
    from transformers import CONFIG_MAPPING, AutoConfig, AutoModelForCausalLM  # noqa: PLC0415
    from transformers.utils import logging  # noqa: PLC0415

    if path is None and str(config.get("model_type")) not in CONFIG_MAPPING:
        return None
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        if path is None:
            plain = {key: value for key, value in config.items() if key not in {"auto_map", "quantization_config"}}
            settings = CONFIG_MAPPING[config["model_type"]].from_dict(plain)
        else:
            settings = AutoConfig.from_pretrained(path.parent, gguf_file=path.name)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(settings, attn_implementation="eager")
        return _shape_of(model.eval())
    except Exception:  # noqa: BLE001  # a config can be wrong in as many ways as there are models: the load names it
        return None
    finally:
        logging.set_verbosity(verbosity)


def _shape_of(model: Any) -> ModelShape | None:
    hf = HfConfig(model.config.get_text_config().to_dict(), "")
    text = hf.fields
    found = _find_layers(model, int(text["num_hidden_layers"]))
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    if found is None or embedding is None or head is None:
        return None
    prefix, layers = found
    names = {id(module): name for name, module in model.named_modules()}
    head_name = names[id(head)]
    tied = head.weight is embedding.weight
    before, after = _around(model, prefix, head_name)
    inside = {id(parameter) for part in (layers, head, embedding) for parameter in part.parameters()}
    late = _numbers((p for name in after for p in model.get_submodule(name).parameters()), without=inside)
    early = _numbers(model.parameters(), without=inside) - late
    if tied:
        early += _numbers(head.parameters(), without={id(embedding.weight)})  # a bias
    kv, traced = _keys_and_values(model, text, len(layers))
    experts, per_token = _experts(layers, text)
    heads = _number(text, "num_attention_heads") or 1
    embedded = _numbers(embedding.parameters())
    return ModelShape(
        name="",
        architecture="",
        dtype_bytes=4,
        layers=tuple(
            replace(_layer(layer, kv[index]), window=window)
            for index, (layer, window) in enumerate(zip(layers, hf.windows, strict=True))
        ),
        embedding=embedded,
        head=embedded if tied else _numbers(head.parameters()),
        before=early,
        after=late,
        hidden_size=int(text["hidden_size"]),
        num_heads=heads,
        num_kv_heads=heads,
        head_dim=_number(text, "head_dim") or int(text["hidden_size"]) // heads,
        intermediate_size=_number(text, "moe_intermediate_size") or _number(text, "intermediate_size") or 1,
        vocab_size=int(head.weight.shape[0]),
        tied=tied,
        num_experts=experts,
        experts_per_token=per_token,
        max_positions=_number(text, "max_position_embeddings"),
        sliding_window=_number(text, "sliding_window") is not None,
        modules=ModuleNames(tuple(before), prefix, tuple(after), head_name),
        counted=True,
        kv_traced=traced,
    )


def _find_layers(model: Any, count: int) -> tuple[str, nn.ModuleList] | None:
    """The list of decoder layers: of the lists of that length, the one that weighs most."""
    from torch import nn  # noqa: PLC0415

    lists = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == count and ".layers." not in name
    ]
    return max(lists, key=lambda one: _numbers(one[1].parameters()), default=None)


def _around(model: Any, prefix: str, head: str) -> tuple[list[str], list[str]]:
    """The modules (and lone parameters) that cover everything but layers and head: those before the layers, those after."""
    before: list[str] = []
    after: list[str] = []
    passed = False

    def walk(module: Any, name: str) -> None:
        nonlocal passed
        lone = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
        before.extend(f"{name}.{key}".lstrip(".") for key, _ in lone)
        for key, child in module.named_children():
            path = f"{name}.{key}".lstrip(".")
            if path == prefix:
                passed = True
            elif path != head and (f"{prefix}.".startswith(f"{path}.") or f"{head}.".startswith(f"{path}.")):
                walk(child, path)
            elif path != head and next(iter([*child.parameters(), *child.buffers()]), None) is not None:
                weighs = next(child.parameters(), None) is not None
                late = "embed" not in key and (
                    _LATE.search(key) is not None or (passed and weighs and "emb" not in key)
                )
                (after if late else before).append(path)

    walk(model, "")
    return before, after


def _numbers(parameters: Any, *, without: set[int] = frozenset()) -> int:  # type: ignore[assignment]  # never changed
    unique = {id(parameter): parameter.numel() for parameter in parameters}
    return sum(count for key, count in unique.items() if key not in without)


def _layer(layer: nn.Module, kv: int) -> LayerShape:
    experts = _numbers(parameter for name, parameter in layer.named_parameters() if _EXPERTS.search(name))
    return LayerShape(_numbers(layer.parameters()) - experts, experts, kv)


def _experts(layers: nn.ModuleList, text: Mapping[str, Any]) -> tuple[int, int]:
    """How many experts a layer has, at the most, and how many of them a token runs through (all, where it is not said)."""
    from torch import nn  # noqa: PLC0415

    count = 0
    for layer in layers:
        for name, module in layer.named_modules():
            if _EXPERTS.search(name) and name.endswith("experts"):
                first = next(module.parameters(recurse=False), None)
                count = max(
                    count, len(module) if isinstance(module, nn.ModuleList) else 0 if first is None else len(first)
                )
    return count, min(count, _number(text, "num_experts_per_tok") or count)


def _keys_and_values(model: Any, text: Mapping[str, Any], layers: int) -> tuple[list[int], bool]:
    """Numbers of keys and values that each layer gives to the cache for one token: traced, else by the config."""
    import torch  # noqa: PLC0415
    from transformers import DynamicCache  # noqa: PLC0415

    cache = DynamicCache()
    with contextlib.suppress(Exception), torch.device("meta"), torch.no_grad():
        _skip_experts(model)
        ids = torch.zeros(1, _TRACED_TOKENS, dtype=torch.int64)
        model(input_ids=ids, past_key_values=cache, use_cache=True)
        widths = [_width(layer) for layer in cache.layers]
        if any(widths):
            return (widths + [0] * layers)[:layers], True
    queries = _number(text, "num_attention_heads") or 1
    heads = _number(text, "num_key_value_heads") or queries
    return [2 * heads * (_number(text, "head_dim") or int(text["hidden_size"]) // queries)] * layers, False


def _width(layer: Any) -> int:
    keys, values = getattr(layer, "keys", None), getattr(layer, "values", None)
    if keys is None or values is None:
        return 0
    return sum(int(states.numel() // (states.shape[0] * states.shape[2])) for states in (keys, values))


def _skip_experts(model: Any) -> None:
    """Experts pass their tokens on as they are: without weights it is not known which of them a token goes to."""
    for name, module in model.named_modules():
        if name.endswith(".experts") and callable(getattr(module, "forward", None)):
            module.forward = lambda hidden, *_args, **_kwargs: hidden


def _number(text: Mapping[str, Any], key: str) -> int | None:
    """A positive whole number of a config, the largest where each layer has its own; None where it has none."""
    value = text.get(key)
    numbers = value if isinstance(value, (list, tuple)) else [value]
    return max((one for one in numbers if isinstance(one, int) and not isinstance(one, bool) and one > 0), default=None)
