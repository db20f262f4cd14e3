import json

import pytest

from specbatch.errors import ModelError
from specbatch.plan.shapes.model_dir import hub_cache, resolve_model_dir
from specbatch.plan.shapes.read_shape import read_shape, shape_in
from tests.plan.builders import config

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path):
    """A hub cache with Acme/Tiny at COMMIT, on its main branch."""
    repository = tmp_path / "hub" / "models--Acme--Tiny"
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text(json.dumps(config("qwen3-0.6b")))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    return {"HF_HOME": str(tmp_path)}, snapshot


def write_gguf(path, *, tied=True, kind="qwen3", block=1):
    gguf = pytest.importorskip("gguf")
    import numpy as np

    writer = gguf.GGUFWriter(str(path), kind)
    writer.add_block_count(2)
    writer.add_embedding_length(64)
    writer.add_feed_forward_length(96)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_key_length(32)
    writer.add_context_length(512)
    writer.add_tensor("token_embd.weight", np.zeros((300, 64), dtype=np.float16))
    writer.add_tensor(f"blk.{block}.attn_norm.weight", np.zeros(64, dtype=np.float32))
    if not tied:
        writer.add_tensor("output.weight", np.zeros((300, 64), dtype=np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_branch_a_commit_and_no_revision_find_the_same_snapshot(cache):
    env, snapshot = cache
    assert resolve_model_dir("Acme/Tiny", None, env) == snapshot
    assert resolve_model_dir("Acme/Tiny", "main", env) == snapshot
    assert resolve_model_dir("Acme/Tiny", COMMIT, env) == snapshot


def test_a_revision_or_model_that_is_not_cached_must_be_downloaded(cache):
    env, _ = cache
    assert resolve_model_dir("Acme/Tiny", "v2", env) is None
    assert resolve_model_dir("Acme/Other", None, env) is None


@pytest.mark.parametrize(
    ("env", "folder"),
    [
        ({"HF_HUB_CACHE": "/a", "HF_HOME": "/b"}, "/a"),
        ({"HF_HOME": "/b", "XDG_CACHE_HOME": "/c"}, "/b/hub"),
        ({"XDG_CACHE_HOME": "/c"}, "/c/huggingface/hub"),
    ],
)
def test_the_cache_folder_follows_the_hubs_variables(env, folder):
    assert str(hub_cache(env)) == folder


def test_a_folder_with_a_config_is_the_model(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(config("qwen3-0.6b")))
    assert resolve_model_dir(str(tmp_path)) == tmp_path
    assert read_shape(str(tmp_path)).source == str(tmp_path / "config.json")


@pytest.mark.parametrize("model", ["/no/such/folder", "./no-such", "../no-such", "no/such/deep/folder", "m.gguf"])
def test_a_path_that_is_not_there_names_where_it_was_looked_for(model):
    with pytest.raises(ModelError, match="looked for /"):
        resolve_model_dir(model)


def test_an_empty_folder_is_no_model(tmp_path):
    with pytest.raises(ModelError, match=r"neither a config\.json nor a \.gguf"):
        resolve_model_dir(str(tmp_path))


@pytest.mark.parametrize("name", ["embedded:nothing", "embedded:../plan", "embedded:"])
def test_an_embedded_model_that_does_not_exist_lists_those_that_do(name):
    with pytest.raises(ModelError, match="there are: "):
        resolve_model_dir(name)


def test_a_hub_model_that_is_not_here_says_what_was_looked_for(cache):
    env, _ = cache
    with pytest.raises(ModelError, match=r"no snapshot of main in .*hub.*\n.*hf download Acme/Other config\.json"):
        read_shape("Acme/Other", None, "auto", env)


def test_a_well_known_model_needs_no_files_and_says_so(cache):
    env, _ = cache
    known = read_shape("Qwen/Qwen3-8B", None, "bfloat16", env)
    assert "built-in" in known.source
    assert known.num_layers == 36


def test_a_snapshot_wins_over_the_built_in_shape(cache):
    env, snapshot = cache
    snapshot.parents[2].joinpath("models--Acme--Tiny").rename(snapshot.parents[2] / "models--Qwen--Qwen3-8B")
    assert read_shape("Qwen/Qwen3-8B", None, "auto", env).num_layers == 28


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_broken_config_is_a_model_error(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ModelError, match="download"):
        shape_in(tmp_path, "m")


@pytest.mark.parametrize("tied", [True, False])
def test_a_gguf_header_gives_the_shape(tmp_path, tied):
    file = write_gguf(tmp_path / "m.gguf", tied=tied)
    model = read_shape(str(file))
    assert (model.num_layers, model.hidden_size, model.num_kv_heads, model.head_dim) == (2, 64, 2, 32)
    assert (model.vocab_size, model.tied, model.architecture, model.dtype_bytes) == (300, tied, "qwen3", 4)


def test_a_folder_with_one_gguf_file_is_that_file(tmp_path):
    file = write_gguf(tmp_path / "m.gguf")
    assert resolve_model_dir(str(tmp_path)) == file


def test_safetensors_win_over_a_gguf_file_beside_them(tmp_path):
    (tmp_path / "m.gguf").touch()
    (tmp_path / "model.safetensors").touch()
    (tmp_path / "config.json").touch()
    assert resolve_model_dir(str(tmp_path)) == tmp_path


def test_several_gguf_files_must_be_told_apart(tmp_path):
    (tmp_path / "a.gguf").touch()
    (tmp_path / "b.gguf").touch()
    with pytest.raises(ModelError, match=r"2 GGUF files: a\.gguf, b\.gguf"):
        resolve_model_dir(str(tmp_path))


def test_a_file_that_is_not_gguf_is_a_model_error(tmp_path):
    pytest.importorskip("gguf")
    file = tmp_path / "m.gguf"
    file.write_bytes(b"not gguf at all, but long enough to have a header" * 4)
    with pytest.raises(ModelError, match="not a GGUF file"):
        read_shape(str(file))


def test_blocks_beyond_the_headers_count_are_refused(tmp_path):
    file = write_gguf(tmp_path / "m.gguf", block=2)
    with pytest.raises(ModelError, match=r"says 2 layers \(block_count\), and there are tensors of 3"):
        read_shape(str(file))
