"""One rotary embedding for a whole run, where a model's own depends on the length of the sequence (longrope, dynamic NTK).

transformers looks at the longest position of a forward, so that a row would get other angles beside a longer row, in another prefill chunk, or with
other draft tokens, and keys cached under one rule would meet queries under another. Here every forward is shown one position more, the last that a
row of the run may have, and its angles are dropped again: the rule is that of the run's longest row, as in vLLM, whatever a forward holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

_BY_LENGTH = ("longrope", "dynamic")


def fix_length(model: nn.Module, longest: int) -> None:
    """Makes every rotary embedding that depends on the length that of `longest` tokens, until the next call."""
    for module in _depending(model):
        if not hasattr(module, "run_length"):
            module.register_forward_pre_hook(_show_longest, with_kwargs=True)
            module.register_forward_hook(_drop_longest)
        module.run_length = longest
        _forget(module)


def rule(model: nn.Module) -> str | None:
    """What fix_length has decided, in words; None for a model that does not depend on the length."""
    for module in _depending(model):
        for rope in _parameters(module):
            longest: int = getattr(module, "run_length", 0)
            if rope["rope_type"] == "longrope":
                original = rope["original_max_position_embeddings"]
                which, relation = ("long", "more than") if longest > original else ("short", "at most")
                return f"longrope's {which} factors for every row: rows may have {longest} tokens, {relation} the original {original}"
            original = module.config.max_position_embeddings
            if longest > original:
                return f"dynamic NTK as for {longest} tokens for every row, the most that a row may have"
            return f"dynamic NTK unstretched: rows may have {longest} tokens, at most the original {original}"
    return None


def stretch(model: nn.Module) -> float:
    """By how much dynamic NTK reaches beyond max_position_embeddings (as vLLM counts it, and plan.positions); 1 for other models."""
    factors = [
        float(rope.get("factor") or 1.0)
        for module in _depending(model)
        for rope in _parameters(module)
        if rope["rope_type"] == "dynamic"
    ]
    return max([1.0, *factors])


def _depending(model: nn.Module) -> Iterator[Any]:
    return (module for module in model.modules() if hasattr(module, "rope_type") and any(_parameters(module)))


def _parameters(module: Any) -> Iterator[Mapping[str, Any]]:
    """The rope parameters of each kind of layer that depends on the length."""
    rope = getattr(getattr(module, "config", None), "rope_parameters", None) or {}
    kinds = [rope] if "rope_type" in rope else [kind for kind in rope.values() if isinstance(kind, Mapping)]
    return (kind for kind in kinds if any(name in str(kind.get("rope_type")) for name in _BY_LENGTH))


def _show_longest(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Adds the run's last position to position_ids, the second argument."""
    positions: Tensor = kwargs["position_ids"] if "position_ids" in kwargs else args[1]
    last = positions.new_full((*positions.shape[:-1], 1), module.run_length - 1)
    extended = torch.cat([positions, last], dim=-1)
    if "position_ids" in kwargs:
        return args, kwargs | {"position_ids": extended}
    return (args[0], extended, *args[2:]), kwargs


def _drop_longest(_module: nn.Module, _args: Any, angles: Any) -> Any:
    """Cosines and sines [n, tokens + 1, dim] without the position that was added."""
    if isinstance(angles, Tensor):
        return angles[:, :-1]
    return tuple(one[:, :-1] for one in angles)


def _forget(module: Any) -> None:
    """Dynamic NTK keeps the frequencies of the longest sequence that it has seen, which may have been another run's."""
    original = getattr(module, "original_max_seq_len", None)
    for name in [name for name in vars(module) if name.endswith("max_seq_len_cached")]:
        setattr(module, name, original)
    for name in [name for name, _ in module.named_buffers(recurse=False) if name.endswith("original_inv_freq")]:
        setattr(module, name.replace("original_inv_freq", "inv_freq"), getattr(module, name).clone())
