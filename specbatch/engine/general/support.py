"""What the engine cannot run, read from a model's config and class: before its weights are loaded, in words of the trade."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from specbatch.errors import ModelError
from specbatch.unsupported import PLAIN_KINDS, layer_words, of_type

_SHOWN = 4  # layers named before "..."


def unsupported(name: str, architecture: str, what: str) -> ModelError:
    """The one sentence for a model that cannot run: what in it is not supported, and what to do.

    Args:
        name: of the model, as the spec has it.
        architecture: its class.
        what: "linear attention in layers 0, 2, 4".
    """
    return ModelError(
        f"{architecture} is not supported: it has {what}",
        where=name,
        remedy="use a model with plain attention in every layer (as Llama, Qwen3, Mistral, Gemma 3, Phi-3, OLMo or Mixtral have), or set engine.name to vllm, which runs many others",
    )


def why_not(config: Any, architecture: type | None) -> str | None:
    """What keeps a model from running: "linear attention in layers 0, 2, 4"; None if config and class show nothing.

    Args:
        config: of the text model.
        architecture: the model's class; None where it is not known yet.
    """
    return next(_of_config(config), None) or (next(_of_class(config, architecture), None) if architecture else None)


def _of_config(config: Any) -> Iterator[str]:
    if getattr(config, "is_encoder_decoder", False):
        yield "an encoder beside its decoder"
    fields = config.to_dict()
    if (kinds := _foreign_layers(config, fields)) is not None:
        yield kinds
    if what := of_type(fields):
        yield what
    if getattr(config, "index_topk", None):
        yield "sparse attention (index_topk)"


def _of_class(config: Any, architecture: Any) -> Iterator[str]:
    if getattr(architecture, "_is_stateful", False):
        yield "a recurrent state in place of keys and values by position"
    if _alibi(config, architecture):
        yield "alibi (attention scores biased by distance)"
    settable = getattr(architecture, "_can_set_attn_implementation", None)
    if settable is not None and not settable():
        yield "attention that does not go through transformers' attention interface"
    if "position_ids" not in inspect.signature(architecture.forward).parameters:
        yield "a forward without position_ids, so that its rows cannot stand at different positions"


def _foreign_layers(config: Any, fields: Mapping[str, Any]) -> str | None:
    """Layers of other kinds than plain attention, by kind: "linear attention in layers 0, 1, 2, 4, ..."."""
    kinds = getattr(config, "layer_types", None) or getattr(config, "layers_block_type", None) or ()
    foreign: dict[str, list[int]] = {kind: [] for kind in kinds if isinstance(kind, str) and kind not in PLAIN_KINDS}
    for number, kind in enumerate(kinds):
        if kind in foreign:
            foreign[kind].append(number)
    return (
        " and ".join(f"{layer_words(kind, fields)} in {layers(numbers)}" for kind, numbers in foreign.items()) or None
    )


def layers(numbers: Sequence[int]) -> str:
    """Layers by number: "layers 0, 1, 2, 4, ..."."""
    shown = ", ".join(map(str, numbers[:_SHOWN])) + (", ..." if len(numbers) > _SHOWN else "")
    return f"layer{'s' if len(numbers) > 1 else ''} {shown}"


def _alibi(config: Any, architecture: type) -> bool:
    """Whether its module knows alibi, and the config does not turn it off (Falcon's does)."""
    module = sys.modules.get(architecture.__module__)
    return any("alibi" in name for name in vars(module or object())) and bool(getattr(config, "alibi", True))
