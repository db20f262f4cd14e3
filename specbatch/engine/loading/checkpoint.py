"""Whether a checkpoint's tensors fill a model and nothing is left over; and what the checkpoint seems to be where they don't.

transformers makes up what a checkpoint lacks, at random, and passes over what it has no place for: both give text that is not the
model's. Names and shapes alone are looked at here; no torch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from specbatch.errors import ModelError

_SHOWN = 3

# Constants that older releases stored and models now compute: causal masks and rotary frequencies.
_COMPUTED = re.compile(
    r"(\.attn\.(attention\.)?(bias|masked_bias)|\.causal_mask|\.attention\.(bias|masked_bias)|rotary_emb\.inv_freq|rope\.freqs)$"
)
_LAYER = re.compile(r"(?:^|\.)layers\.(\d+)\.")
# The parts of a model of text and something else that text alone does not run through.
_OTHER_SENSES = re.compile(
    r"(^|\.)(vision|visual|audio|image|speech|multi_modal|mm_|vq|conformer|embed_(vision|audio))"
)


@dataclass(frozen=True, slots=True)
class Kind:
    """What a checkpoint may be other than a causal language model's own."""

    what: str
    remedy: str
    fits: Callable[[Collection[str], Collection[str]], bool]  # (missing, unused) -> whether the names are of this kind


def check_fit(info: Mapping[str, Any], name: str, *, text_only: bool = False, mtp_layers: Collection[int] = ()) -> None:
    """Judges what transformers says of a load (`output_loading_info`), from which it has taken what it ignores on purpose.

    Args:
        info: missing_keys, unexpected_keys, and mismatched_keys as (name, stored shape, the model's shape).
        name: of the model, as shown to people.
        text_only: only the text part of a model of several senses was loaded: the others' tensors are unused by design.
        mtp_layers: numbers of layers for drafting that are unused by design; transformers takes out those of the largest models only.

    Raises:
        ModelError: tensors are missing, unused or of another shape; with what the folder seems to hold, and the remedy.
    """
    missing = _in_order(info["missing_keys"])
    unused = _in_order(key for key in info["unexpected_keys"] if not _is_needless(key, text_only, mtp_layers))
    mismatched = sorted(info["mismatched_keys"])
    if not (missing or unused or mismatched):
        return
    found = []
    if missing:
        found.append(f"{_count(missing)} of the model missing ({_listed(missing)})")
    if unused:
        found.append(f"{_count(unused)} that the model has no place for ({_listed(unused)})")
    if mismatched:
        shapes = [f"{key} is {list(stored)}, the model's is {list(wanted)}" for key, stored, wanted in mismatched]
        found.append(f"{_count(shapes)} of another shape ({_listed(shapes)})")
    kind = kind_of(missing, unused)
    seems = f"; this seems to be {kind.what}" if kind else ""
    raise ModelError(
        f"the weights do not fit config.json: {', '.join(found)}{seems}",
        where=name,
        remedy=kind.remedy if kind else _remedy(missing, unused),
    )


def kind_of(missing: Collection[str], unused: Collection[str]) -> Kind | None:
    """What the names suggest; None: nothing but an incomplete checkpoint, or another config.json."""
    return next((kind for kind in _KINDS if kind.fits(missing, unused)), None)


def _is_needless(key: str, text_only: bool, mtp_layers: Collection[int]) -> bool:
    if _COMPUTED.search(key) or (text_only and _OTHER_SENSES.search(key)):
        return True
    layer = _LAYER.search(key)
    return layer is not None and int(layer[1]) in mtp_layers


def _remedy(missing: Sequence[str], unused: Sequence[str]) -> str:
    if missing and not unused:
        return "download or save the model again, completely; config.json must be that of these weights"
    return "config.json must be that of these weights: compare num_hidden_layers and the sizes, or download both again"


def _some(pattern: str) -> Callable[[Collection[str], Collection[str]], bool]:
    return lambda _, unused: any(re.search(pattern, key) for key in unused)


def _prefixed(prefix: str) -> Callable[[Collection[str], Collection[str]], bool]:
    """Whether tensors stand under a prefix where the model's own names lack."""
    return lambda missing, unused: bool(missing) and any(re.search(prefix, key) for key in unused)


