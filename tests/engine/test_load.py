import pytest
import torch

from specbatch.engine.load import load_causal_lm
from specbatch.errors import ModelError
from tests.engine import tiny


@pytest.fixture
def folder(tmp_path):
    tiny.qwen3().save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


def test_a_folder_of_safetensors_loads_in_the_dtype_asked_for(folder):
    for dtype, expected in (("auto", torch.float32), ("bfloat16", torch.bfloat16)):
        loaded = load_causal_lm(str(folder), device_map={"": "cpu"}, dtype=dtype)
        assert loaded.model.dtype == expected
        assert loaded.name == str(folder)


def test_pickle_weights_are_refused(folder):
    state = tiny.qwen3().state_dict()
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="safetensors"):
        load_causal_lm(str(folder), device_map={"": "cpu"})


@pytest.mark.parametrize("content", [None, b"", b"not safetensors at all"])
def test_missing_or_broken_weights_are_one_clear_error(folder, content):
    weights = folder / "model.safetensors"
    weights.unlink()
    if content is not None:
        weights.write_bytes(content)
    with pytest.raises(ModelError, match="cannot load") as caught:
        load_causal_lm(str(folder), device_map={"": "cpu"}, name="spec.target.model")
    assert caught.value.where == "spec.target.model"
    assert caught.value.remedy


def test_a_folder_that_is_no_model_is_one_clear_error(tmp_path):
    with pytest.raises(ModelError, match="cannot load"):
        load_causal_lm(str(tmp_path), device_map={"": "cpu"})


def test_a_missing_gguf_file_is_one_clear_error(tmp_path):
    with pytest.raises(ModelError, match="cannot load"):
        load_causal_lm(str(tmp_path / "missing.gguf"), device_map={"": "cpu"})
