"""Checkpoints loaded as they are stored."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Qwen3Config, Qwen3ForCausalLM

from specbatch.engine.fp8.inputs import inputs_as_they_are
from specbatch.engine.fp8.w8a8 import FP8
from specbatch.engine.graphs.describe import check
from specbatch.engine.graphs.describe.describe import describe
from specbatch.engine.graphs.describe.modules import modules_of
from specbatch.engine.graphs.packing import pack_layer
from specbatch.engine.loading.load import load_causal_lm
from specbatch.engine.quantization.linears import QuantizedLinear
from specbatch.engine.quantization.weight import multiply
from specbatch.errors import ModelError
from tests.engine.fp8 import checkpoints

SCHEMES = {
    "blocks": checkpoints.BLOCK_SCALED,
    "channels": checkpoints.compressed(),
    "tensors": checkpoints.compressed("tensor"),
    "weights alone": checkpoints.compressed(inputs=None),
}


def model():
    """A Qwen3 whose keys are half a block wide, and whose halves of gate and up are two blocks and a half."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 256, "intermediate_size": 320, "num_hidden_layers": 2, "vocab_size": 64}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "tie_word_embeddings": False}
    return Qwen3ForCausalLM(Qwen3Config(**sizes, **heads, initializer_range=0.1)).eval()


@pytest.fixture(params=SCHEMES)
def folder(request, tmp_path):
    return checkpoints.save(model(), tmp_path, SCHEMES[request.param])


def load(folder, **arguments):
    return load_causal_lm(str(folder), device_map={"": "cpu"}, **arguments)


def test_linears_stay_as_stored_and_the_rest_as_asked_for(folder):
    loaded = load(folder, dtype="bfloat16")
    stored = load_file(folder / "model.safetensors")
    linears = {name: module for name, module in loaded.model.named_modules() if isinstance(module, QuantizedLinear)}
    assert len(linears) == 2 * 7
    for name, module in linears.items():
        assert module.values.dtype == FP8
        assert torch.equal(module.values.view(torch.uint8), stored[f"{name}.weight"].view(torch.uint8))
        scales = next(
            stored[f"{name}.{key}"] for key in ("weight_scale", "weight_scale_inv") if f"{name}.{key}" in stored
        )
        assert torch.equal(module.scales.flatten(), scales.float().expand(len(module.scales), -1).flatten())
    assert loaded.model.dtype == torch.bfloat16
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {torch.bfloat16}


def test_it_fits_the_fast_path_whose_joined_weights_are_the_parts(folder):
    loaded = load(folder)
    assert check.why_not(loaded) is None
    layer = modules_of(loaded.model.model.layers[1], 1)
    parts = [part.weight.dense(torch.float32) for part in layer.linears]
    packed = pack_layer(layer, describe(loaded.model, 64).layers[1])
    joined = [weight.dense(torch.float32) for weight in (packed.qkv, packed.o, packed.gate_up, packed.down)]
    assert torch.equal(torch.cat([weight.flatten() for weight in joined]), torch.cat([p.flatten() for p in parts]))
    assert packed.gate_up.shape[0] // 2 % packed.gate_up.rows == 0
    x = torch.randn(3, 256, generator=torch.Generator().manual_seed(1))
    expected = torch.cat([part(x) for part in layer.qkv], dim=-1)
    assert torch.allclose(multiply(x, packed.qkv), expected, atol=1e-5)


def test_rounding_of_inputs_can_be_left_out_and_comes_back(folder):
    loaded = load(folder)
    linears = [module for module in loaded.model.modules() if isinstance(module, QuantizedLinear)]
    before = [module.group for module in linears]
    with inputs_as_they_are(loaded.model):
        assert not any(module.group for module in linears)
        x = torch.randn(2, 256, generator=torch.Generator().manual_seed(1))
        assert torch.allclose(linears[0](x), x @ linears[0].weight.dense(torch.float32).t(), atol=1e-5)
    assert [module.group for module in linears] == before


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda tensors, name: tensors.pop(f"{name}.weight_scale_inv"), "missing"),
        (lambda tensors, name: tensors[f"{name}.weight"].view(torch.uint8)[0].fill_(0x7F), "numbers of .* are not finite in float8_e4m3fn"),
        (lambda tensors, name: tensors[f"{name}.weight_scale_inv"].fill_(torch.inf), "not finite"),
        (lambda tensors, name: tensors.update({f"{name}.weight_scale_inv": torch.ones(1, 1)}), "another shape"),
    ],
    ids=["no scale", "a NaN", "an infinite scale", "a scale of another shape"],
)  # fmt: skip
def test_a_spoilt_checkpoint_is_one_clear_error(tmp_path, spoil, said):
    folder = checkpoints.save(model(), tmp_path, checkpoints.BLOCK_SCALED)
    tensors = load_file(folder / "model.safetensors")
    spoil(tensors, "model.layers.1.mlp.down_proj")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=said):
        load(folder)


def test_what_the_checkpoint_does_not_quantise_stays_a_linear(tmp_path):
    folder = checkpoints.save(model(), tmp_path, checkpoints.BLOCK_SCALED)
    tensors = load_file(folder / "model.safetensors")
    name = "model.layers.1.mlp.down_proj"
    tensors[f"{name}.weight"] = tensors[f"{name}.weight"].float()
    del tensors[f"{name}.weight_scale_inv"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    plain = json.loads((folder / "config.json").read_text())
    plain["quantization_config"]["modules_to_not_convert"] = ["lm_head", name]
    (folder / "config.json").write_text(json.dumps(plain))
    loaded = load(folder)
    assert isinstance(loaded.model.get_submodule(name), torch.nn.Linear)
    assert check.why_not(loaded) is None
