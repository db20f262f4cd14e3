"""Checkpoints whose linears are quantised, made of small models."""

import json

from safetensors.torch import save_file
from torch import nn

from specbatch.engine.fp8.w8a8 import FP8, LARGEST
from specbatch.engine.quantization.weight import QuantizedWeight

BLOCK_SCALED = {
    "quant_method": "fp8",
    "fmt": "e4m3",
    "activation_scheme": "dynamic",
    "weight_block_size": [128, 128],
}  # as Qwen/Qwen3-8B-FP8 has it


def compressed(strategy="channel", inputs="token", **weights):
    """As llm-compressor writes it."""
    number = {"num_bits": 8, "type": "float", "symmetric": True}
    group = {
        "targets": ["Linear"],
        "weights": {**number, "strategy": strategy, "dynamic": False, **weights},
        "input_activations": inputs and {**number, "strategy": inputs, "dynamic": True},
        "output_activations": None,
    }
    return {
        "quant_method": "compressed-tensors",
        "format": "float-quantized",
        "config_groups": {"group_0": group},
        "ignore": ["lm_head"],
        "kv_cache_scheme": None,
    }


def quantized(weight, block, group=0):
    """A weight in FP8 under the scale of each block.  # [N, K]"""
    rows, columns = min(block[0], len(weight)), min(block[1], weight.shape[1])
    outs, ins = weight.shape
    padded = nn.functional.pad(weight.float(), (0, -ins % columns, 0, -outs % rows))
    blocks = padded.unflatten(1, (-1, columns)).unflatten(0, (-1, rows))
    scales = blocks.abs().amax((1, 3)) / LARGEST
    values = (blocks / scales[:, None, :, None]).flatten(2).flatten(0, 1)[:outs, :ins]
    return QuantizedWeight(values.to(FP8).contiguous(), scales, rows, columns, group)


def save(model, folder, config):
    """Saves a model as a checkpoint of that quantisation."""
    fine = config["quant_method"] == "fp8"
    strategy = None if fine else config["config_groups"]["group_0"]["weights"]["strategy"]
    tensors = dict(model.state_dict())
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and name != "lm_head":
            block = {"channel": (1, module.in_features), "tensor": module.weight.shape}.get(strategy, (128, 128))
            found = quantized(module.weight, block)
            tensors[f"{name}.weight"] = found.values
            scales = found.scales.flatten() if strategy == "tensor" else found.scales
            tensors[f"{name}.weight_scale" + "_inv" * fine] = scales.bfloat16() if fine else scales
    if model.config.tie_word_embeddings:
        del tensors["lm_head.weight"]
    model.config.save_pretrained(folder)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors", metadata={"format": "pt"})  # fmt: skip
    plain = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(plain | {"quantization_config": config}))
    return folder
