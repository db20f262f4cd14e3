"""A model cut to a layer of each kind, in float32 on the CPU: small enough to be run beside its description, and all its own code."""

from __future__ import annotations

import copy
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from accelerate.hooks import remove_hook_from_module
from torch import nn

from specbatch.engine.fp8.inputs import leave_inputs
from specbatch.engine.graphs.describe.description import DecoderDescription
from specbatch.engine.graphs.describe.modules import decoder_of, modules_of

VOCAB = 64  # tokens that are left
WINDOW = 3  # tokens that a layer with a window sees
INNER = 16  # numbers between the linears of an expert
_PLACES = ("layer_idx", "layer_index", "layer_id")  # differ in every layer
_PLAIN = (bool, int, float, str, type(None))


@dataclass(frozen=True, slots=True)
class CutModel:
    """What Decoder takes of a CausalLM."""

    model: Any
    config: Any
    vocab_size: int
    max_positions: int
    longest: int
    fp8_kv: bool = False


def cut(model: Any, description: DecoderDescription, longest: int) -> tuple[CutModel, DecoderDescription]:
    """A copy of a model, one layer for each kind of its layers, and the description of it.

    Layers are of one kind if they are described alike, have parts of the same classes and shapes, the same plain attributes, and the
    same entries in the config's lists of a value a layer.

    Args:
        model: of transformers.
        description: of it.
        longest: positions of the longest row.
    """
    config, decoder = model.config.get_text_config(), decoder_of(model)
    firsts: dict[Hashable, int] = {}
    for number, layer in enumerate(decoder.layers):
        firsts.setdefault((description.layers[number], _lists(config, number), _signature(layer)), number)
    chosen = list(firsts.values())
    embedding, head = decoder.embed_tokens.weight, model.get_output_embeddings()
    by_token = {id(tensor): tensor for tensor in (embedding, *head.parameters(), *head.buffers())}
    memo: dict[int, Any] = {key: _copy(tensor[:VOCAB]) for key, tensor in by_token.items()}
    for child in model.base_model.children() if decoder is not model.base_model else ():
        if child is not decoder:
            memo[id(child)] = nn.Identity()  # other senses
    memo |= _narrow_experts([decoder.layers[number] for number in chosen])
    for part in [
        decoder.norm,
        decoder.rotary_emb,
        decoder.embed_tokens,
        *(decoder.layers[number] for number in chosen),
    ]:
        for tensor in (*part.parameters(), *part.buffers()):
            memo.setdefault(id(tensor), _copy(tensor))
    memo[id(decoder.layers)] = nn.ModuleList([copy.deepcopy(decoder.layers[number], memo) for number in chosen])
    small = remove_hook_from_module(copy.deepcopy(model, memo), recurse=True)
    leave_inputs(small)
    text = small.config.get_text_config()
    for name in _lists_of(config):
        setattr(text, name, [getattr(config, name)[number] for number in chosen])
    text.num_hidden_layers, text.vocab_size = len(chosen), min(VOCAB, len(embedding))
    layers = tuple(description.layers[number] for number in chosen)
    window = getattr(config, "sliding_window", None)
    if window and window < longest:  # one that the few tokens of the check reach beyond
        text.sliding_window = WINDOW
        layers = tuple(
            replace(layer, attention=replace(layer.attention, window=WINDOW))
            if layer.attention.window == window
            else layer
            for layer in layers
        )
    small.set_attn_implementation("eager")
    if any(layer.routing is not None for layer in layers):
        small.set_experts_implementation("eager")
    return CutModel(small, text, text.vocab_size, 2**31, 2**31), replace(description, layers=layers)


def _copy(tensor: torch.Tensor) -> torch.Tensor:
    here = tensor.detach().to("cpu", copy=True)  # then made wide: the GPU keeps no memory for it
    wide = here.to(torch.float32) if tensor.is_floating_point() else here
    return nn.Parameter(wide, requires_grad=False) if isinstance(tensor, nn.Parameter) or tensor.requires_grad else wide


def _narrow_experts(layers: Sequence[Any]) -> dict[int, Any]:
    """The weights of experts, cut to few numbers between their linears: all experts of a layer in float32 are too many bytes."""
    found: dict[int, Any] = {}
    for number, layer in enumerate(layers):
        moe = modules_of(layer, number).moe
        if moe is None:
            continue
        gate_up, down = moe.experts.gate_up_proj, moe.experts.down_proj
        gate, up = gate_up.chunk(2, dim=1)
        found[id(gate_up)] = nn.Parameter(
            torch.cat([_copy(part[:, :INNER]).data for part in (gate, up)], 1), requires_grad=False
        )
        found[id(down)] = nn.Parameter(_copy(down[..., :INNER]).data.contiguous(), requires_grad=False)
    return found


def _lists_of(config: Any) -> list[str]:
    """The config's lists of a value a layer."""
    count = config.num_hidden_layers
    return [name for name, value in vars(config).items() if isinstance(value, list) and len(value) == count]


def _lists(config: Any, number: int) -> Hashable:
    return tuple((name, str(getattr(config, name)[number])) for name in _lists_of(config))


def _signature(layer: Any) -> Hashable:
    """Classes, shapes and plain attributes of a layer's parts."""
    return tuple(
        (
            name,
            type(module).__name__,
            tuple(tuple(tensor.shape) for tensor in module.parameters(recurse=False)),
            tuple((key, value) for key, value in sorted(vars(module).items()) if _is_plain(key, value)),
        )
        for name, module in layer.named_modules()
    )


def _is_plain(key: str, value: object) -> bool:
    return isinstance(value, _PLAIN) and not key.startswith("_") and key not in _PLACES
