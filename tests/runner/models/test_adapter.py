import json

import pytest
import torch
from safetensors.torch import save_file

from specbatch.errors import ModelError
from specbatch.runner.models.adapter import find_adapter


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 4}))
    save_file({"a": torch.zeros(4, 2)}, tmp_path / "adapter_model.safetensors")
    return tmp_path


def test_an_adapter_is_found_with_its_rank(folder):
    assert find_adapter(str(folder)).rank == 4


@pytest.mark.parametrize("content", [b"", b"\xff" * 100, None])
def test_damaged_weights_are_refused_by_name_before_anything_is_loaded(folder, content):
    file = folder / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-3] if content is None else content)
    with pytest.raises(ModelError, match=r"adapter_model\.safetensors cannot be read") as caught:
        find_adapter(str(folder))
    assert caught.value.where == f"spec.target.adapter {folder}"
