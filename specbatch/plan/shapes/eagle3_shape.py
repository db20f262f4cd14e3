"""The shape of an EAGLE-3 head or of a target's own layer for drafting, and whether it fits a target: known before anything is loaded."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from specbatch.eagle3 import Eagle3Config
from specbatch.errors import ModelError, VocabularyMismatchError
from specbatch.plan.shapes.hf_config import HfConfig
from specbatch.plan.shapes.model_shape import LayerShape, ModelShape
from specbatch.plan.shapes.weight_files import weight_files

ARCHITECTURE = "eagle3"


def eagle3_shape(config: Mapping[str, Any], name: str, dtype: str, source: str, folder: Path | None) -> ModelShape:
    """The shape that a head's config.json describes.

    Args:
        config: parsed, for which eagle3.is_eagle3 holds.
        name: as shown to people.
        dtype: "bfloat16", "float16", "float32", or "auto".
        source: where the config was read, for people.
        folder: its weights' headers say whether it has an embedding of its own; counted as if it had one where there are none.

    Raises:
        ModelError: see Eagle3Config.of.
    """
    head = Eagle3Config.of(config, name)
    joined, width = head.joined * head.target_hidden_size, head.hidden_size
    before = joined * width + (joined if head.norm_before_fc else 0)
    number = HfConfig(config, name).dtype_bytes(head.dtype or "auto" if dtype == "auto" else dtype)
    embedding = head.vocab_size * width if _has_embedding(folder, name) else 0
    return _shape(head, name, number, f"{source}, an EAGLE-3 head", before=before, embedding=embedding)


def mtp_shape(target: ModelShape) -> ModelShape:
    """The shape of a target's own layer for drafting. Its language-model head is the target's, and counted all the same: each draft reads it.

    Raises:
        ModelError: it has none, or of a kind that cannot run here.
    """
    if target.mtp is None:
        of_kind = f"those of model type {target.architecture!r} do not run here (MiMo's do)"
        raise ModelError(
            f"method mtp: {of_kind if target.mtp_layers else 'its config.json counts no layers for drafting'}",
            where=f"spec.target.model {target.name}",
            remedy="set drafter.method to model or eagle3 and name a drafter, or set it to ngram",
        )
    head = target.mtp
    before = 2 * head.hidden_size * head.hidden_size + head.hidden_size
    return _shape(head, f"the MTP layer of {target.name}", target.dtype_bytes, target.source, before=before)


def _shape(
    head: Eagle3Config, name: str, dtype_bytes: int, source: str, *, before: int, embedding: int = 0
) -> ModelShape:
    width, keys = head.hidden_size, 2 * head.num_kv_heads * head.head_dim
    queries = head.num_heads * head.head_dim
    layer = (1 if head.mtp else 2) * width * (queries + keys) + queries * width
    layer += 3 * width * head.intermediate_size + 3 * width
    layer += 2 * head.head_dim if head.qk_norm else 0
    layer += queries + keys if head.attention_bias else 0
    return ModelShape(
        name=name,
        architecture=ARCHITECTURE,
        dtype_bytes=dtype_bytes,
        layers=(LayerShape(layer, 0, kv=keys),),
        embedding=embedding,
        head=head.draft_vocab_size * width,
        before=before,
        after=width,
        hidden_size=width,
        num_heads=head.num_heads,
        num_kv_heads=head.num_kv_heads,
        head_dim=head.head_dim,
        intermediate_size=head.intermediate_size,
        vocab_size=head.draft_vocab_size,
        tied=False,
        source=source,
        eagle3=head,
    )


def check_fits(drafter: ModelShape, target: ModelShape) -> None:
    """What is to draft as a head is one, and made for this target, whose hidden states it reads.

    Raises:
        ModelError: the target's width or number of layers is not what the head reads, or the drafter is no head.
        VocabularyMismatchError: it has another number of tokens.
    """
    head = drafter.eagle3
    if head is None:
        raise ModelError(
            "its config.json describes no EAGLE-3 head (LlamaForCausalLMEagle3, or a speculators_config of eagle3)",
            where=f"spec.drafter.model {drafter.name}",
            remedy="leave drafter.method out if it is a model, or name the folder of a head made for this target",
        )
    remedy = "use a head that was made for this target, or another drafter"
    if head.target_hidden_size != target.hidden_size:
        raise ModelError(
            f"the EAGLE-3 head reads hidden states {head.target_hidden_size} wide, and those of {target.name} are {target.hidden_size}",
            where=drafter.name,
            remedy=remedy,
        )
    layers = head.layers_of(target.num_layers)
    if max(layers) >= target.num_layers:
        raise ModelError(
            f"the EAGLE-3 head reads the inputs of layers {', '.join(map(str, layers))}, and {target.name} has {target.num_layers} layers",
            where=drafter.name,
            remedy=remedy,
        )
    if head.vocab_size != target.vocab_size:
        raise VocabularyMismatchError(
            f"the EAGLE-3 head is for {head.vocab_size} tokens, and {target.name} has {target.vocab_size}",
            where=drafter.name,
            remedy=remedy,
        )
    if not drafter.embedding and head.hidden_size != target.hidden_size:
        raise ModelError(
            f"the EAGLE-3 head has no embedding of its own, and the target's is {target.hidden_size} wide where it needs {head.hidden_size}",
            where=drafter.name,
            remedy=remedy,
        )


def _has_embedding(folder: Path | None, name: str) -> bool:
    try:
        files = weight_files(folder, name) if folder is not None else []
        names = [key for file in files for key in _tensor_names(file)]
    except (ModelError, OSError, ValueError, struct.error):
        return True  # what is wrong with them, the check of the files says
    return not names or any("embed_tokens" in key for key in names)


def _tensor_names(file: Path) -> list[str]:
    with file.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        return list(json.loads(stream.read(length)))
