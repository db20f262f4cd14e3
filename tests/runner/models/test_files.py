import json
import shutil

import pytest

from specbatch.api.models import TargetSpec
from specbatch.errors import ModelError, OutOfReachError
from specbatch.runner.models.files import find_model
from tests.hub_server import add_repository, model, point_at, serving_hub
from tests.s3 import free_port


def find(model, revision=None, *, trusted=False, env=None):
    asked = TargetSpec(model=str(model), revision=revision, trust_remote_code=trusted)
    return find_model(asked, "target", env=env or {})


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


@pytest.mark.slow
def test_code_of_a_trusted_model_is_downloaded_too(hub, cache):
    add_repository(hub, "models", "org/name", model(**{"modeling.py": b"x"}))
    assert not (find("org/name", env=cache).path / "modeling.py").exists()
    shutil.rmtree(cache["HF_HUB_CACHE"])
    assert (find("org/name", trusted=True, env=cache).path / "modeling.py").is_file()


def test_pickled_weights_are_refused(pair, tmp_path):
    shutil.copy(pair[0] / "config.json", tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(ModelError, match="pickled") as caught:
        find(tmp_path)
    assert "safetensors" in caught.value.remedy
    (tmp_path / "pytorch_model.bin").unlink()
    with pytest.raises(ModelError, match="holds no weights"):
        find(tmp_path)


@pytest.mark.slow
def test_a_cached_snapshot_that_lacks_a_shard_is_completed_from_the_hub(hub, cache):
    weights = find("org/name", env=cache).path / "model.safetensors"
    weights.unlink()
    assert find("org/name", env=cache).path == weights.parent
    assert weights.is_file()


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
    rope = {"rope_type": "dynamic", "factor": 2.0}  # whose max_position_embeddings are those before stretching
    (tmp_path / "m" / "config.json").write_text(json.dumps({"max_position_embeddings": 77, "rope_scaling": rope}))
    assert find(tmp_path / "m").max_positions == 154
    for text in ("{}", '{"text_config": [7], "max_position_embeddings": true}', "[" * 100_000):
        (tmp_path / "m" / "config.json").write_text(text)
        assert find(tmp_path / "m").max_positions is None


@pytest.fixture
def cache(tmp_path):
    return {"HF_HUB_CACHE": str(tmp_path / "hub-cache")}


@pytest.fixture
def hub(monkeypatch, cache):
    """A hub on loopback that knows org/name with one file of weights."""
    with serving_hub({"org/name": model()}) as server:
        point_at(server.url, monkeypatch, cache["HF_HUB_CACHE"])
        yield server


@pytest.fixture
def hurried(monkeypatch):
    monkeypatch.setattr("specbatch.runner.models.files.START_SECONDS", 0.2)
    monkeypatch.setattr("specbatch.runner.hub.errors.ANSWER_SECONDS", 0.2)


@pytest.mark.slow
@pytest.mark.parametrize("trouble", ["reset", 503, 429, ("cut", 10)])
def test_a_hub_that_fails_for_a_moment_is_asked_again(hub, cache, trouble):
    hub.troubles = [trouble]
    files = find("org/name", env=cache)
    assert (files.path / "model.safetensors").is_file()
    assert not hub.troubles


@pytest.mark.slow
@pytest.mark.parametrize("trouble", ["reset", "hang", 500, 503, 429])
def test_a_hub_that_is_down_is_out_of_reach_and_no_missing_model(hub, cache, trouble, hurried):
    hub.always = trouble
    with pytest.raises(OutOfReachError, match="hub cache") as caught:
        find("org/name", env=cache)
    assert caught.value.exit_code == 68


@pytest.mark.slow
def test_a_hub_that_refuses_connections_is_out_of_reach(monkeypatch, cache, hurried):
    point_at(f"http://127.0.0.1:{free_port()}", monkeypatch, cache["HF_HUB_CACHE"])
    with pytest.raises(OutOfReachError, match="refused"):
        find("org/name", env=cache)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_model_that_the_hub_does_not_give_is_missing_at_once(hub, cache, status):
    hub.always = status
    with pytest.raises(ModelError, match="HF_TOKEN"):
        find("org/name", env=cache)
    # Once a day the hub's client also asks for its list of agents.
    assert len([path for _, path, _ in hub.requests if path.startswith("/api/models/")]) == 1
