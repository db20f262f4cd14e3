"""Weight files as people bring them: looked at by name, size and header."""

import json
import struct

import pytest

from specbatch.errors import ModelError
from specbatch.plan.shapes.model_dir import resolve_model_dir
from specbatch.plan.shapes.read_shape import read_shape
from specbatch.plan.shapes.weight_files import check_weight_files, is_complete
from tests.plan.builders import config


def safetensors(numbers: int = 4) -> bytes:
    """A file of one float32 tensor."""
    part = {"dtype": "F32", "shape": [numbers], "data_offsets": [0, 4 * numbers]}
    header = json.dumps({"__metadata__": {"format": "pt"}, "w": part}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(4 * numbers)


WHOLE = safetensors()
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 123\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(config("qwen3-0.6b")))
    (tmp_path / "model.safetensors").write_bytes(WHOLE)
    return tmp_path


def shard(folder, *present):
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    for name in present:
        (folder / name).write_bytes(WHOLE)


def test_whole_weights_pass_in_one_file_and_in_shards(folder):
    check_weight_files(folder, "m")
    shard(folder, "model-1.safetensors", "model-2.safetensors")
    check_weight_files(folder, "m")
    assert is_complete(folder)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "model.safetensors is empty"),
        (LFS, "is a Git LFS pointer"),
        (b"PK\x03\x04 nothing like it at all", "is not safetensors"),
        (WHOLE[:6], "is not safetensors, or its header is cut off"),
        (WHOLE[:40], "header is cut off"),
        (WHOLE[:-1], r"is cut off: \d+ bytes, and its header speaks of \d+"),
        (struct.pack("<Q", 1 << 60) + WHOLE[8:], "is not safetensors"),
        (struct.pack("<Q", 2) + b"[]", "header that cannot be read"),
        (struct.pack("<Q", 14) + b'{"w": {"x":1}}', "header that cannot be read"),
        (struct.pack("<Q", 20000) + b"[" * 20000, "header that cannot be read"),
        (struct.pack("<Q", 29) + b'{"w":{"data_offsets":[0,"b"]}}'[:29], "header that cannot be read"),
    ],
)
def test_a_file_that_is_no_whole_weights_is_refused_by_name_before_it_is_read(folder, content, words):
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match=words) as caught:
        check_weight_files(folder, "m")
    assert "download it again" in caught.value.remedy
    with pytest.raises(ModelError, match=words):
        read_shape(str(folder))


def test_absent_shards_are_counted_and_the_first_is_named(folder):
    shard(folder, "model-1.safetensors")
    with pytest.raises(ModelError, match=r"lists 2 files of weights, and model-2.safetensors is not there"):
        check_weight_files(folder, "m")
    assert not is_complete(folder)
    (folder / "model-1.safetensors").unlink()
    with pytest.raises(ModelError, match=r"model-1.safetensors and 1 more is not there"):
        check_weight_files(folder, "m")


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"weight_map": {"a": 3}}'])
def test_an_index_that_says_nothing_is_refused(folder, text):
    shard(folder)
    (folder / "model.safetensors.index.json").write_text(text)
    with pytest.raises(ModelError, match=r"index.json cannot be read, or lists no weights"):
        check_weight_files(folder, "m")


def test_weights_under_a_name_that_would_not_be_read_are_refused(folder):
    (folder / "model.safetensors").rename(folder / "mine.safetensors")
    with pytest.raises(ModelError, match=r"holds mine.safetensors, but neither model.safetensors nor model"):
        check_weight_files(folder, "m")


def test_weights_that_the_config_names_are_those(folder):
    (folder / "model.safetensors").rename(folder / "mine.safetensors")
    (folder / "config.json").write_text(json.dumps({"transformers_weights": "mine.safetensors"}))
    check_weight_files(folder, "m")


@pytest.mark.parametrize("weights", [True, False])
def test_a_lora_adapter_is_told_how_to_be_merged(folder, weights):
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "Qwen/Qwen3-8B"}')
    (folder / "adapter_model.safetensors").write_bytes(WHOLE)
    if not weights:
        (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"LoRA adapter.* of Qwen/Qwen3-8B") as caught:
        check_weight_files(folder, "m")
    assert "merge_and_unload" in caught.value.remedy


def test_a_folder_of_an_adapter_alone_is_no_unknown_folder(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match="a LoRA adapter, and not a model"):
        resolve_model_dir(str(tmp_path))


@pytest.mark.parametrize(("content", "words"), [(b"", "is empty"), (LFS, "Git LFS pointer")])
def test_a_gguf_file_that_holds_nothing_is_refused(tmp_path, content, words):
    (tmp_path / "m.gguf").write_bytes(content)
    with pytest.raises(ModelError, match=words):
        check_weight_files(tmp_path / "m.gguf", "m")


def test_a_hub_cache_that_holds_the_config_alone_can_be_planned(folder):
    snapshot = folder / "models--a--b" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text((folder / "config.json").read_text())
    assert not is_complete(snapshot)
    assert read_shape("a/b", "abc", env={"HF_HUB_CACHE": str(folder)}).num_layers == 28


@pytest.mark.parametrize("kind", ["LlamaForCausalLMEagle3", "Eagle3LlamaForCausalLM", "EagleModel", "MedusaModel"])
def test_a_config_of_a_drafting_head_is_refused_by_name(folder, kind):
    (folder / "config.json").write_text(json.dumps(config("qwen3-0.6b") | {"architectures": [kind]}))
    with pytest.raises(ModelError, match="EAGLE or Medusa head"):
        read_shape(str(folder))
