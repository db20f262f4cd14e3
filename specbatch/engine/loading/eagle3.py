"""Loading a head beside its target: EAGLE-3's from either public layout, or the target's own layer for drafting."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from specbatch.eagle3 import Eagle3Config
from specbatch.engine.general.eagle3 import Eagle3Drafter
from specbatch.engine.general.eagle3_head import Eagle3Head, rotary_config
from specbatch.engine.general.model import CausalLM
from specbatch.engine.general.mtp_head import MtpHead
from specbatch.engine.quantization.weight import dense
from specbatch.errors import ModelError
from specbatch.mtp import mtp_head

_LAYER = ("midlayer.", "layers.0.")  # SafeAILab's name of the one layer, and speculators'
_UNUSED = ("verifier_norm.weight", "verifier_lm_head.weight")  # of training: the target has its own
_MTP = (
    "model.mtp_layers.0."  # MiMo's name of its first layer for drafting, and what is beside a decoder layer's own in it
)
_MTP_NAMES = {
    "input_proj.weight": "fc.weight",
    "token_layernorm.weight": "token_norm.weight",
    "hidden_layernorm.weight": "layer.hidden_norm.weight",
    "final_layernorm.weight": "norm.weight",
}
_SHOWN = 3
_KEPT = (torch.float32, torch.bfloat16, torch.float16)
_AGAIN = "download the head again, or use another drafter"
_REMEDY = "download the head again; its config.json must be that of these weights"


def load_eagle3(
    folder: Path, files: Sequence[Path], target: CausalLM, *, device: str, dtype: str = "auto", name: str
) -> Eagle3Drafter:
    """Loads a head for a target.

    Args:
        folder: with its config.json.
        files: its weights, safetensors.
        target: that it was made for; what the head does not bring (embedding, language-model head) is the target's.
        device: of the head.
        dtype: "bfloat16", "float16", "float32", or "auto": the target's, whose states it reads.
        name: as shown to people.

    Raises:
        ModelError: the config is wrong; tensors are missing, unused, of another shape or dtype or not finite; or d2t names no tokens.
        RuntimeError: of torch, where memory runs out or a GPU fails (specbatch/engine/memory.py).
    """
    config = Eagle3Config.of(json.loads((folder / "config.json").read_text(encoding="utf-8")), name)
    stored = {_renamed(key): tensor for file in files for key, tensor in load_file(file).items()}
    for key in _UNUSED:
        stored.pop(key, None)
    offsets, drafted = stored.pop("d2t", None), stored.pop("t2d", None)
    model = target.model
    _borrow(stored, "embed_tokens.weight", model.get_input_embeddings().weight, config.vocab_size)
    _borrow(stored, "lm_head.weight", dense(model.get_output_embeddings().weight, model.dtype), config.draft_vocab_size)
    head = _with_weights(_built(Eagle3Head, config, name), stored, target, device, dtype, name)
    tokens = _target_tokens(offsets, drafted, config, f"{name} ({', '.join(file.name for file in files)})")
    head.draft_to_target = None if tokens is None else tokens.to(device)
    return Eagle3Drafter(head, config.layers_of(target.num_layers))


def load_mtp(
    folder: Path, files: Sequence[Path], target: CausalLM, *, device: str, dtype: str = "auto", name: str
) -> Eagle3Drafter:
    """Loads the target's own layer for drafting, from the target's files; the arguments and errors are those of load_eagle3."""
    config = mtp_head(json.loads((folder / "config.json").read_text(encoding="utf-8")), name)
    assert config is not None, "see make_plan"
    stored: dict[str, Tensor] = {}
    for file in files:
        with safe_open(file, "pt") as tensors:
            stored |= {
                _MTP_NAMES.get(key.removeprefix(_MTP), "layer." + key.removeprefix(_MTP)): tensors.get_tensor(key)
                for key in tensors.keys()  # noqa: SIM118  # it is no mapping
                if key.startswith(_MTP)
            }
    model = target.model
    stored["input_norm.weight"] = model.base_model.norm.weight
    stored["embed_tokens.weight"] = model.get_input_embeddings().weight
    stored["lm_head.weight"] = dense(model.get_output_embeddings().weight, model.dtype)
    head = _with_weights(_built(MtpHead, config, name), stored, target, device, dtype, name)
    return Eagle3Drafter(head, config.layers_of(target.num_layers))


def _built(kind: type[Eagle3Head], config: Eagle3Config, name: str) -> Eagle3Head:
    """Without weights, but for the rotary embedding, which computes its own."""
    try:
        with torch.device("meta"):
            head = kind(config)
        head.rotary_emb = LlamaRotaryEmbedding(rotary_config(config))
    except Exception as error:  # transformers raises a dozen kinds here
        reason = (str(error).strip() or "no reason given").splitlines()[0]
        raise ModelError(
            f"no head can be built of its config.json: {reason} ({type(error).__name__})", where=name, remedy=_AGAIN
        ) from error
    if not head.rotary_emb.inv_freq.isfinite().all():
        what = f"the rotary embedding of its config.json ({dict(config.rope)}) has numbers that are not finite"
        raise ModelError(what, where=name, remedy=_AGAIN)
    return head


def _with_weights(
    head: Eagle3Head, stored: dict[str, Tensor], target: CausalLM, device: str, dtype: str, name: str
) -> Eagle3Head:
    _check_fit(head, stored, name)
    _check_dtypes(stored, name)
    _check_finite(stored, name)
    kind = target.model.dtype if dtype == "auto" else getattr(torch, dtype)
    placed = {key: tensor.detach().to(device, kind) for key, tensor in stored.items()}
    head.load_state_dict(placed, assign=True, strict=False)
    head.rotary_emb.to(device)
    head.requires_grad_(requires_grad=False)
    return head


def _renamed(key: str) -> str:
    for prefix in _LAYER:
        if key.startswith(prefix):
            return "layer." + key.removeprefix(prefix)
    return key


def _borrow(stored: dict[str, Tensor], key: str, weight: Tensor, rows: int) -> None:
    """A matrix that the head does not bring is the target's, where that has as many rows."""
    if key not in stored and len(weight) == rows:
        stored[key] = weight


