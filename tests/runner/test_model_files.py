import json
import shutil

import pytest

from specbatch.errors import ModelError
from specbatch.runner.model_files import find_model


def find(model, revision=None, *, trusted=False, env=None):
    return find_model(str(model), revision, trust_remote_code=trusted, env=env or {}, where="spec.target.model")


def test_local_folder_is_itself(pair):
    files = find(pair[0])
    assert (files.path, files.revision) == (pair[0], None)
    assert files.has_tokenizer


def test_other_weights_in_the_same_folder_are_another_model(pair, tmp_path):
    shutil.copytree(pair[0], tmp_path / "m")
    before = find(tmp_path / "m").identity
    assert find(tmp_path / "m").identity == before
    weights = tmp_path / "m" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
    assert find(tmp_path / "m").identity != before


def test_hub_snapshot_in_the_cache_needs_no_network_and_tells_its_commit(pair, tmp_path):
    repository = tmp_path / "models--org--name"
    snapshot = repository / "snapshots" / "abc123"
    shutil.copytree(pair[0], snapshot)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc123")
    files = find("org/name", env={"HF_HUB_CACHE": str(tmp_path)})
    assert (files.path, files.revision, files.identity) == (snapshot, "abc123", "org/name@abc123")


def test_model_that_is_not_here_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="remedy") as caught:
        find("org/not-here", env={"HF_HUB_CACHE": str(tmp_path)})
    assert caught.value.exit_code == 66


@pytest.mark.parametrize(
    ("error", "remedy"),
    [("GatedRepoError", "licence"), ("RepositoryNotFoundError", "check the name"), ("OSError", "cache")],
)
def test_refusal_of_the_hub_becomes_a_remedy(monkeypatch, tmp_path, error, remedy):
    def refuse(*arguments, **options):
        raise type(error, (Exception,), {})("403 or so")

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    with pytest.raises(ModelError, match="403") as caught:
        find("org/name", env={"HF_HUB_CACHE": str(tmp_path)})
    assert remedy in caught.value.remedy


def test_code_of_a_trusted_model_is_downloaded_too(monkeypatch, tmp_path, pair):
    wanted = []

    def download(model, *, revision, allow_patterns):
        wanted.extend(allow_patterns)
        return str(pair[0])

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    find("org/name", trusted=True, env={"HF_HUB_CACHE": str(tmp_path)})
    assert "*.py" in wanted
    wanted.clear()
    find("org/name", env={"HF_HUB_CACHE": str(tmp_path)})
    assert wanted
    assert not any(pattern in {"*.py", "*.bin", "*.pt"} for pattern in wanted)


def test_pickled_weights_are_refused(pair, tmp_path):
    shutil.copy(pair[0] / "config.json", tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(ModelError, match="pickled") as caught:
        find(tmp_path)
    assert "safetensors" in caught.value.remedy
    (tmp_path / "pytorch_model.bin").unlink()
    with pytest.raises(ModelError, match="holds no weights"):
        find(tmp_path)


def test_a_cached_snapshot_that_lacks_a_shard_is_completed_from_the_hub(pair, tmp_path, monkeypatch):
    snapshot = tmp_path / "models--org--name" / "snapshots" / "abc123"
    shutil.copytree(pair[0], snapshot)
    (snapshot / "model.safetensors").unlink()
    (snapshot / "model.safetensors.index.json").write_text('{"weight_map": {"a": "1.safetensors"}}')
    asked = []

    def download(model, **options):
        asked.append(model)
        return str(snapshot)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    with pytest.raises(ModelError, match=r"1.safetensors is not there"):
        find("org/name", "abc123", env={"HF_HUB_CACHE": str(tmp_path)})
    assert asked == ["org/name"]


def test_code_of_a_model_is_refused_unless_the_spec_trusts_it(pair, tmp_path):
    shutil.copytree(pair[0], tmp_path / "m")
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    config |= {"auto_map": {"AutoModelForCausalLM": "modeling.Mine"}, "model_type": "mine"}
    (tmp_path / "m" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="trustRemoteCode"):
        find(tmp_path / "m")
    assert find(tmp_path / "m", trusted=True).path == tmp_path / "m"
    config["model_type"] = "qwen3"  # transformers' own code is taken then
    (tmp_path / "m" / "config.json").write_text(json.dumps(config))
    assert find(tmp_path / "m").path == tmp_path / "m"


def test_gguf_file_holds_its_tokenizer(tmp_path):
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    files = find(tmp_path / "m.gguf")
    assert files.path.suffix == ".gguf"
    assert files.has_tokenizer


def test_positions_come_from_the_config(pair, tmp_path):
    assert find(pair[0]).max_positions == 512
    shutil.copytree(pair[0], tmp_path / "m")
    (tmp_path / "m" / "config.json").write_text(json.dumps({"text_config": {"max_position_embeddings": 77}}))
    assert find(tmp_path / "m").max_positions == 77
    (tmp_path / "m" / "config.json").write_text("{}")
    assert find(tmp_path / "m").max_positions is None
