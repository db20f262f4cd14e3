"""A model brought from a hub: a real server on loopback, the real client."""

import errno
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from specbatch.errors import ModelError, OutOfReachError, ResultsError
from specbatch.plan.shapes.hub_model import HubModel
from specbatch.plan.shapes.model_dir import resolve_model_dir
from specbatch.runner.hub.blob import PARTIAL
from specbatch.runner.hub.fetch import fetch_model
from specbatch.runner.hub.progress import Progress
from tests.hub_server import COMMIT, add_repository, model, point_at, serving_hub, weights
from tests.s3 import free_port

NAME = "org/name"
MODEL = HubModel(NAME)
WEIGHTS = f"/{NAME}/resolve/{COMMIT}/model.safetensors"


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def hub(monkeypatch, cache):
    with serving_hub({NAME: model()}) as server:
        point_at(server.url, monkeypatch, cache)
        yield server


def fetch(asked=MODEL, **options):
    lines = []
    return fetch_model(asked, progress=Progress(lines.append, every=0), **{"seconds": 0.2, **options}), lines


def bytes_asked(hub):
    """The Range of each request for the weights."""
    return [asked for method, path, asked in hub.requests if (method, path) == ("GET", WEIGHTS)]


@pytest.mark.slow
def test_only_what_a_run_needs_is_downloaded_and_found_by_a_run(hub, cache):
    extra = ("pytorch_model.bin", "onnx/model.onnx", "onnx/config.json", "m.gguf", "consolidated.safetensors", "README.md")  # fmt: skip
    templates = {"additional_chat_templates/rag.jinja": b"x", "modeling.py": b"x", "tokenizer.json": b"{}"}
    add_repository(hub, "models", NAME, model(**dict.fromkeys(extra, b"x"), **templates))
    done, _ = fetch()
    found = sorted(str(path.relative_to(done.path)) for path in done.path.rglob("*") if path.is_file())
    assert found == ["additional_chat_templates/rag.jinja", "config.json", "model.safetensors", "tokenizer.json"]
    assert (done.commit, done.files) == (COMMIT, 4)
    assert done.size == sum((done.path / name).stat().st_size for name in found)
    assert resolve_model_dir(NAME, None, {"HF_HUB_CACHE": str(cache)}) == done.path
    assert (fetch(HubModel(NAME, code=True))[0].path / "modeling.py").is_file()


@pytest.mark.slow
def test_shards_are_those_of_the_index(hub):
    index = b'{"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}'
    shards = {"one.safetensors": weights(10, "a"), "two.safetensors": weights(20, "b"), "three.safetensors": weights(5)}
    files = model(**{"model.safetensors": None, "model.safetensors.index.json": index}, **shards)
    add_repository(hub, "models", NAME, files)
    path = fetch()[0].path
    assert sorted(file.name for file in path.glob("*.safetensors")) == ["one.safetensors", "two.safetensors"]
    del files["two.safetensors"]
    add_repository(hub, "models", NAME, files)
    with pytest.raises(ModelError, match=r"two\.safetensors, which the repository does not hold"):
        fetch()


@pytest.mark.slow
def test_a_model_that_is_here_is_checked_and_not_downloaded_again(hub):
    fetch()
    hub.requests.clear()
    fetch()
    assert not bytes_asked(hub)


@pytest.mark.slow
def test_a_file_that_was_damaged_here_is_downloaded_again(hub):
    file = fetch()[0].path / "model.safetensors"
    content = file.read_bytes()
    file.resolve().write_bytes(content[:-1] + b"!")
    assert fetch()[0].path / "model.safetensors" == file
    assert file.read_bytes() == content


@pytest.mark.slow
def test_a_lost_connection_goes_on_at_the_byte_that_it_had_reached(hub):
    hub.troubles = [None, None, ("cut", 50_000), ("cut", 60_000)]
    done, _ = fetch()
    assert [int(asked.removeprefix("bytes=").rstrip("-")) > 0 for asked in bytes_asked(hub)] == [False, True, True]
    assert (done.path / "model.safetensors").read_bytes() == weights()
    assert hub.bytes_sent < 2 * len(weights())


@pytest.mark.slow
def test_a_server_without_ranges_is_read_from_the_start(hub):
    hub.ranges = False
    hub.troubles = [None, None, ("cut", 50_000)]
    assert (fetch()[0].path / "model.safetensors").read_bytes() == weights()


@pytest.mark.slow
def test_what_is_here_of_an_interrupted_download_is_kept(hub, cache):
    hub.troubles, hub.always = [None, None, ("cut", 50_000)], 503
    with pytest.raises(OutOfReachError, match="503"):
        fetch()
    [partial] = cache.rglob(f"*{PARTIAL}")
    assert partial.read_bytes() == weights()[:50_000]
    hub.always = None
    hub.requests.clear()
    fetch()
    assert bytes_asked(hub) == ["bytes=50000-"]
    assert not list(cache.rglob(f"*{PARTIAL}"))