def _headless(missing: Collection[str], unused: Collection[str]) -> bool:
    return bool(missing) and not unused and all(re.search(r"(^|\.)(lm_head|embed_out)\.", key) for key in missing)


_RENAME = "take the prefix off every name and save again: {k.replace('PREFIX', ''): v for k, v in tensors.items()}"

# The first that fits counts.
_KINDS = (
    Kind(
        "a LoRA adapter, or a model saved with its adapter not merged",
        "merge it (peft: model.merge_and_unload()), save the result with save_pretrained, and name that folder",
        _some(r"lora_[AB]|lora_embedding|\.base_layer\.|^base_model\.model\."),
    ),
    Kind(
        "an EAGLE head, which drafts from the target's hidden states and is no language model by itself",
        "use a small model of the target's family as the drafter, or `drafter: {method: ngram}`",
        _some(r"^(midlayer|fc\.weight|d2t$|t2d$|eagle)|\.(midlayer|hidden_norm)\."),
    ),
    Kind(
        "a set of Medusa heads, which draft from the target's hidden states",
        "use a small model of the target's family as the drafter, or `drafter: {method: ngram}`",
        _some(r"medusa_head"),
    ),
    Kind(
        "a model saved from within torch.compile (its names begin with _orig_mod.)",
        "save model._orig_mod instead, or " + _RENAME.replace("PREFIX", "_orig_mod."),
        _prefixed(r"(^|\.)_orig_mod\."),
    ),
    Kind(
        "a model saved from within FSDP (its names hold _fsdp_wrapped_module)",
        "gather the full state dict and save it with save_pretrained, or "
        + _RENAME.replace("PREFIX", "_fsdp_wrapped_module."),
        _prefixed(r"(^|\.)_fsdp_wrapped_module\.|^_flat_param|_checkpoint_wrapped_module"),
    ),
    Kind(
        "a model saved from within DeepSpeed or DistributedDataParallel (its names begin with module.)",
        "save model.module with save_pretrained (DeepSpeed: zero_to_fp32.py), or "
        + _RENAME.replace("PREFIX", "module."),
        _prefixed(r"^(_forward_module\.|module\.)"),
    ),
    Kind(
        "quantised by GPTQ or AWQ, without its quantization_config",
        "restore quantization_config in config.json, or use the unquantised model",
        _some(r"\.(qweight|qzeros|g_idx)$"),
    ),
    Kind(
        "quantised by bitsandbytes, without its quantization_config",
        "restore quantization_config in config.json, or use the unquantised model",
        _some(r"\.(SCB|absmax|quant_map|nested_absmax)$|quant_state"),
    ),
    Kind(
        "quantised to 8 or 4 bits (it holds scales), without a quantization_config that says how",
        "restore quantization_config in config.json, or use the unquantised model",
        _some(r"\.(weight_scale|weight_scale_inv|weight_packed|input_scale|weight_scale_2)$|_(scales|blocks)$"),
    ),
    Kind(
        "a classifier or a reward model, not a language model",
        "name a model with a language-model head (AutoModelForCausalLM)",
        _some(r"^(score|classifier|v_head|value_head|reward_head|regression_head|qa_outputs)\."),
    ),
    Kind(
        "a base model without its language-model head (saved by AutoModel, or an embedding model)",
        "save it with AutoModelForCausalLM, or set tie_word_embeddings to true in config.json if its head is the embedding",
        _headless,
    ),
    Kind(
        "a model whose names have lost or gained a prefix",
        "save it with save_pretrained of AutoModelForCausalLM",
        lambda missing, unused: len(missing) > 1 and _same_but_for_a_prefix(missing, unused),
    ),
)


def _same_but_for_a_prefix(missing: Collection[str], unused: Collection[str]) -> bool:
    ends = {".".join(key.split(".")[-3:]) for key in missing}
    return bool(unused) and ends <= {".".join(key.split(".")[-3:]) for key in unused}


def _in_order(keys: Iterable[str]) -> list[str]:
    """Layer 8 before layer 10."""
    return sorted(keys, key=lambda key: [(int(part), "") if part.isdigit() else (-1, part) for part in key.split(".")])


def _count(keys: Sequence[str]) -> str:
    return f"{len(keys)} tensor{'' if len(keys) == 1 else 's'}"


def _listed(keys: Sequence[str]) -> str:
    more = f", and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return ", ".join(keys[:_SHOWN]) + more
