"""Checkpoints of packed integers, written as AutoAWQ (WQLinear_GEMM.from_linear), AutoGPTQ (QuantLinear.pack) and compressed-tensors
(pack_to_int32) write them, a word at a time; beside each the model with the numbers that it stands for."""

import copy
import json

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

AWQ = {"quant_method": "awq", "version": "gemm", "bits": 4, "group_size": 32, "zero_point": True}
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 32, "sym": False, "desc_act": False, "checkpoint_format": "gptq_v2"}  # fmt: skip
KINDS = ("awq", "gptq", "gptq sym", "gptq_v2", "compressed", "compressed asym", "compressed channel", "8 bits")
ORDER = (0, 2, 4, 6, 1, 3, 5, 7)


def config(kind, group=32):
    """quantization_config of a kind."""
    if kind == "awq":
        return AWQ | {"group_size": group}
    if kind.startswith("gptq"):
        form = "gptq_v2" if kind == "gptq_v2" else "gptq"
        return GPTQ | {"group_size": group, "sym": kind == "gptq sym", "checkpoint_format": form}
    channel = kind in {"compressed channel", "8 bits"}
    weights = {
        "num_bits": 8 if kind == "8 bits" else 4, "type": "int", "symmetric": kind != "compressed asym", "dynamic": False,
        "strategy": "channel" if channel else "group", "group_size": None if channel else group,
    }  # fmt: skip
    groups = {"group_0": {"targets": ["Linear"], "weights": weights, "input_activations": None}}
    return {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "config_groups": groups,
        "ignore": ["lm_head"],
    }


def rounded(weight, group, bits, *, symmetric):
    """Numbers from 0, zero points and float16 scales of a weight.  # [N, K], [N, K / group] twice"""
    groups = weight.detach().float().unflatten(1, (-1, group))
    largest, middle = 2**bits - 1, 2 ** (bits - 1)
    if symmetric:
        scales = (groups.abs().amax(-1) / (middle - 1)).half()
        zeros = torch.full_like(scales, middle).int()
    else:
        low, high = groups.amin(-1).clamp(max=0), groups.amax(-1).clamp(min=0)
        scales = ((high - low) / largest).half()
        zeros = (-low / scales.float()).round().clamp(1, largest).int()  # GPTQ's first form has no 0
    numbers = ((groups / scales.float()[..., None]).round() + zeros[..., None]).clamp(0, largest).int()
    return numbers.flatten(1), zeros, scales


def dequantized(numbers, zeros, scales, dtype):
    """(number - zero point) * scale, in a dtype.  # [N, K]"""
    group = numbers.shape[1] // scales.shape[1]
    differences = (numbers - zeros.repeat_interleave(group, 1)).to(dtype)
    return differences * scales.to(dtype).repeat_interleave(group, 1)


def words(numbers, bits=4, order=range(8)):
    """Of rows of numbers, `32 / bits` a word: number order[i] of it in its bits from i * bits on.  # [R, C] -> int32 [R, C * bits / 32]"""
    each = 32 // bits
    numbers = np.pad(numbers.numpy(), ((0, 0), (0, -numbers.shape[1] % each))).astype(np.uint32)
    packed = np.zeros((len(numbers), numbers.shape[1] // each), dtype=np.uint32)
    for word in range(packed.shape[1]):
        for i, place in zip(range(each), order, strict=False):
            packed[:, word] |= numbers[:, word * each + place] << np.uint32(bits * i)
    return torch.from_numpy(packed.view(np.int32))


def tensors(kind, numbers, zeros, scales):
    """A linear's tensors by name."""
    outs, ins = numbers.shape
    if kind == "awq":
        return {"qweight": words(numbers.t(), 4, ORDER), "qzeros": words(zeros.t(), 4, ORDER), "scales": scales.t()}
    if kind.startswith("gptq"):
        kept = zeros if kind == "gptq_v2" else zeros - 1
        index = torch.arange(ins, dtype=torch.int32) // (ins // scales.shape[1])
        return {"qweight": words(numbers.t().t()).t(), "qzeros": words(kept.t()), "scales": scales.t(), "g_idx": index}
    bits = 8 if kind == "8 bits" else 4
    found = {"weight_packed": words(numbers, bits), "weight_scale": scales, "weight_shape": torch.tensor([outs, ins])}
    return found | ({"weight_zero_point": words(zeros.t()).t()} if kind == "compressed asym" else {})


def save(model, folder, kind, group=32, left=(), *, head=False, desc_act=False):
    """Saves a model as a checkpoint of a kind.

    Args:
        model: of transformers, in float32.
        folder: made where it is not there.
        kind: of KINDS.
        group: of inputs.
        left: names of linears that stay as they are.
        head: it is packed, too.
        desc_act: GPTQ's inputs are grouped in an order of their own.

    Returns:
        the model with the numbers that the checkpoint stands for
    """
    stands_for, packed = copy.deepcopy(model), {k: v for k, v in model.state_dict().items() if k != "lm_head.weight"}
    if not model.config.tie_word_embeddings:
        packed["lm_head.weight"] = model.lm_head.weight.data
    asked = config(kind, group)
    for name, module in stands_for.named_modules():
        if not isinstance(module, nn.Linear) or (name == "lm_head" and not head) or name in left:
            continue
        channel, bits = kind in {"compressed channel", "8 bits"}, 8 if kind == "8 bits" else 4
        symmetric = kind not in {"awq", "gptq", "gptq_v2", "compressed asym"}
        order = torch.randperm(module.in_features) if desc_act else torch.arange(module.in_features)
        found = rounded(module.weight[:, order], module.in_features if channel else group, bits, symmetric=symmetric)
        module.weight.data[:, order] = dequantized(*found, torch.float32)
        del packed[f"{name}.weight"]
        own = tensors(kind, found[0][:, order.argsort()], *found[1:])
        if desc_act:
            own["g_idx"] = own["g_idx"][order.argsort()]
        packed |= {f"{name}.{key}": tensor for key, tensor in own.items()}
    model.config.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)
    save_file({name: tensor.contiguous() for name, tensor in packed.items()}, folder / "model.safetensors", metadata={"format": "pt"})  # fmt: skip
    change(folder, asked)
    return stands_for


def change(folder, changes):
    """Of the quantization_config of a folder."""
    plain = json.loads((folder / "config.json").read_text())
    plain["quantization_config"] = plain.get("quantization_config", {}) | changes
    (folder / "config.json").write_text(json.dumps(plain))