def _check_fit(head: Eagle3Head, stored: dict[str, Tensor], name: str) -> None:
    wanted = {key: list(weight.shape) for key, weight in head.named_parameters()}
    missing, unused = sorted(wanted.keys() - stored.keys()), sorted(stored.keys() - wanted.keys())
    odd = [
        f"{key} is {list(stored[key].shape)}, the config's is {shape}"
        for key, shape in wanted.items()
        if key in stored and list(stored[key].shape) != shape
    ]
    found = []
    for words, keys in (("missing", missing), ("that the head has no place for", unused), ("of another shape", odd)):
        if keys:
            more = ", ..." if len(keys) > _SHOWN else ""
            found.append(f"{len(keys)} tensors {words} ({', '.join(keys[:_SHOWN])}{more})")
    if found:
        raise ModelError(f"the weights do not fit config.json: {'; '.join(found)}", where=name, remedy=_REMEDY)


def _check_dtypes(stored: dict[str, Tensor], name: str) -> None:
    odd = {key: str(weight.dtype).removeprefix("torch.") for key, weight in stored.items() if weight.dtype not in _KEPT}
    if odd:
        key, dtype = next(iter(odd.items()))
        raise ModelError(
            f"{len(odd)} of its weights are in another dtype than bfloat16, float16 and float32: {key} in {dtype}",
            where=name,
            remedy="use a head whose weights are in one of these, or another drafter",
        )


def _check_finite(stored: dict[str, Tensor], name: str) -> None:
    for key, weight in stored.items():
        if not weight.isfinite().all():
            raise ModelError(
                f"some numbers of {key} are not finite", where=name, remedy="train or download the head again"
            )


def _target_tokens(offsets: Tensor | None, drafted: Tensor | None, config: Eagle3Config, where: str) -> Tensor | None:
    """The target's token of each of the head's: d2t holds how much further it stands, and t2d marks them, too.  # int64 [draft_vocab]"""
    count, vocab = config.draft_vocab_size, config.vocab_size
    if offsets is None:
        if count == vocab:
            return None
        what = f"it drafts {count} of {vocab} tokens, and d2t, which says what they are, is missing"
        raise ModelError(what, where=where, remedy=_REMEDY)
    if offsets.shape != (count,):
        what = f"d2t is {list(offsets.shape)}, and the head drafts {count} tokens"
        raise ModelError(what, where=where, remedy=_REMEDY)
    tokens = offsets.long() + torch.arange(count)
    named, times = tokens.unique(return_counts=True)
    outside = named[(named < 0) | (named >= vocab)].tolist()
    # Over the whole vocabulary t2d has nothing to say, and training may leave it empty.
    marked = named if drafted is None or count == vocab else drafted.flatten().nonzero().flatten()
    odd = set(named.tolist()) ^ set(marked.tolist())
    wrong = {
        f"d2t names token {next(iter(outside), None)}, and the target has {vocab}": outside,
        f"d2t names token {named[times.argmax()]} more than once": len(named) < count,
        f"d2t and t2d name different tokens: {len(odd)} are in one of them alone, such as {min(odd, default=None)}": odd,
    }
    if what := next((what for what, holds in wrong.items() if holds), ""):
        raise ModelError(what, where=where, remedy="download the head again; d2t and t2d must be of the same training")
    return tokens