def test_a_mirror_that_sends_other_bytes_is_found_out(hub, cache):
    hub.files[WEIGHTS] = b"!" + weights()[1:]
    with pytest.raises(OutOfReachError, match="arrives damaged") as caught:
        fetch()
    assert "HF_ENDPOINT" in caught.value.remedy
    assert not list(cache.rglob("snapshots/*/model.safetensors"))


@pytest.mark.slow
def test_a_folder_of_ones_own_is_filled(hub, tmp_path, cache):
    done, _ = fetch(to=tmp_path / "here")
    assert done.path == tmp_path / "here"
    assert not (tmp_path / "here/model.safetensors").is_symlink()
    assert (tmp_path / "here/model.safetensors").read_bytes() == weights()
    hub.requests.clear()
    fetch(to=tmp_path / "here")
    assert not bytes_asked(hub)


@pytest.mark.slow
def test_a_gguf_file_is_fetched_where_it_is_named(hub, tmp_path):
    add_repository(hub, "models", NAME, {"m-Q4.gguf": b"GGUF", "m-Q8.gguf": b"GGUF"})
    with pytest.raises(ModelError, match="holds GGUF files") as caught:
        fetch()
    assert "--include m-Q4.gguf" in caught.value.remedy
    path = fetch(HubModel(NAME, include=("*Q4.gguf",)), to=tmp_path / "gguf")[0].path
    assert [file.name for file in path.glob("*.gguf")] == ["m-Q4.gguf"]
    with pytest.raises(ModelError, match=r"no file of the repository matches \*Q2\*"):
        fetch(HubModel(NAME, include=("*Q2*",)))


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"pytorch_model.bin": b"x"}, "its weights are pickled"),
        ({"README.md": b"x"}, "the repository holds no weights"),
    ],
)
def test_a_repository_without_weights_is_refused_before_anything_is_downloaded(hub, cache, files, sentence):
    add_repository(hub, "models", NAME, {"config.json": b"{}", **files})
    with pytest.raises(ModelError, match=sentence):
        fetch()
    assert not list(cache.rglob("snapshots/*/*"))


@pytest.mark.parametrize(
    ("status", "code", "remedy"),
    [(404, "", "check the name"), (401, "RepoNotFound", "HF_TOKEN"), (403, "GatedRepo", "accept the model's licence")],
)
def test_a_model_that_the_hub_does_not_give_is_66(hub, status, code, remedy):
    hub.always = status
    hub.error_headers = {"X-Error-Code": code, "X-Error-Message": "no"}
    with pytest.raises(ModelError, match=r"\S") as caught:
        fetch()
    assert remedy in caught.value.remedy


@pytest.mark.slow
def test_offline_a_complete_model_will_do_and_another_is_66(hub, monkeypatch):
    path = fetch()[0].path
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    hub.requests.clear()
    assert fetch()[0].path == path
    assert not hub.requests
    (path / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE=1 forbids") as caught:
        fetch()
    assert "unset HF_HUB_OFFLINE" in caught.value.remedy


def test_a_file_in_place_of_the_folder_is_74(hub, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ResultsError, match=r"File exists|Not a directory") as caught:
        fetch(to=tmp_path / "file")
    assert "name a folder" in caught.value.remedy


def test_a_full_disk_is_told_before_the_download(hub, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=1000))
    with pytest.raises(ResultsError, match="too full: 200 kB are missing") as caught:
        fetch()
    assert caught.value.exit_code == 74
    assert not bytes_asked(hub)


def test_a_place_that_may_not_be_written_is_74(hub, monkeypatch):
    def refuse(path, flags, mode):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("specbatch.runner.hub.blob.os.open", refuse)
    with pytest.raises(ResultsError, match="Read-only file system") as caught:
        fetch()
    assert "fsGroup" in caught.value.remedy


@pytest.mark.slow
def test_a_hub_that_is_down_is_68(monkeypatch, cache):
    point_at(f"http://127.0.0.1:{free_port()}", monkeypatch, cache)
    with pytest.raises(OutOfReachError, match="refused"):
        fetch()


@pytest.mark.slow
def test_progress_says_how_far_it_is(hub):
    _, lines = fetch()
    assert lines[-1].startswith("org/name: 200 kB of 200 kB, ")


@pytest.mark.slow
def test_a_fetch_that_is_stopped_ends_with_75_and_the_next_goes_on(hub, tmp_path):
    big = weights(40 << 20)
    add_repository(hub, "models", NAME, model(**{"model.safetensors": big}))
    hub.bytes_per_second = 8 << 20
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(tmp_path / "c"), "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, "-m", "specbatch", "fetch", NAME]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 60
    while not any(part.stat().st_size > 2 << 20 for part in tmp_path.rglob(f"*{PARTIAL}")):
        assert time.monotonic() < until
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 75, said
    assert "goes on from there" in said
    hub.bytes_per_second = None
    hub.requests.clear()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    [asked] = bytes_asked(hub)
    assert int(asked.removeprefix("bytes=").rstrip("-")) > 2 << 20
